"""Cleaning of item rows: raw rows -> items, and rejects that say why. Pure.

A raw row has `item_id, title, text, categories, updated_time, ingest_time, source`, and `line`
where it came from a file.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from services.core.cleaning import (
    FUTURE_TOLERANCE,
    ID_BYTES,
    LINE,
    REASON,
    SOURCE,
    excerpts,
    rejects_of,
)
from services.core.instants import TIME
from services.core.schema import (
    CATEGORIES,
    EVENT_ID,
    INGEST_TIME,
    ITEM_ID,
    TEXT,
    TITLE,
    UPDATED_TIME,
    USER_ID,
)

# As many whole words as fit in 80 characters.
_TITLE_WORDS = r"^(.{1,80})(?:\s|$)"
_ITEM = (ITEM_ID, TITLE, TEXT, CATEGORIES, UPDATED_TIME, INGEST_TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedItems:
    """What came of raw item rows; every row is in one of the two."""

    # ITEM_COLUMNS less content_hash, then source.
    items: pl.DataFrame
    # REJECT_SCHEMA.
    rejects: pl.DataFrame


def clean_items(raw: pl.DataFrame, now: datetime) -> CleanedItems:
    """Check item rows; absent texts and categories become empty, a title the text's opening.

    A version may not come into force after now, nor, where the clock replays the past, after it was
    ingested.
    """
    if LINE not in raw.columns:
        raw = raw.with_columns(pl.lit(None, pl.Int64).alias(LINE))
    rows = raw.with_columns(
        pl.col(TITLE).fill_null("").str.strip_chars(),
        pl.col(TEXT).fill_null("").str.strip_chars(),
        pl.col(CATEGORIES).fill_null([]).list.drop_nulls(),
    )
    # The encoder reads a text that begins with its title once, so this changes no vector.
    opening = pl.coalesce(pl.col(TEXT).str.extract(_TITLE_WORDS), pl.col(TEXT).str.slice(0, 80))
    rows = rows.with_columns(
        pl.when(pl.col(TITLE) == "").then(opening).otherwise(TITLE).alias(TITLE)
    )
    latest = pl.max_horizontal(pl.lit(now.astimezone(UTC), TIME), INGEST_TIME) + FUTURE_TOLERANCE
    item = pl.col(ITEM_ID)
    faults = {
        "item_id is missing": item.is_null() | (item.str.strip_chars() == ""),
        f"item_id is longer than {ID_BYTES} bytes": item.str.len_bytes() > ID_BYTES,
        "item has neither title nor text": (pl.col(TITLE) == "") & (pl.col(TEXT) == ""),
        "updated_time cannot be read": pl.col(UPDATED_TIME).is_null(),
        "updated_time is before 1970": pl.col(UPDATED_TIME) < datetime(1970, 1, 1, tzinfo=UTC),
        "updated_time is in the future": pl.col(UPDATED_TIME) > latest,
    }
    said = [pl.when(is_bad).then(pl.lit(reason)) for reason, is_bad in faults.items()]
    rows = rows.with_columns(pl.coalesce(*said).alias(REASON))
    is_bad = rows[REASON].is_not_null()
    return CleanedItems(
        items=rows.filter(~is_bad).select(*_ITEM, SOURCE), rejects=_rejects(rows.filter(is_bad))
    )


def item_conflicts(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rejects of versions that contradict another of the same item and time."""
    reason = pl.lit("item has another version of the same updated_time").alias(REASON)
    return _rejects(rows.with_columns(reason, pl.lit(None, pl.Int64).alias(LINE)))


def _rejects(rows: pl.DataFrame) -> pl.DataFrame:
    shown = rows.select(ITEM_ID, TITLE, TEXT, pl.col(UPDATED_TIME).cast(pl.String))
    nobody = [pl.lit(None, pl.String).alias(name) for name in (EVENT_ID, USER_ID)]
    return rejects_of(rows.with_columns(*nobody), excerpts(shown))
