"""Events as arrays, for training and evaluation: one row an event, in time order.

Shape suffixes: E = events, U = users, N = items.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.core.classify import IS_BULK_DAY, with_bulk_days
from services.core.errors import InvalidArgument
from services.core.periods import Period, ordinals_of_days
from services.core.pooling import (
    DAY_S,
    F64,
    I64,
    PoolingConfig,
    RankStates,
    event_weights,
    pool_periods,
    pool_rank_states,
)
from services.core.records import F32
from services.core.schema import (
    CATEGORIES,
    EVENT_TIME,
    ITEM_ID,
    KIND,
    TEXT,
    USER_ID,
    VALUE,
    Granularity,
    Kind,
)
from services.core.trajectories import TrajectoryBatch, grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Events with users and items as array rows, which mean the same in every part of a dataset."""

    # Ascending; a row of U.
    user_ids: tuple[str, ...]
    # Ascending, the order of a catalogue; a row of N.
    item_ids: tuple[str, ...]
    # One per item; empty where an item has none.
    texts: tuple[str, ...]
    granularity: Granularity
    user_ix_E: I64
    item_ix_E: I64
    # Seconds since 1970, ascending.
    time_E: F64
    # Period ordinals.
    period_E: I64
    # core.pooling.event_weights.
    weight_E: F64

    @property
    def event_count(self) -> int:
        """E."""
        return len(self.time_E)

    @property
    def user_count(self) -> int:
        """U."""
        return len(self.user_ids)

    @property
    def item_count(self) -> int:
        """N."""
        return len(self.item_ids)

    def where(self, mask_E: NDArray[np.bool_]) -> "Dataset":
        """Return the marked events; users and items stay as they are."""
        return replace(
            self,
            user_ix_E=self.user_ix_E[mask_E],
            item_ix_E=self.item_ix_E[mask_E],
            time_E=self.time_E[mask_E],
            period_E=self.period_E[mask_E],
            weight_E=self.weight_E[mask_E],
        )

    def at(self, granularity: Granularity) -> "Dataset":
        """Return the same events with the periods of another granularity."""
        return replace(
            self, granularity=granularity, period_E=period_ordinals(self.time_E, granularity)
        )

    def before(self, instant_s: float) -> "Dataset":
        """Return the events strictly before an instant, seconds since 1970."""
        return self.where(self.time_E < instant_s)

    def between(self, start_s: float, end_s: float) -> "Dataset":
        """Return the events in [start, end), seconds since 1970."""
        return self.where((self.time_E >= start_s) & (self.time_E < end_s))

    def sha256(self) -> str:
        """Return the hash of everything that training reads."""
        digest = hashlib.sha256(str(self.granularity).encode())
        for names in (self.user_ids, self.item_ids, self.texts):
            digest.update("\x1f".join(names).encode() + b"\x1e")
        for array in (self.user_ix_E, self.item_ix_E, self.time_E, self.weight_E):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def dataset_from_frame(
    events: pl.DataFrame,
    granularity: Granularity,
    pooling: PoolingConfig,
    *,
    texts: pl.DataFrame | None = None,
) -> Dataset:
    """Turn a frame of events into arrays.

    An item without any text is not known: its events are left out, as in serving. So are bulk days.

    Args:
        events: user_id, item_id, event_time (UTC), kind; value and text where there are any.
        granularity: of the periods.
        pooling: weights by kind.
        texts: item_id, text; the first row of an item counts. Where not given, the first text among
            the item's events; where those have no text column, the item's id.

    Raises:
        InvalidArgument: there are no events of known items, or a column is missing.
    """
    for column in (USER_ID, ITEM_ID, EVENT_TIME, KIND):
        if column not in events.columns:
            raise InvalidArgument(
                "events", f"no column {column}; there are {', '.join(events.columns)}"
            )
    frame = _ordered(events)
    items = _items(frame, texts)
    users = frame.select(pl.col(USER_ID).unique().sort()).with_row_index("user_ix")
    frame = frame.join(
        items.select(ITEM_ID).with_row_index("item_ix"), on=ITEM_ID, maintain_order="left"
    ).join(users, on=USER_ID, maintain_order="left")
    if frame.is_empty():
        raise InvalidArgument("events", "there are none")
    time_E = frame["us"].to_numpy() / 1e6
    kind_E = frame[KIND].to_numpy().astype(str)
    return Dataset(
        user_ids=tuple(users[USER_ID].to_list()),
        item_ids=tuple(items[ITEM_ID].to_list()),
        texts=tuple(items[TEXT].to_list()),
        granularity=granularity,
        user_ix_E=frame["user_ix"].cast(pl.Int64).to_numpy(),
        item_ix_E=frame["item_ix"].cast(pl.Int64).to_numpy(),
        time_E=time_E,
        period_E=period_ordinals(time_E, granularity),
        weight_E=event_weights(kind_E, frame[VALUE].to_numpy(), pooling),
    )


def first_categories(rows: pl.DataFrame) -> dict[str, str]:
    """Return each item's broadest category; items without one are left out.

    Args:
        rows: item_id, and categories, broadest first, where they are known. The first row of an
            item that has one counts: a later edit does not rename the past.
    """
    if CATEGORIES not in rows.columns:
        return {}
    named = rows.select(pl.col(ITEM_ID).cast(pl.String), pl.col(CATEGORIES).list.first())
    first = named.drop_nulls().unique(ITEM_ID, keep="first", maintain_order=True)
    return dict(first.iter_rows())


def rank_states(data: Dataset, items_ND: F32, pooling: PoolingConfig) -> RankStates:
    """Return every user's rank state as of their newest event; `items_ND` in the dataset's order."""
    return pool_rank_states(
        data.user_ix_E, data.time_E, data.item_ix_E, data.item_ix_E, data.weight_E, items_ND,
        data.user_count, pooling,
    )  # fmt: skip


def vector_grid(
    data: Dataset, items_ND: F32, pooling: PoolingConfig, *, first: int, last: int
) -> TrajectoryBatch:
    """Return every user's vectors of the periods `first` to `last`; `items_ND` in the dataset's order."""
    pooled = pool_periods(
        data.user_ix_E, data.period_E, data.item_ix_E, data.weight_E, items_ND, pooling
    )
    return grid(
        pooled.user_ix_P, pooled.period_P, pooled.vec_PD, pooled.event_count_P,
        users=data.user_count, first=first, last=last,
    )  # fmt: skip


def instant(seconds: float) -> datetime:
    """Return seconds since 1970 as an aware instant."""
    return datetime.fromtimestamp(seconds, UTC)


def period_start(granularity: Granularity, ordinal: int) -> float:
    """Return a period's first instant, seconds since 1970."""
    return Period(granularity, ordinal).start.timestamp()


def _ordered(events: pl.DataFrame) -> pl.DataFrame:
    """Return events in time order with `us`, microseconds since 1970; bulk days are left out."""
    value = pl.col(VALUE).fill_null(1.0) if VALUE in events.columns else pl.lit(1.0)
    frame = events.with_columns(
        pl.col(USER_ID).cast(pl.String),
        pl.col(ITEM_ID).cast(pl.String),
        pl.col(EVENT_TIME).cast(pl.Datetime("us")).dt.timestamp("us").alias("us"),
        pl.col(KIND).cast(pl.String).fill_null(str(Kind.VIEW)),
        value.cast(pl.Float64).alias(VALUE),
    ).sort("us", USER_ID, ITEM_ID, maintain_order=True)
    return with_bulk_days(frame).filter(~pl.col(IS_BULK_DAY)).drop(IS_BULK_DAY)


def _items(frame: pl.DataFrame, texts: pl.DataFrame | None) -> pl.DataFrame:
    """Return item_id and text of the items that have events and a text, in catalogue order."""
    seen = frame.select(pl.col(ITEM_ID).unique().sort())
    if texts is None and TEXT not in frame.columns:
        return seen.with_columns(pl.col(ITEM_ID).alias(TEXT))
    known = (
        (frame if texts is None else texts)
        .drop_nulls(TEXT)
        .unique(ITEM_ID, keep="first", maintain_order=True)
        .select(pl.col(ITEM_ID).cast(pl.String), pl.col(TEXT).cast(pl.String).str.strip_chars())
    )
    return seen.join(known, on=ITEM_ID, maintain_order="left")


def period_ordinals(time_E: F64, granularity: Granularity) -> I64:
    """Return the ordinal of each instant's period; instants are seconds since 1970."""
    return ordinals_of_days(granularity, np.floor(time_E / DAY_S).astype(np.int64))
