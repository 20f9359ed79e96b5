"""Follows users' bursts beside their forecasts, store to store: a bucket's state, changes and sums.

Where no row before the last close changed since, a bucket goes on from its stored state; else it
is followed from the first period on, which gives the same. Between two closes only users whose
rows changed are followed anew; what they add to the sums waits for the next close. Online rows go
first, the state and the position last, so that a retry finds what a cut call left undone.

Shape suffixes: U = users, T = periods.
"""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from services.core import schema as names
from services.core.burst_follow import follow
from services.core.burst_forecasts import KnownBursts, known_from
from services.core.burst_state import Bools, BurstModel, BurstState, Moved
from services.core.bursts import new_state
from services.core.periods import Period, period_from_name
from services.core.trajectories import TrajectoryBatch
from services.forecaster.burst_rows import (
    Stamp,
    change_rows,
    moved_from_json,
    moved_to_json,
    state_of,
    state_rows,
)
from services.store.frames import unpublished_rows
from services.store.ports import EventTables, FeatureWriter
from services.store.shares import content_digest


def position_name(granularity: names.Granularity, space_id: str, bucket: int) -> str:
    """Return the document that holds a bucket's position and sums."""
    return f"bursts_{granularity}_{space_id}_{bucket:04}"


@dataclass(slots=True, kw_only=True)
class BucketBursts:
    """The bursts of one bucket's users at one close."""

    features: FeatureWriter
    tables: EventTables
    tenant: str
    bucket: int
    model: BurstModel
    made_at: Period
    stamp: Stamp
    # Rows of closed periods: at least the columns that `_digest` takes.
    rows: pl.DataFrame
    is_full: bool
    # False: only some users of the bucket are followed, those whose rows changed since this close.
    is_all: bool = True
    _held: pl.DataFrame = field(init=False)
    _resumed_at: int | None = field(init=False)
    _moved: dict[int, Moved] = field(init=False)
    _states: list[pl.DataFrame] = field(default_factory=list, init=False)
    _changes: list[pl.DataFrame] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Find out whether the stored state can go on."""
        said = self.tables.read_state(self.tenant, self._name) if self.is_all else {}
        self._resumed_at, self._moved = None, {}
        if not self.is_full and said and self._goes_on(said):
            self._resumed_at = int(said["last"])
            self._moved = moved_from_json(said["moved"])
            view = names.burst_state_view(self.stamp.granularity, self.stamp.space_id)
            self._held = self.features.read_offline(self.tenant, view, self.bucket)
            if not self._is_whole(self._resumed_at):
                self._resumed_at, self._moved = None, {}
        if self._resumed_at is None:
            view = names.bursts_by_period_view(self.stamp.granularity, self.stamp.space_id)
            self._held = self.features.read_offline(self.tenant, view, self.bucket)

    def take(self, users: list[str], batch: TrajectoryBatch) -> KnownBursts:
        """Follow some users up to the close; return what their forecasts need.

        Args:
            users: ids, ascending.
            batch: their trajectories; the last column is the close's period.
        """
        first = self.made_at.ordinal - batch.mask_UT.shape[1] + 1
        state, asked_UT = new_state(self.model, len(users), first), None
        rest = batch
        if self._resumed_at is not None and first <= self._resumed_at:
            state = self._resumed(users, self._resumed_at + 1)
            rest = _later(batch, self._resumed_at + 1 - first)
        elif self._resumed_at is None:
            asked_UT = self._asked(users, first, batch.mask_UT.shape[1])
        followed = follow(self.model, state, rest, asked_UT=asked_UT)
        for period, moved in followed.moved.items():
            before = self._moved.get(period)
            self._moved[period] = moved if before is None else before + moved
        self._states.append(state_rows(users, followed.state, self.stamp))
        self._changes.append(change_rows(followed.changes, users, self.model, self.stamp))
        return known_from(followed.state, batch)

    def finish(self) -> None:
        """Publish what changed, then keep state and position."""
        place = self.stamp.granularity, self.stamp.space_id
        made = pl.concat(self._changes) if self._changes else self._held.clear()
        changes = made if self._resumed_at is not None else unpublished_rows(made, self._held)
        if len(changes):
            touched = made.filter(pl.col(names.USER_ID).is_in(changes[names.USER_ID].implode()))
            newest = touched.sort(names.USER_ID, names.LAST_PERIOD).unique(
                names.USER_ID, keep="last", maintain_order=True
            )
            online = newest.drop(names.PERIOD, names.KNOWN_TIME)
            self.features.write_online(self.tenant, names.bursts_view(*place), online)
            view = names.bursts_by_period_view(*place)
            part = f"{self.made_at.name}-{content_digest(changes)}"
            self.features.append_offline(self.tenant, view, self.bucket, part, changes)
        if self._states:
            view, states = names.burst_state_view(*place), pl.concat(self._states)
            # One part, replaced: only the newest state goes on.
            part = "state" if self.is_all else f"state-{content_digest(states)}"
            self.features.append_offline(self.tenant, view, self.bucket, part, states)
        if not self.is_all:
            return
        position = {
            "digest": _digest(self.rows, self.made_at),
            "last": self.made_at.ordinal,
            "model_version": self.stamp.model_version,
            "moved": moved_to_json(self._moved),
        }
        self.tables.write_state(self.tenant, self._name, position)

    @property
    def _name(self) -> str:
        return position_name(self.stamp.granularity, self.stamp.space_id, self.bucket)

    def _goes_on(self, said: dict[str, Any]) -> bool:
        """Tell whether nothing that the state was made from changed since."""
        last = Period(self.stamp.granularity, int(said["last"]))
        return (
            said["model_version"] == self.stamp.model_version
            and last <= self.made_at
            and said["digest"] == _digest(self.rows, last)
        )

    def _is_whole(self, last: int) -> bool:
        """Tell whether the stored states are of that close, and of every user who needs one."""
        close = Period(self.stamp.granularity, last)
        needed = self.rows.filter(pl.col(names.PERIOD_START) <= close.start)[names.USER_ID].unique()
        held = self._held.filter(
            (pl.col(names.LAST_PERIOD) == close.name)
            & (pl.col(names.MODEL_VERSION) == self.stamp.model_version)
        )
        return bool(needed.is_in(held[names.USER_ID].implode()).all())

    def _resumed(self, users: list[str], period: int) -> BurstState:
        """Return the users' states; those who are new have a new one."""
        index = pl.DataFrame({names.USER_ID: users}).with_row_index("row")
        rows = self._held.join(index, on=names.USER_ID).sort("row")
        if len(rows) == len(users):
            return state_of(rows, period)
        fresh = new_state(self.model, len(users), period)
        if not len(rows):
            return fresh
        held, at = state_of(rows, period), rows["row"].to_numpy()
        arrays = {}
        for name in BurstState.__slots__:
            if name != "period":
                arrays[name] = getattr(fresh, name).copy()
                arrays[name][at] = getattr(held, name)
        return replace(fresh, **arrays)

    def _asked(self, users: list[str], first: int, columns: int) -> Bools:
        """Return the closes whose published rows must be told of again, in case they are untrue now."""
        asked_UT = np.zeros((len(users), columns), bool)
        row_of = {user: row for row, user in enumerate(users)}
        for user, name in self._held.select(names.USER_ID, names.PERIOD).iter_rows():
            column = period_from_name(self.stamp.granularity, name).ordinal - first
            if user in row_of and 0 <= column < columns:
                asked_UT[row_of[user], column] = True
        return asked_UT


def _later(batch: TrajectoryBatch, column: int) -> TrajectoryBatch:
    return TrajectoryBatch(
        vec_UTD=batch.vec_UTD[:, column:], mask_UT=batch.mask_UT[:, column:],
        count_UT=batch.count_UT[:, column:],
    )  # fmt: skip


def _digest(rows: pl.DataFrame, last: Period) -> str:
    """Return what tells whether a row up to a close was published anew."""
    said = rows.filter(pl.col(names.PERIOD_START) <= last.start).select(
        names.USER_ID, names.PERIOD_START, names.COMPUTED_TIME
    )
    hashed = said.sort(names.USER_ID, names.PERIOD_START).hash_rows().to_numpy()
    return hashlib.sha256(hashed.tobytes()).hexdigest()[:32]
