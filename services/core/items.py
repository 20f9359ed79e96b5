"""Versions of items: what text is encoded, what identifies it, which version was in force when.

A frame of versions has the columns ITEM_COLUMNS of `core/schema.py`.
"""

import hashlib

import polars as pl

from services.core.schema import (
    CATEGORIES,
    CONTENT_HASH,
    INGEST_TIME,
    ITEM_ID,
    TEXT,
    TITLE,
    UPDATED_TIME,
)

# Categories of a version that has none.
NO_CATEGORY = ""


def encoder_text(title: str, text: str) -> str:
    """Return what the encoder reads of an item: the title, then the text, neither said twice."""
    title, text = title.strip(), text.strip()
    if not text or not title:
        return title or text
    return text if text.startswith(title) else f"{title}. {text}"


def content_hash(title: str, text: str) -> str:
    """Return 32 hex digits that identify the encoded text; each is encoded once per space."""
    return hashlib.sha256(encoder_text(title, text).encode()).hexdigest()[:32]


def with_content_hash(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows of items with their content hash; hashes each distinct text once."""
    distinct = rows.select(TITLE, TEXT).unique()
    hashes = [content_hash(title, text) for title, text in distinct.iter_rows()]
    distinct = distinct.with_columns(pl.Series(CONTENT_HASH, hashes, dtype=pl.String))
    return rows.join(distinct, on=[TITLE, TEXT], how="left", maintain_order="left")


def new_versions(rows: pl.DataFrame, stored: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split item rows into versions that say something new and those that contradict another.

    A version equal to one stored (same item, text, categories, no later than this one and in force
    at its time) is dropped. Of two with the same item and time, the stored one stays; among new
    ones the smallest (content hash, categories) wins, whatever the order of arrival. (A change that
    comes in after a later change back was dropped stays in force: the one case where order counts.)

    Args:
        rows: ITEM_COLUMNS and any others, any order.
        stored: ITEM_COLUMNS of all versions so far.

    Returns:
        The versions to store, ordered by item and time, and the contradicting rows.
    """
    categories = pl.col(CATEGORIES).list.join("\x1f").fill_null(NO_CATEGORY).alias("_categories")
    columns = rows.columns
    rows = rows.with_columns(categories, pl.lit(1).alias("_rank"))
    stored = stored.join(rows.select(ITEM_ID).unique(), on=ITEM_ID, how="semi")
    stored = stored.with_columns(categories, pl.lit(0).alias("_rank"))
    merged = pl.concat([stored, rows], how="diagonal").sort(
        ITEM_ID, UPDATED_TIME, "_rank", CONTENT_HASH, "_categories", INGEST_TIME
    )
    same = [pl.col(name) for name in (CONTENT_HASH, "_categories")]
    at_once = [ITEM_ID, UPDATED_TIME]
    is_first = pl.int_range(pl.len()).over(at_once) == 0
    equals_first = pl.all_horizontal(column == column.first().over(at_once) for column in same)
    conflicts = merged.filter((pl.col("_rank") == 1) & ~is_first & ~equals_first)
    kept = merged.filter(is_first)
    repeats = pl.all_horizontal(column == column.shift(1).over(ITEM_ID) for column in same)
    fresh = kept.filter((pl.col("_rank") == 1) & ~repeats.fill_null(value=False))
    return fresh.select(columns), conflicts.select(columns)
