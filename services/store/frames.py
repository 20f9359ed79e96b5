"""Frames of stored features: the columns of each view, and builders from arrays and records.

A frame has the view's join keys, its features, `known_time` and `computed_time`; times are UTC
microseconds.
Shape suffixes: P = (user, period) rows, U = users, D = width, H = horizons or half-lives.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.core import schema as names
from services.core.errors import InvalidArgument
from services.core.periods import Period
from services.core.records import F32
from services.core.schema import HISTORY_PERIODS, Granularity
from services.core.views import FeatureType, View, view_named

TIME = pl.Datetime("us", "UTC")
_DTYPES: dict[FeatureType, pl.DataType | type[pl.DataType]] = {
    FeatureType.STRING: pl.String,
    FeatureType.INT: pl.Int64,
    FeatureType.FLOAT: pl.Float64,
    FeatureType.BOOL: pl.Boolean,
    FeatureType.TIME: TIME,
    FeatureType.STRINGS: pl.List(pl.String),
    FeatureType.INTS: pl.List(pl.Int64),
    FeatureType.FLOATS: pl.List(pl.Float64),
    FeatureType.VECTOR: pl.List(pl.Float32),
}


def columns_of(view: View) -> dict[str, Any]:
    """Return the Polars schema of a view's offline rows, in column order."""
    return {
        **dict.fromkeys(view.join_keys, pl.String),
        **{name: _DTYPES[kind] for name, kind in view.features.items()},
        names.KNOWN_TIME: TIME,
        names.COMPUTED_TIME: TIME,
    }


def conform(view: View, rows: pl.DataFrame, *, has_known_time: bool = True) -> pl.DataFrame:
    """Return the rows with exactly the view's columns and types; other columns are dropped.

    Raises:
        InvalidArgument: a column is absent, of a type that cannot be converted, or holds a null.
    """
    wanted = columns_of(view)
    if not has_known_time:
        del wanted[names.KNOWN_TIME]
    missing = [name for name in wanted if name not in rows.columns]
    if missing:
        raise InvalidArgument("rows", f"{view.name} needs the columns {', '.join(missing)}")
    if [*rows.schema.items()] != [*wanted.items()]:
        try:
            rows = rows.select(pl.col(name).cast(dtype) for name, dtype in wanted.items())
        except pl.exceptions.PolarsError as error:
            raise InvalidArgument("rows", f"{view.name}: {error}") from error
    nulls = [name for name in wanted if rows[name].null_count()]
    if nulls:
        raise InvalidArgument("rows", f"{view.name} has nulls in {', '.join(nulls)}")
    return rows


def kept_columns(view: View, columns: Sequence[str] | None) -> list[str] | None:
    """Return what a read of some features keeps: join keys and the computed time too; None: all."""
    if columns is None:
        return None
    return [*view.join_keys, *columns, names.COMPUTED_TIME]


def newest_rows(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the row with the newest computed time of each user (and period, if the view has); in their order."""
    keys = list(view.join_keys)
    if len(rows) < 2:
        return rows
    return rows.sort(*keys, names.COMPUTED_TIME).unique(keys, keep="last", maintain_order=True)


def unpublished_rows(fresh: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
    """Return the fresh rows that are not published, or published otherwise; times do not count."""
    mine = fresh.drop(names.COMPUTED_TIME, names.KNOWN_TIME)
    theirs = published.select(mine.columns).cast(mine.schema)
    return fresh.filter(~mine.hash_rows().is_in(theirs.hash_rows().implode()))


def rows_frame(
    view: str,
    keys: Sequence[str],
    features: Iterable[Mapping[str, Any]],
    *,
    computed_time: datetime,
    known_time: datetime | None = None,
) -> pl.DataFrame:
    """Return a frame of a user-keyed (or item-keyed) view from features made by `store/rows.py`.

    Args:
        view: name of the view; its join key is one column.
        keys: ids, one a row.
        features: each row's features.
        computed_time: when they were computed.
        known_time: when they could have been known; unset means when computed.
    """
    spec = view_named(view)
    (key,) = spec.join_keys
    rows = list(features)
    data: dict[str, Any] = {key: list(keys)}
    for name, kind in spec.features.items():
        values = [row[name] for row in rows]
        if kind in (FeatureType.STRINGS, FeatureType.INTS, FeatureType.FLOATS):
            values = [list(value) for value in values]
        data[name] = pl.Series(name, values, dtype=_DTYPES[kind])
    return pl.DataFrame(data, schema_overrides={key: pl.String}).with_columns(
        pl.lit(known_time or computed_time, TIME).alias(names.KNOWN_TIME),
        pl.lit(computed_time, TIME).alias(names.COMPUTED_TIME),
    )


def by_period_frame(
    granularity: Granularity,
    user_ids: Sequence[str] | pl.Series,
    period_P: NDArray[np.int64],
    vec_PD: F32,
    event_count_P: NDArray[np.int64],
    *,
    model_version: str,
    known_times: Sequence[datetime] | pl.Series,
    computed_time: datetime,
) -> pl.DataFrame:
    """Return rows of interest_{g}_by_period, one per user and period.

    Args:
        granularity: length of the periods.
        user_ids: each row's user.
        period_P: each row's period ordinal.
        vec_PD: unit-norm vectors.
        event_count_P: events of each period.
        model_version: that made the vectors.
        known_times: when each could have been known.
        computed_time: when they were computed.
    """
    # Periods are few and rows are many: each is named and timed once.
    ordinals, row_P = np.unique(period_P, return_inverse=True)
    periods = [Period(granularity, ordinal) for ordinal in ordinals.tolist()]
    starts = pl.Series([period.start for period in periods], dtype=TIME)
    ends = pl.Series([period.end for period in periods], dtype=TIME)
    return pl.DataFrame(
        {
            names.USER_ID: pl.Series(user_ids, dtype=pl.String),
            names.PERIOD: pl.Series([period.name for period in periods], dtype=pl.String)[row_P],
            names.VEC: vectors_column(vec_PD),
            names.MODEL_VERSION: pl.repeat(model_version, len(row_P), dtype=pl.String, eager=True),
            names.EVENT_COUNT: pl.Series(event_count_P, dtype=pl.Int64),
            names.PERIOD_START: starts[row_P],
            names.PERIOD_END: ends[row_P],
            names.KNOWN_TIME: pl.Series(known_times, dtype=TIME),
            names.COMPUTED_TIME: pl.repeat(computed_time, len(row_P), dtype=TIME, eager=True),
        }
    )


def vectors_column(vec_PD: F32) -> pl.Series:
    """Return one list of float32 a row."""
    vec_PD = np.ascontiguousarray(vec_PD, np.float32)
    return pl.Series(vec_PD, dtype=pl.Array(pl.Float32, vec_PD.shape[1])).cast(pl.List(pl.Float32))


def newest_period_frame(by_period: pl.DataFrame) -> pl.DataFrame:
    """Return rows of interest_{g}: each user's newest period in rows of interest_{g}_by_period.

    The rows must hold one row per user and period; `read_offline` gives them so.
    """
    return (
        by_period.sort(names.USER_ID, names.PERIOD_START)
        .unique(names.USER_ID, keep="last", maintain_order=True)
        .drop(names.PERIOD)
    )


def history_frame(granularity: Granularity, by_period: pl.DataFrame) -> pl.DataFrame:
    """Return rows of interest_{g}_history: each user's last rows of interest_{g}_by_period, flat.

    A history was known when its last-known vector was.
    """
    kept = HISTORY_PERIODS[granularity]
    return (
        by_period.sort(names.USER_ID, names.PERIOD_START)
        .group_by(names.USER_ID, maintain_order=True)
        .agg(
            pl.col(names.VEC).tail(kept).explode().alias(names.VECS),
            pl.col(names.PERIOD).tail(kept).alias(names.PERIODS),
            pl.col(names.EVENT_COUNT).tail(kept).alias(names.EVENT_COUNTS),
            pl.col(names.MODEL_VERSION).last(),
            pl.col(names.KNOWN_TIME).tail(kept).max(),
            pl.col(names.COMPUTED_TIME).tail(kept).max(),
        )
    )
