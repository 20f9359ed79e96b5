"""Reads a file of events as the evaluation needs it."""

from pathlib import Path

import polars as pl

from services.core.errors import InvalidArgument
from services.core.schema import EVENT_TIME, ITEM_ID, KIND, TEXT, USER_ID, VALUE, Kind

ALIASES = {
    "user": USER_ID,
    "item": ITEM_ID,
    "ts": EVENT_TIME,
    "timestamp": EVENT_TIME,
    "event": KIND,
    "quantity": VALUE,
}


def read_events(source: Path | pl.DataFrame) -> pl.DataFrame:
    """Return user_id, item_id, event_time, kind, value, text of a Parquet file or a frame.

    Rows without a user, an item or a time are dropped. A numeric time is seconds since 1970.

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
    return named.select(
        pl.col(USER_ID).cast(pl.String),
        pl.col(ITEM_ID).cast(pl.String),
        _time(named.schema[EVENT_TIME]).alias(EVENT_TIME),
        pl.col(KIND).cast(pl.String).str.to_lowercase(),
        pl.col(VALUE).cast(pl.Float64, strict=False).fill_null(1.0).fill_nan(1.0),
        pl.col(TEXT).cast(pl.String),
    ).drop_nulls([USER_ID, ITEM_ID, EVENT_TIME])


def _time(dtype: pl.DataType) -> pl.Expr:
    column = pl.col(EVENT_TIME)
    if dtype.is_numeric():
        column = (column * 1_000_000).cast(pl.Int64).cast(pl.Datetime("us"))
    elif dtype == pl.String:
        column = column.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
        return column
    elif dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return column.cast(pl.Datetime("us", dtype.time_zone)).dt.convert_time_zone("UTC")
    return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
