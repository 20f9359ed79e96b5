"""Classification of events: session, category, bulk day, suspected bot. Pure and causal.

Nothing here looks at an event after the one it classifies, save a bulk day, which looks at its own
UTC day: a period never ends inside a day, so no vector of a closed period changes later.
"""

from datetime import datetime, timedelta

import polars as pl

from services.core.dataset import BULK_DAY_EVENTS
from services.core.items import versions_in_force
from services.core.schema import CATEGORIES, EVENT_ID, EVENT_TIME, ITEM_ID, USER_ID

# A longer pause starts a new session.
SESSION_GAP = timedelta(minutes=30)
# This many bulk days make a suspected bot.
BOT_BULK_DAYS = 3

SESSION = "session"
CATEGORY = "category"
IS_BULK_DAY = "is_bulk_day"
BULK_DAY_COUNT = "bulk_day_count"


def with_sessions(events: pl.DataFrame, gap: timedelta = SESSION_GAP) -> pl.DataFrame:
    """Return the events, ordered by user and time, with the number of the user's session from 0.

    A session ends with a pause longer than `gap`.
    """
    pause = pl.col(EVENT_TIME).diff().over(USER_ID)
    starts = (pause > gap).fill_null(value=False).cast(pl.Int64)
    return events.sort(USER_ID, EVENT_TIME, EVENT_ID).with_columns(
        starts.cum_sum().over(USER_ID).alias(SESSION)
    )


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


def with_category(events: pl.DataFrame, versions: pl.DataFrame, instant: datetime) -> pl.DataFrame:
    """Return the events with the item's broadest category as of an instant; null where unknown.

    Args:
        events: with item_id.
        versions: every item version (ITEM_COLUMNS).
        instant: end of the period that is classified; later versions are not looked at.
    """
    categories = versions_in_force(versions, instant).select(
        ITEM_ID, pl.col(CATEGORIES).list.first().alias(CATEGORY)
    )
    return events.join(categories, on=ITEM_ID, how="left", maintain_order="left")
