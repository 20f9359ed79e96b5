"""Reads a file of events as the evaluation needs it."""

import html
from datetime import datetime
from pathlib import Path

import polars as pl

from services.core.cleaning import KIND_ALIASES
from services.core.errors import InvalidArgument
from services.core.instants import instants
from services.core.schema import CATEGORIES, EVENT_TIME, ITEM_ID, KIND, TEXT, USER_ID, VALUE, Kind

ALIASES = {
    "user": USER_ID,
    "item": ITEM_ID,
    "ts": EVENT_TIME,
    "timestamp": EVENT_TIME,
    "event": KIND,
    "quantity": VALUE,
}


def read_events(source: Path | pl.DataFrame, until: datetime | None = None) -> pl.DataFrame:
    """Return user_id, item_id, event_time, kind, value, text of a Parquet file or a frame.

    Categories too, where there are any: lists, broadest first.
    Rows without a user, an item or a readable time are dropped, and those at `until` or later; HTML
    escapes in texts are undone.

    Raises:
        InvalidArgument: the file cannot be read, or a column is missing.
    """
    if isinstance(source, Path):
        try:
            source = pl.read_parquet(source)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InvalidArgument("events", f"{source} is not a Parquet file: {error}") from None
    named = source.rename(
        {
            old: new
            for old, new in ALIASES.items()
            if old in source.columns and new not in source.columns
        }
    )
    missing = [name for name in (USER_ID, ITEM_ID, EVENT_TIME) if name not in named.columns]
    if missing:
        raise InvalidArgument(
            "events", f"no column {', '.join(missing)}; there are {', '.join(source.columns)}"
        )
    defaults = {
        KIND: pl.lit(str(Kind.VIEW)),
        VALUE: pl.lit(1.0),
        TEXT: pl.col(ITEM_ID).cast(pl.String),
    }
    named = named.with_columns(
        value.alias(name) for name, value in defaults.items() if name not in named.columns
    )
    rows = named.select(
        pl.col(USER_ID).cast(pl.String),
        pl.col(ITEM_ID).cast(pl.String),
        instants(named[EVENT_TIME]).alias(EVENT_TIME),
        _kind(named[KIND]),
        pl.col(VALUE).cast(pl.Float64, strict=False).fill_null(1.0).fill_nan(1.0),
        _plain(named[TEXT]),
        *([CATEGORIES] if isinstance(named.schema.get(CATEGORIES), pl.List) else []),
    ).drop_nulls([USER_ID, ITEM_ID, EVENT_TIME])
    return rows if until is None else rows.filter(pl.col(EVENT_TIME) < until)


def _kind(column: pl.Series) -> pl.Series:
    """Return our kinds; a name that is not known counts as a view."""
    said = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    known = said.str.replace_all(r"[-\s]+", "_")
    return known.replace_strict(KIND_ALIASES, default=str(Kind.VIEW), return_dtype=pl.String)


def _plain(column: pl.Series) -> pl.Series:
    """Return texts as people read them: `&amp;` is `&`."""
    text = column.cast(pl.String)
    escaped = text.filter(text.str.contains("&", literal=True)).unique().to_list()
    if not escaped:
        return text
    return text.replace(escaped, [html.unescape(said) for said in escaped])
