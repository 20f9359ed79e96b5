"""Columns of files: which of the usual names mean what, and ids for events that have none."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.core.errors import InvalidArgument
from services.core.schema import (
    CATEGORIES,
    EVENT_ID,
    EVENT_TIME,
    ITEM_ID,
    KIND,
    TEXT,
    TITLE,
    UPDATED_TIME,
    USER_ID,
    VALUE,
    Kind,
)

# Name -> names that mean it, the first that is there counts. Compared in lower case, with - and
# spaces as underscores.
ALIASES = {
    EVENT_ID: ("event_id", "id"),
    USER_ID: ("user_id", "user", "uid", "customer_id", "household_id"),
    ITEM_ID: ("item_id", "item", "sku", "product_id"),
    EVENT_TIME: ("event_time", "ts", "timestamp", "time", "date"),
    KIND: ("kind", "event", "event_type", "action"),
    VALUE: ("value", "rating", "quantity", "amount"),
    TITLE: ("title", "item_title", "name"),
    TEXT: ("text", "item_text", "description"),
    CATEGORIES: ("categories", "category"),
    UPDATED_TIME: ("updated_time", "updated_at"),
}
# What separates categories within one text.
CATEGORY_SEPARATOR = "|"

U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column of a file holds what."""

    # Our name -> the file's.
    names: dict[str, str]
    # True: the file describes items and holds no events.
    is_items: bool


def recognise(columns: Iterable[str], kind: Kind | None) -> Columns:
    """Find our columns among a file's.

    Raises:
        InvalidArgument: a required column is missing; says which names are accepted.
    """
    given: dict[str, str] = {}
    for name in columns:
        given.setdefault(name.strip().lower().replace("-", "_").replace(" ", "_"), name)
    names = {
        ours: given[alias]
        for ours, aliases in ALIASES.items()
        for alias in [next((alias for alias in aliases if alias in given), "")]
        if alias
    }
    if ITEM_ID not in names and USER_ID not in names and "id" in given:
        names[ITEM_ID] = names.pop(EVENT_ID)  # an id alone is the item's
    describes_items = ITEM_ID in names and (TEXT in names or TITLE in names)
    is_items = describes_items and USER_ID not in names and EVENT_TIME not in names
    required = (ITEM_ID,) if is_items else (USER_ID, ITEM_ID, EVENT_TIME)
    missing = [name for name in required if name not in names]
    if missing:
        wanted = "; ".join(f"{name} (or {', '.join(ALIASES[name][1:])})" for name in missing)
        raise InvalidArgument(
            "columns", f"there is no {wanted}; there are {', '.join(given.values())}"
        )
    if not is_items and KIND not in names and kind is None:
        raise InvalidArgument(
            "columns",
            "there is no kind (or event, event_type, action); say one with --kind purchase",
        )
    return Columns(names=names, is_items=is_items)


def categories_of(column: pl.Series) -> pl.Series:
    """Return a column as lists of names; a text holds one, or several between separators."""
    if column.dtype == pl.List(pl.String):
        return column
    if isinstance(column.dtype, pl.List):
        return column.cast(pl.List(pl.String), strict=False)
    text = column.cast(pl.String, strict=False)
    parts = text.fill_null("").str.split(CATEGORY_SEPARATOR)
    return parts.list.eval(
        pl.element().str.strip_chars().filter(pl.element().str.strip_chars() != "")
    )


@dataclass(slots=True)
class EventIds:
    """Makes ids of events that have none; one per file.

    An id is a hash of (user, item, kind, time, value) and of how many such rows the file had
    before: a file imported again gives the same ids, and so does the same row in another file.
    """

    # Key of (user, item, kind, time, value) -> rows so far. Grows with the file's distinct rows.
    _seen: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(
            schema={"high": pl.UInt64, "low": pl.UInt64, "before": pl.UInt32}
        )
    )

    def fill(self, events: pl.DataFrame) -> pl.DataFrame:
        """Return parsed events with an id wherever there was a null, in the file's order."""
        blank = events[EVENT_ID].is_null()
        if not blank.any():
            return events
        rows = events.filter(blank)
        high, low = (
            _mix(rows, np.uint64(0x9E3779B97F4A7C15)),
            _mix(rows, np.uint64(0xC2B2AE3D27D4EB4F)),
        )
        number = self._number(pl.DataFrame({"high": high, "low": low}))
        ids = pl.DataFrame({"high": high, "low": low, "n": number}).select(
            pl.format("{}-{}-{}", "high", "low", "n").alias(EVENT_ID)
        )
        place = np.flatnonzero(blank.to_numpy())
        return events.with_columns(events[EVENT_ID].scatter(place, ids[EVENT_ID]))

    def _number(self, keys: pl.DataFrame) -> pl.Series:
        """Return how many rows of the same key came before each, and remember these."""
        columns = ["high", "low"]
        again = keys.is_duplicated()
        own = pl.Series([0], dtype=pl.UInt32).new_from_index(0, keys.height)
        if again.any():  # most files repeat few rows, and numbering is slow
            repeated = keys.filter(again).select(
                pl.int_range(pl.len(), dtype=pl.UInt32).over(columns)
            )
            own = own.scatter(np.flatnonzero(again.to_numpy()), repeated.to_series())
        before = keys.join(self._seen, on=columns, how="left", maintain_order="left")["before"]
        counts = keys.group_by(columns).len().rename({"len": "before"})
        self._seen = pl.concat([self._seen, counts])
        if before.null_count() < len(before):
            self._seen = self._seen.group_by(columns).agg(pl.col("before").sum())
        return own + before.fill_null(0)


def _mix(rows: pl.DataFrame, seed: np.uint64) -> U64:
    """Return a 64-bit hash of each row, the same on every machine and in every version."""
    value_N = rows[VALUE].to_numpy().astype(np.float64) + 0.0  # -0.0 is 0.0
    parts = [
        *(_hashes(rows[name]) for name in (USER_ID, ITEM_ID, KIND)),
        rows[EVENT_TIME].dt.timestamp("us").to_numpy().astype(np.int64).view(np.uint64),
        value_N.view(np.uint64),
    ]
    mixed_N = np.full(rows.height, seed, np.uint64)
    for part_N in parts:
        mixed_N = _scramble(mixed_N ^ _scramble(part_N + seed))
    return mixed_N


def _scramble(x_N: U64) -> U64:
    """Spread every bit over all (the finaliser of SplitMix64)."""
    x_N = (x_N ^ (x_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x_N = (x_N ^ (x_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x_N ^ (x_N >> np.uint64(31))


def _hashes(column: pl.Series) -> U64:
    distinct = column.unique()
    digests = [
        int.from_bytes(blake2b(str(name).encode(), digest_size=8).digest(), "little")
        for name in distinct
    ]
    table = pl.DataFrame({"name": distinct, "digest": pl.Series(digests, dtype=pl.UInt64)})
    joined = column.to_frame("name").join(table, on="name", how="left", maintain_order="left")
    return joined["digest"].to_numpy()
