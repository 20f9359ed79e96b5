"""Polars types of the event log's rows, the same in every log, table and fake."""

from datetime import datetime

import polars as pl

from services.core import schema as names
from services.core.cleaning import REJECT_SCHEMA
from services.core.errors import InvalidArgument
from services.core.instants import TIME

ERASURE_ID = "erasure_id"

EVENTS: dict[str, pl.DataType] = {
    names.EVENT_ID: pl.String(),
    names.USER_ID: pl.String(),
    names.ITEM_ID: pl.String(),
    names.KIND: pl.String(),
    names.VALUE: pl.Float64(),
    names.EVENT_TIME: TIME,
    names.INGEST_TIME: TIME,
}
# Of an inbox; the table has the content hash besides.
INBOX_ITEMS: dict[str, pl.DataType] = {
    names.ITEM_ID: pl.String(),
    names.TITLE: pl.String(),
    names.TEXT: pl.String(),
    names.CATEGORIES: pl.List(pl.String()),
    names.UPDATED_TIME: TIME,
    names.INGEST_TIME: TIME,
}
ITEMS: dict[str, pl.DataType] = {**INBOX_ITEMS, names.CONTENT_HASH: pl.String()}
ERASURES: dict[str, pl.DataType] = {
    ERASURE_ID: pl.String(),
    names.USER_ID: pl.String(),
    names.INGEST_TIME: TIME,
}
REJECTS = REJECT_SCHEMA
# The three logs of an inbox.
LOGS = {"events": EVENTS, "items": INBOX_ITEMS, "erasures": ERASURES}


def shape(rows: pl.DataFrame, types: dict[str, pl.DataType], field: str = "rows") -> pl.DataFrame:
    """Return exactly the columns of `types`, in order, cast.

    Raises:
        InvalidArgument: a column is missing or of a type that cannot be cast.
    """
    missing = [name for name in types if name not in rows.columns]
    if missing:
        raise InvalidArgument(field, f"lack the columns {', '.join(missing)}")
    try:
        return rows.select(pl.col(name).cast(kind) for name, kind in types.items())
    except pl.exceptions.PolarsError as error:
        raise InvalidArgument(field, f"have a wrong type: {error}") from error


def empty(types: dict[str, pl.DataType]) -> pl.DataFrame:
    """Return a frame without rows."""
    return pl.DataFrame(schema=types)


def stamp(log: str, rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return rows of a log with their time of commit."""
    rows = rows.with_columns(pl.lit(now).alias(names.INGEST_TIME))
    if log == "items":
        rows = rows.with_columns(pl.col(names.UPDATED_TIME).fill_null(pl.col(names.INGEST_TIME)))
    return shape(rows, LOGS[log])
