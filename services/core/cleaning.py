"""Cleaning: raw rows -> events, and rejects that say why. Pure, vectorised, in any order.

A raw row has the columns `event_id, user_id, item_id, kind, value, event_time` in whatever type the
source gave, `ingest_time`, and where it came from: `source`, `line`.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from services.core.instants import TIME, instants
from services.core.schema import (
    EVENT_ID,
    EVENT_TIME,
    INGEST_TIME,
    ITEM_ID,
    KIND,
    USER_ID,
    VALUE,
    Kind,
)

# Longest id, bytes of UTF-8.
ID_BYTES = 256
# Clocks of clients may run ahead this much.
FUTURE_TOLERANCE = timedelta(minutes=5)
# Longest excerpt of a rejected row, characters.
EXCERPT = 200

SOURCE = "source"
LINE = "line"
REASON = "reason"
RAW = "raw"
REJECT_SCHEMA: dict[str, pl.DataType] = {
    SOURCE: pl.String(),
    LINE: pl.Int64(),
    REASON: pl.String(),
    EVENT_ID: pl.String(),
    USER_ID: pl.String(),
    RAW: pl.String(),
    INGEST_TIME: TIME,
}

# What other systems call the kinds; keys are lower case, with - and spaces as underscores.
KIND_ALIASES = {
    **{str(kind): str(kind) for kind in Kind},
    **dict.fromkeys(
        ("buy", "bought", "order", "ordered", "purchased", "transaction", "checkout"), "purchase"
    ),
    **dict.fromkeys(
        ("play", "watch", "watched", "read", "listen", "impression", "viewed", "pageview",
         "page_view", "detail"), "view",
    ),
    **dict.fromkeys(("clicked", "open", "opened", "tap"), "click"),
    **dict.fromkeys(("rate", "rated", "review", "reviewed"), "rating"),
    **dict.fromkeys(("fav", "favorite", "favourite", "liked", "upvote", "heart"), "like"),
    **dict.fromkeys(
        ("cart", "basket", "add_to_cart", "addtocart", "add_to_basket", "saved", "bookmark",
         "wishlist"), "save",
    ),
    **dict.fromkeys(("shared", "repost", "retweet"), "share"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What came of raw rows. Every row is in exactly one of the two."""

    # EVENT_COLUMNS, then source and line.
    events: pl.DataFrame
    # REJECT_SCHEMA.
    rejects: pl.DataFrame


def clean_events(
    raw: pl.DataFrame,
    now: datetime,
    *,
    default_kind: Kind | None = None,
    is_id_required: bool = True,
) -> Cleaned:
    """Parse and check every row by itself; duplicates are left in (event_ids.py).

    Args:
        raw: see the module; columns may have any type.
        now: aware; later event times, by more than FUTURE_TOLERANCE, are rejected.
        default_kind: of rows that name none.
        is_id_required: False leaves a blank `event_id` null; True rejects it.
    """
    ids = (EVENT_ID, USER_ID, ITEM_ID)
    parsed = raw.select(
        *(_text(raw, name).alias(name) for name in ids),
        _kind(raw, default_kind).alias(KIND),
        (_value(raw) + 0.0).alias(VALUE),  # -0.0 is 0.0: one content
        instants(raw[EVENT_TIME]).alias(EVENT_TIME),
        _text(raw, KIND).alias("_said_kind"),
        _text(raw, EVENT_TIME).is_not_null().alias("_says_time"),
        pl.col(INGEST_TIME).cast(TIME),
        pl.col(SOURCE).cast(pl.String),
        pl.col(LINE).cast(pl.Int64),
    )
    parsed = parsed.with_columns(
        _first_fault(now, is_id_required=is_id_required).alias(REASON)
    ).drop("_said_kind", "_says_time")
    is_bad = parsed[REASON].is_not_null()
    return Cleaned(
        events=parsed.filter(~is_bad).drop(REASON),
        rejects=rejects_of(parsed.filter(is_bad), excerpts(raw.filter(is_bad))),
    )


def rejects_of(rows: pl.DataFrame, raw: pl.Series) -> pl.DataFrame:
    """Return rejects from rows that have a reason, with their excerpts."""
    return rows.with_columns(raw.alias(RAW)).select(*REJECT_SCHEMA)


def excerpts(rows: pl.DataFrame) -> pl.Series:
    """Return each row as JSON, cut to EXCERPT characters, without what a reject says elsewhere.

    What is cut ends with a digest of the whole, so that two rows have one excerpt only where they
    say the same.
    """
    shown = [name for name in rows.columns if name not in (SOURCE, LINE, INGEST_TIME, REASON)]
    if rows.is_empty() or not shown:
        return pl.Series(RAW, [""] * rows.height, dtype=pl.String)
    texts = pl.DataFrame([_shown(rows[name]) for name in shown])
    whole = texts.select(pl.struct(pl.all()).struct.json_encode().alias(RAW)).to_series()
    is_long = whole.str.len_chars() > EXCERPT
    if not is_long.any():
        return whole
    cut = pl.Series([_cut(said) for said in whole.filter(is_long)], dtype=pl.String)
    return whole.scatter(is_long.arg_true(), cut)


def _shown(column: pl.Series) -> pl.Series:
    """Return a column as text; lists and structs have no cast to it."""
    if not column.dtype.is_nested():
        return column.cast(pl.String, strict=False)
    values = [None if value is None else str(value) for value in column.to_list()]
    return pl.Series(column.name, values, dtype=pl.String)


def _first_fault(now: datetime, *, is_id_required: bool) -> pl.Expr:
    """Say what is wrong with a parsed row; null where nothing is."""
    id_faults = [
        *(_id_fault(name, is_required=True) for name in (USER_ID, ITEM_ID)),
        _id_fault(EVENT_ID, is_required=is_id_required),
    ]
    said_kind = pl.col("_said_kind")
    latest = (now + FUTURE_TOLERANCE).astimezone(UTC)
    return pl.coalesce(
        *id_faults,
        _fault(pl.col(KIND).is_null() & said_kind.is_null(), "kind is missing"),
        _fault(
            pl.col(KIND).is_null(),
            pl.format("unknown kind '{}'", said_kind.str.slice(0, 40)),
        ),
        _fault(pl.col(VALUE).is_null(), "value is not a number"),
        _fault(~pl.col(VALUE).is_finite(), "value is not finite"),
        _fault(~pl.col("_says_time"), "event_time is missing"),
        _fault(pl.col(EVENT_TIME).is_null(), "event_time cannot be read"),
        _fault(pl.col(EVENT_TIME) < datetime(1970, 1, 1, tzinfo=UTC), "event_time is before 1970"),
        _fault(
            pl.col(EVENT_TIME) > pl.lit(latest, TIME),
            f"event_time is more than {FUTURE_TOLERANCE.seconds // 60} minutes in the future",
        ),
    )


def _id_fault(name: str, *, is_required: bool) -> pl.Expr:
    column = pl.col(name)
    return pl.coalesce(
        _fault(column.is_null() & is_required, f"{name} is missing"),
        _fault(column.str.len_bytes() > ID_BYTES, f"{name} is longer than {ID_BYTES} bytes"),
        _fault(column.str.contains("\ufffd", literal=True), f"{name} is not valid UTF-8"),
    )


def _cut(said: str) -> str:
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    return f"{said[: EXCERPT - len(digest) - 2]}.#{digest}"


def _fault(is_bad: pl.Expr, reason: str | pl.Expr) -> pl.Expr:
    said = pl.lit(reason) if isinstance(reason, str) else reason
    return pl.when(is_bad).then(said)


def _text(raw: pl.DataFrame, name: str) -> pl.Expr:
    """Return a column as text: null where blank; whole floats without the point."""
    if name not in raw.columns:
        return pl.lit(None, pl.String)
    column, dtype = pl.col(name), raw.schema[name]
    if dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        column = (
            pl.when(whole.cast(dtype) == column)
            .then(whole.cast(pl.String))
            .when(column.is_not_nan())
            .then(column.cast(pl.String))
        )
    elif dtype == pl.String:
        pass
    elif dtype.is_nested() or dtype in (pl.Binary, pl.Null):
        return pl.lit(None, pl.String)
    else:
        column = column.cast(pl.String)
    return pl.when(column.str.strip_chars().str.len_bytes() > 0).then(column)


def _kind(raw: pl.DataFrame, default: Kind | None) -> pl.Expr:
    said = _text(raw, KIND).str.strip_chars().str.to_lowercase().str.replace_all(r"[-\s]+", "_")
    if default is not None:
        said = said.fill_null(str(default))
    return said.replace_strict(KIND_ALIASES, default=None, return_dtype=pl.String)


def _value(raw: pl.DataFrame) -> pl.Expr:
    """Return the value; unset means 1, null means that it cannot be read."""
    if VALUE not in raw.columns or raw.schema[VALUE] == pl.Null:
        return pl.lit(1.0)
    column, dtype = pl.col(VALUE), raw.schema[VALUE]
    if dtype.is_numeric() or dtype == pl.Boolean:
        return column.cast(pl.Float64).fill_null(1.0)
    text = _text(raw, VALUE).str.strip_chars()
    # Polars reads "nan" and "inf" as numbers; they are refused later, as not finite.
    return pl.when(text.is_null()).then(1.0).otherwise(text.cast(pl.Float64, strict=False))
