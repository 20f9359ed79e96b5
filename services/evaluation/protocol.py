"""The split: where the origins stand, what is true after them, which part of it is asked.

    train      events before the first origin, strictly
    origins    the starts of the last N full periods; states there are from events strictly before
    truth      the distinct items of a user in the H periods from the origin
    slices     all: every item · new: those the user never had · warm: those that somebody had
               before the origin · cold: those first seen in the 30 days before it, or after it

A slice limits truth and candidates alike: `cold` is recall among cold items.

Shape suffixes: U = users, N = items, B = users of a chunk, E = events.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.core.dataset import Dataset, instant, period_start
from services.core.errors import InvalidArgument
from services.core.periods import period_at
from services.core.pooling import DAY_S, F64, I64
from services.core.schema import Granularity

SLICES = ("all", "new", "warm", "cold")
COLD_DAYS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Where the origins stand. Ordinals are of the dataset's granularity."""

    granularity: Granularity
    # First ordinal with events.
    first: int
    # Ascending.
    origins: tuple[int, ...]
    # Last full period.
    last: int
    # Periods before the first origin that choose the baselines' constants.
    validation: tuple[int, ...]

    def origins_of(self, horizon: int) -> tuple[int, ...]:
        """Return the origins whose whole horizon lies in full periods."""
        return tuple(origin for origin in self.origins if origin + horizon - 1 <= self.last)

    def start(self, ordinal: int) -> float:
        """Return a period's first instant, seconds since 1970."""
        return period_start(self.granularity, ordinal)


def make_split(data: Dataset, origins: int, horizons: tuple[int, ...]) -> Split:
    """Place the origins: the last `origins` periods that the data cover to their end.

    Raises:
        InvalidArgument: too few full periods.
    """
    # The last event's own period counts as full only where the data reach its last hour.
    newest = period_at(data.granularity, instant(float(data.time_E[-1])))
    is_full = newest.end.timestamp() - data.time_E[-1] <= 3600.0
    last = newest.ordinal if is_full else newest.ordinal - 1
    first = int(data.period_E[0])
    first_origin = last - origins + 1
    if first_origin - first < 6:
        raise InvalidArgument(
            "origins",
            f"{origins} leave {max(first_origin - first, 0)} full periods to train on, at least 6 "
            "are needed; ask for fewer, or for shorter periods",
        )
    if max(horizons) > origins:
        raise InvalidArgument(
            "horizons", f"{max(horizons)} is longer than the {origins} origins; ask for more"
        )
    return Split(
        granularity=data.granularity,
        first=first,
        origins=tuple(range(first_origin, last + 1)),
        last=last,
        validation=tuple(range(first_origin - 2, first_origin)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginView:
    """What is known at an origin, and who did what after it."""

    now: float
    past: Dataset
    # 1 where the user had the item before.
    had_UN: sparse.csr_matrix
    # Somebody had it before.
    is_warm_N: NDArray[np.bool_]
    is_cold_N: NDArray[np.bool_]
    # By horizon.
    truth_UN: dict[int, sparse.csr_matrix]
    # Users with a truth at any horizon, ascending.
    users: I64

    def allowed(self, name: str, users_B: I64) -> NDArray[np.bool_]:
        """Return which items [B, N] a slice ranks and asks."""
        shape = (len(users_B), len(self.is_warm_N))
        match name:
            case "new":
                is_new_BN: NDArray[np.bool_] = self.had_UN[users_B].toarray() == 0
                return is_new_BN
            case "warm":
                return np.broadcast_to(self.is_warm_N, shape)
            case "cold":
                return np.broadcast_to(self.is_cold_N, shape)
        return np.ones(shape, bool)


def view_at(
    data: Dataset, split: Split, origin: int, horizons: tuple[int, ...], *, first_seen_N: F64,
    user_limit: int, seed: int,
) -> OriginView:  # fmt: skip
    """Cut the data at an origin. More than `user_limit` users are sampled."""
    now = split.start(origin)
    past = data.before(now)
    truth = {}
    for horizon in horizons:
        if origin + horizon - 1 <= split.last:
            future = data.between(now, split.start(origin + horizon))
            truth[horizon] = incidence(future)
    asked = sum(truth.values())
    users = np.flatnonzero(np.diff(asked.indptr))
    if len(users) > user_limit:
        rng = np.random.default_rng([seed, origin])
        users = np.sort(rng.choice(users, user_limit, replace=False))
    return OriginView(
        now=now,
        past=past,
        had_UN=incidence(past),
        is_warm_N=first_seen_N < now,
        is_cold_N=first_seen_N >= now - COLD_DAYS * DAY_S,
        truth_UN=truth,
        users=users,
    )


def incidence(data: Dataset) -> sparse.csr_matrix:
    """Return 1 for every (user, item) that has an event [U, N]."""
    ones = np.ones(data.event_count)
    shape = (data.user_count, data.item_count)
    matrix = sparse.csr_matrix((ones, (data.user_ix_E, data.item_ix_E)), shape=shape)
    matrix.data[:] = 1.0
    return matrix


def first_seen(data: Dataset) -> F64:
    """Return each item's first event, seconds since 1970; inf where there is none."""
    seen_N = np.full(data.item_count, np.inf)
    np.minimum.at(seen_N, data.item_ix_E, data.time_E)
    return seen_N
