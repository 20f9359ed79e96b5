"""The split: where the origins stand, what is true after them, which part of it is asked.

    train      events before the first origin, strictly
    origins    starts of full periods, every K-th; states there are from events strictly before
    truth      the distinct items of a user in the H periods from the origin
    slices     all: every item · new: those the user never had · warm: those that somebody had
               before the origin · cold: those first seen in the 30 days before it, or after it ·
               cold_in_all: the same truths, but searched for in the ranking of all items
    user       parts of `warm` by active periods of the user before the origin, in thirds, and by
    slices     periods since the last active one

A slice limits truth and candidates alike (but for cold_in_all): `cold` is recall among cold items.
An item first seen inside the horizon always has an event there, so `all` and `cold` know more than
anyone could at the origin, and differ from `warm` by that.

Shape suffixes: U = users, N = items, A = users asked.
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
from services.evaluation.matrices import incidence

SLICES = ("all", "new", "warm", "cold", "cold_in_all")
# Parts of this slice, by user.
SPLIT_BY_USER = "warm"
ACTIVITY = ("activity_none", "activity_low", "activity_mid", "activity_high")
GAPS = ("gap_1", "gap_2_3", "gap_4_plus")
COLD_DAYS = 30.0
# Origins of the validation block, as many as there is room for.
VALIDATION_ORIGINS = 4
# Periods before the first origin that training needs.
LEAST_PERIODS = 6


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
    # Origins before the first one that choose the baselines' constants; their truths end before it.
    validation: tuple[int, ...]

    def origins_of(self, horizon: int) -> tuple[int, ...]:
        """Return the origins whose whole horizon lies in full periods."""
        return tuple(origin for origin in self.origins if origin + horizon - 1 <= self.last)

    def start(self, ordinal: int) -> float:
        """Return a period's first instant, seconds since 1970."""
        return period_start(self.granularity, ordinal)

    def until_first_origin(self) -> "Split":
        """Return the split whose origins are the validation block: nothing later is in it."""
        return Split(
            granularity=self.granularity, first=self.first, origins=self.validation,
            last=self.origins[0] - 1, validation=(),
        )  # fmt: skip


def make_split(data: Dataset, origins: int, horizons: tuple[int, ...], every: int = 1) -> Split:
    """Place the origins in the last `origins * every` periods that the data cover to their end.

    Raises:
        InvalidArgument: too few full periods, or a horizon longer than the test block.
    """
    if every < 1:
        raise InvalidArgument("every", f"{every} periods between origins; at least 1")
    # The last event's own period counts as full only where the data reach its last hour.
    newest = period_at(data.granularity, instant(float(data.time_E[-1])))
    is_full = newest.end.timestamp() - data.time_E[-1] <= 3600.0
    last = newest.ordinal if is_full else newest.ordinal - 1
    first = int(data.period_E[0])
    block = origins * every
    first_origin = last - block + 1
    if first_origin - first < LEAST_PERIODS:
        raise InvalidArgument(
            "origins",
            f"{origins} leave {max(first_origin - first, 0)} full periods to train on, at least "
            f"{LEAST_PERIODS} are needed; ask for fewer, or for shorter periods",
        )
    if max(horizons) > block:
        raise InvalidArgument(
            "horizons",
            f"{max(horizons)} is longer than the {block} periods of the origins; ask for more",
        )
    room = (first_origin - first) // 2
    validation = range(first_origin - every, first_origin - room - 1, -every)[:VALIDATION_ORIGINS]
    return Split(
        granularity=data.granularity,
        first=first,
        origins=tuple(range(first_origin, last + 1, every)),
        last=last,
        validation=tuple(sorted(validation)) or (first_origin - 1,),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginView:
    """What is known at an origin, and who did what after it."""

    # Its ordinal.
    origin: int
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
    # Of ACTIVITY and of GAPS, for each of `users`; a gap of -1: no past.
    activity_A: I64
    gap_A: I64

    def truth_of(self, name: str, horizon: int, users_A: I64) -> sparse.csr_matrix:
        """Return what a slice asks of some users [A, N]."""
        truth_AN = self.truth_UN[horizon][users_A]
        match name:
            case "new":
                truth_AN = truth_AN - truth_AN.multiply(self.had_UN[users_A])
            case "warm":
                truth_AN = truth_AN.multiply(self.is_warm_N[None, :])
            case "cold" | "cold_in_all":
                truth_AN = truth_AN.multiply(self.is_cold_N[None, :])
        truth_AN = sparse.csr_matrix(truth_AN)
        truth_AN.eliminate_zeros()
        return truth_AN


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
            truth[horizon] = incidence(data.between(now, split.start(origin + horizon)))
    asked = sum(truth.values())
    users = np.flatnonzero(np.diff(asked.indptr)) if truth else np.zeros(0, np.int64)
    if len(users) > user_limit:
        rng = np.random.default_rng([seed, origin])
        users = np.sort(rng.choice(users, user_limit, replace=False))
    active_U, last_U = _activity(past)
    return OriginView(
        origin=origin,
        now=now,
        past=past,
        had_UN=incidence(past),
        is_warm_N=first_seen_N < now,
        is_cold_N=first_seen_N >= now - COLD_DAYS * DAY_S,
        truth_UN=truth,
        users=users,
        activity_A=_thirds(active_U[users]),
        gap_A=np.where(active_U[users] > 0, np.searchsorted([2, 4], origin - last_U[users], "right"), -1),
    )  # fmt: skip


def first_seen(data: Dataset) -> F64:
    """Return each item's first event, seconds since 1970; inf where there is none."""
    seen_N = np.full(data.item_count, np.inf)
    np.minimum.at(seen_N, data.item_ix_E, data.time_E)
    return seen_N


def _activity(past: Dataset) -> tuple[I64, I64]:
    """Return each user's number of active periods, and the last of them."""
    periods = int(past.period_E.max(initial=0)) + 1
    user, period = np.divmod(np.unique(past.user_ix_E * periods + past.period_E), periods)
    last_U = np.zeros(past.user_count, np.int64)
    np.maximum.at(last_U, user, period)
    return np.bincount(user, minlength=past.user_count), last_U


def _thirds(active_A: I64) -> I64:
    """Return 0 for no past, else 1, 2 or 3 by thirds of those who have one; equals stay together."""
    has = active_A > 0
    if not has.any():
        return np.zeros(len(active_A), np.int64)
    edges = np.quantile(active_A[has], [1 / 3, 2 / 3], method="lower")
    return np.where(has, 1 + np.searchsorted(edges, active_A, "left"), 0)
