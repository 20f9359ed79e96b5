"""Classification of events: session, bulk day, suspected bot. Pure and causal.

A category is the item's: core/profiles.py counts it, by the version in force at the event.

Nothing here looks at an event after the one it classifies, save a bulk day, which looks at its own
UTC day: a period never ends inside a day, so no vector of a closed period changes later.
"""

from datetime import datetime, timedelta

import polars as pl

from services.core.schema import EVENT_ID, EVENT_TIME, SESSION_COUNT, USER_ID

# A longer pause starts a new session.
SESSION_GAP = timedelta(minutes=30)
# A user's UTC day with more events than this is a machine's: a bulk day.
BULK_DAY_EVENTS = 1000
# This many bulk days make a suspected bot.
BOT_BULK_DAYS = 3

SESSION = "session"
IS_BULK_DAY = "is_bulk_day"
BULK_DAY_COUNT = "bulk_day_count"


def with_sessions(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events, ordered by user and time, with the number of the user's session from 0.

    A session ends with a pause longer than SESSION_GAP. Events at one instant are ordered by `event_id`
    where there is one.
    """
    order = [name for name in (USER_ID, EVENT_TIME, EVENT_ID) if name in events.columns]
    pause = pl.col(EVENT_TIME).diff().over(USER_ID)
    starts = (pause > SESSION_GAP).fill_null(value=False).cast(pl.Int64)
    return events.sort(order).with_columns(starts.cum_sum().over(USER_ID).alias(SESSION))


def session_counts(events: pl.DataFrame) -> pl.DataFrame:
    """Return user_id and how many sessions the user has, as `session_count`."""
    counted = with_sessions(events).group_by(USER_ID).agg(pl.col(SESSION).max() + 1)
    return counted.rename({SESSION: SESSION_COUNT}).sort(USER_ID)


def with_bulk_days(events: pl.DataFrame, limit: int = BULK_DAY_EVENTS) -> pl.DataFrame:
    """Return the events with a mark on those of a (user, UTC day) of more than `limit` events.

    Marked events enter no vector, rank state or profile.
    """
    day = pl.col(EVENT_TIME).dt.truncate("1d")
    return events.with_columns((pl.len().over(USER_ID, day) > limit).alias(IS_BULK_DAY))


def bulk_days(events: pl.DataFrame, until: datetime, limit: int = BULK_DAY_EVENTS) -> pl.DataFrame:
    """Return user_id and the count of bulk days among events strictly before an instant."""
    day = pl.col(EVENT_TIME).dt.truncate("1d").alias("day")
    return (
        events.filter(pl.col(EVENT_TIME) < until)
        .group_by(USER_ID, day)
        .len()
        .filter(pl.col("len") > limit)
        .group_by(USER_ID)
        .agg(pl.len().cast(pl.Int64).alias(BULK_DAY_COUNT))
        .sort(USER_ID)
    )


def suspected_bots(
    events: pl.DataFrame, until: datetime, limit: int = BULK_DAY_EVENTS
) -> frozenset[str]:
    """Return users with at least BOT_BULK_DAYS bulk days up to an instant."""
    counts = bulk_days(events, until, limit)
    return frozenset(counts.filter(pl.col(BULK_DAY_COUNT) >= BOT_BULK_DAYS)[USER_ID].to_list())
