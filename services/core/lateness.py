"""When a period could first have been known: not before the last of what came in late for it.

A period that has closed is known a publish lag later. What comes in after that, while the store is
live, was not known then: an event of last week that arrives today makes last week's vector one that
is known from today on. What a store held before it was first published counts as history: it is
known as if it had come in time.
"""

from datetime import datetime

import polars as pl

from services.core.instants import TIME
from services.core.schema import (
    EVENT_TIME,
    INGEST_TIME,
    ITEM_ID,
    PERIOD_END,
    PERIOD_START,
    UPDATED_TIME,
    USER_ID,
    Granularity,
)

ARRIVED_TIME = "arrived_time"
# Polars' weeks begin on Monday, as ours do.
_SPANS = {Granularity.DAY: "1d", Granularity.WEEK: "1w", Granularity.MONTH: "1mo"}


NOTHING_LATE = pl.DataFrame(
    schema={
        USER_ID: pl.String(),
        PERIOD_START: TIME,
        ARRIVED_TIME: TIME,
    }
)


def late_arrivals(
    events: pl.DataFrame, items: pl.DataFrame, granularity: Granularity, since: datetime
) -> pl.DataFrame:
    """Return user_id, period_start and arrived_time: the last instant at which what came late came in.

    Periods of which nothing came late are left out.

    Args:
        events: of the users, with event_time and ingest_time.
        items: every item version, with updated_time and ingest_time.
        granularity: length of the periods.
        since: from when on the store is live; what came in until then is history.
    """
    span = _SPANS[granularity]
    start = pl.col(EVENT_TIME).dt.truncate(span)
    placed = events.select(
        USER_ID,
        ITEM_ID,
        INGEST_TIME,
        start.alias(PERIOD_START),
        start.dt.offset_by(span).alias(PERIOD_END),
    )
    versions = items.filter(pl.col(INGEST_TIME) > since).select(
        ITEM_ID, UPDATED_TIME, pl.col(INGEST_TIME).alias(ARRIVED_TIME)
    )
    # A version counts for the periods that it was in force in, at their close at the latest.
    described = placed.join(versions, on=ITEM_ID).filter(pl.col(UPDATED_TIME) < pl.col(PERIOD_END))
    came = pl.concat(
        [
            placed.select(
                USER_ID, PERIOD_START, PERIOD_END, pl.col(INGEST_TIME).alias(ARRIVED_TIME)
            ),
            described.select(USER_ID, PERIOD_START, PERIOD_END, ARRIVED_TIME),
        ]
    )
    return (
        came.filter((pl.col(ARRIVED_TIME) > since) & (pl.col(ARRIVED_TIME) > pl.col(PERIOD_END)))
        .group_by(USER_ID, PERIOD_START)
        .agg(pl.col(ARRIVED_TIME).max())
        .sort(USER_ID, PERIOD_START)
    )
