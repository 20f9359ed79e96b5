"""From events and item vectors to interest vectors and rank states: pure functions of arrays.

Shape suffixes: E = events, N = item vectors (rows), P = (user, period) pairs, U = users, D = width,
H = half-lives, R = (user, item) pairs.

Everything here sums in float64 and per user, so that a user's result does not depend on who
shares the batch.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from services.core.records import F32
from services.core.schema import Kind

if TYPE_CHECKING:  # the gateway reads this module's names and has no scipy
    from scipy import sparse

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DAY_S = 86_400.0
# Repeats count once per ISO week, whatever the granularity served: a basket is not ten tastes.
WEEK_S = 7 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingConfig:
    """How events become vectors. Stored in the model folder."""

    # Weight of one event, by kind.
    kind_weights: dict[str, float] = field(
        default_factory=lambda: {
            Kind.VIEW: 0.3, Kind.CLICK: 0.5, Kind.LIKE: 1.0, Kind.SAVE: 1.0,
            Kind.SHARE: 1.0, Kind.RATING: 1.0, Kind.PURCHASE: 1.0,
        }
    )  # fmt: skip
    # An item's weight in a period is (sum of its events' weights) ** this, in (0, 1].
    repetition_power: float = 0.5
    # Half-lives of the rank state, days, ascending.
    half_lives_days: tuple[float, ...] = (21.0, 84.0, 420.0)
    # Repeat items kept per user, most recent first.
    repeat_limit: int = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledPeriods:
    """Interest vectors, ordered by user, then period."""

    user_ix_P: I64
    period_P: I64
    # Unit norm.
    vec_PD: F32
    event_count_P: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class RankStates:
    """What ranking needs of many users (see core/ranking.py). Repeats go by user, then item row."""

    query_sums_UHD: F32
    query_weights_UH: F32
    activity_UH: F32
    # Seconds since 1970: each user's newest event.
    state_time_U: F64
    repeat_user_ix_R: I64
    # Row of the item in catalogue order.
    repeat_item_ix_R: I64
    repeat_counts_RH: F32
    # Seconds since 1970.
    repeat_last_times_R: I64

    @property
    def user_count(self) -> int:
        """Users held."""
        return len(self.state_time_U)


def event_weights(kind_E: NDArray[np.str_], value_E: F64, config: PoolingConfig) -> F64:
    """Return each event's weight, > 0: its kind's; for purchases times log2(1 + quantity)."""
    weight_E = np.zeros(len(kind_E))
    for kind, weight in config.kind_weights.items():
        weight_E[kind_E == str(kind)] = weight
    bought_E = kind_E == str(Kind.PURCHASE)
    weight_E[bought_E] *= np.log2(1.0 + np.clip(value_E[bought_E], 1.0, 64.0))
    return weight_E


def pool_periods(
    user_ix_E: I64, period_E: I64, item_row_E: I64, weight_E: F64, items_ND: F32,
    config: PoolingConfig,
) -> PooledPeriods:  # fmt: skip
    """Pool each user's events of each period into one unit vector.

    v = normalise(sum_items (sum_events w) ** repetition_power * x_item)

    Args:
        user_ix_E: user rows, in any order; the other columns go with them.
        period_E: period ordinals.
        item_row_E: rows of `items_ND`.
        weight_E: event weights, > 0.
        items_ND: unit-norm item vectors.
        config: pooling constants.

    Returns:
        One row per (user, period) that has events, but for one whose items cancel out exactly.
    """
    from scipy import sparse

    order = np.lexsort((item_row_E, period_E, user_ix_E))
    user, period, row = user_ix_E[order], period_E[order], item_row_E[order]
    new_pair = _starts(user, period)
    new_item = new_pair | _starts(row)
    starts = np.flatnonzero(new_item)
    if not len(starts):
        empty = np.zeros(0, np.int64)
        return PooledPeriods(
            user_ix_P=empty, period_P=empty, vec_PD=np.zeros((0, items_ND.shape[1]), np.float32),
            event_count_P=empty,
        )  # fmt: skip
    # Events arrive in any order, and float sums depend on it: sort ties by weight.
    weight = np.add.reduceat(weight_E[_stable_ties(order, starts, weight_E)], starts)
    pair_starts = np.flatnonzero(new_pair)
    pair = np.cumsum(new_pair)[starts] - 1
    pool = sparse.csr_matrix(
        (weight**config.repetition_power, (pair, row[starts])),
        shape=(len(pair_starts), len(items_ND)),
    )
    vec_PD = np.asarray(pool @ items_ND.astype(np.float64))
    norm_P = np.linalg.norm(vec_PD, axis=1)
    count_P = np.diff(np.append(pair_starts, len(user)))
    kept = norm_P > 1e-12
    return PooledPeriods(
        user_ix_P=user[pair_starts][kept],
        period_P=period[pair_starts][kept],
        vec_PD=(vec_PD[kept] / norm_P[kept, None]).astype(np.float32),
        event_count_P=count_P[kept],
    )


def pool_rank_states(
    user_ix_E: I64, time_E: F64, item_row_E: I64, item_ix_E: I64, weight_E: F64, items_ND: F32,
    user_count: int, config: PoolingConfig,
) -> RankStates:  # fmt: skip
    """Pool each user's whole history into what ranking needs, as of that user's newest event.

    With d = 2 ** (-(state_time - t) / half_life) for each half-life:
    query sums = sum_e d w x; query weights = sum_e d w; activity = sum over the user's active weeks
    of d at the week's last event; repeat counts = the same over the weeks that hold the item.

    Args:
        user_ix_E: user rows in [0, user_count). A user without events gets zeros and state_time 0.
        time_E: seconds since 1970.
        item_row_E: rows of `items_ND` (the item version in force at the event).
        item_ix_E: rows of the catalogue.
        weight_E: event weights.
        items_ND: unit-norm item vectors.
        user_count: U.
        config: pooling constants.
    """
    order = np.lexsort((weight_E, item_row_E, time_E, user_ix_E))
    user, time, row, item = user_ix_E[order], time_E[order], item_row_E[order], item_ix_E[order]
    half_life_H = np.asarray(config.half_lives_days) * DAY_S
    state_time_U = _newest(user, time, user_count)
    decay_EH = np.exp2(-(state_time_U[user] - time)[:, None] / half_life_H)
    sums_UHD = np.empty((user_count, len(half_life_H), items_ND.shape[1]), np.float32)
    weights_UH = np.empty((user_count, len(half_life_H)), np.float32)
    items_64 = items_ND.astype(np.float64)
    for h in range(len(half_life_H)):
        decayed = _decayed(user, row, weight_E[order] * decay_EH[:, h], (user_count, len(items_ND)))
        sums_UHD[:, h] = decayed @ items_64
        weights_UH[:, h] = np.asarray(decayed.sum(axis=1)).ravel()
    week = np.floor((time + 3 * DAY_S) / WEEK_S).astype(np.int64)
    activity_UH = _decayed_last(user, week, np.zeros_like(week), decay_EH, user_count)[0]
    _, repeat_user, repeat_item, counts_RH, last_R = _repeats(user, week, item, time, decay_EH)
    kept = _most_recent(repeat_user, last_R, repeat_item, config.repeat_limit)
    return RankStates(
        query_sums_UHD=sums_UHD,
        query_weights_UH=weights_UH,
        activity_UH=activity_UH,
        state_time_U=state_time_U,
        repeat_user_ix_R=repeat_user[kept],
        repeat_item_ix_R=repeat_item[kept],
        repeat_counts_RH=counts_RH[kept],
        repeat_last_times_R=last_R[kept],
    )


def decayed_histories(
    user_ix_E: I64, time_E: F64, item_row_E: I64, weight_E: F64, now: float,
    shape_UN: tuple[int, int], config: PoolingConfig,
) -> "list[sparse.csr_matrix]":  # fmt: skip
    """Return, per half-life, weights [U, N] whose product with the item vectors is the query sums.

    They are decayed to `now`. Training needs them, for its item vectors still move. Arguments as
    for `pool_rank_states`.
    """
    ages_E = now - time_E
    return [
        _decayed(user_ix_E, item_row_E, weight_E * np.exp2(-ages_E / (half_life * DAY_S)), shape_UN)
        for half_life in config.half_lives_days
    ]


def _newest(user: I64, time: F64, user_count: int) -> F64:
    """Return each user's newest time; 0 for a user without events."""
    newest_U = np.full(user_count, -np.inf)
    np.maximum.at(newest_U, user, time)
    return np.where(np.isfinite(newest_U), newest_U, 0.0)


def _decayed(user: I64, row: I64, weight: F64, shape_UN: tuple[int, int]) -> "sparse.csr_matrix":
    from scipy import sparse

    return sparse.csr_matrix((weight, (user, row)), shape=shape_UN)


def _starts(*keys_E: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Mark each element that differs from the one before in any key."""
    new = np.zeros(len(keys_E[0]), bool)
    new[:1] = True
    for key in keys_E:
        new[1:] |= key[1:] != key[:-1]
    return new


def _stable_ties(order: I64, starts: I64, weight_E: F64) -> I64:
    """Reorder `order` by weight inside each group: its sum then has one order, however it came."""
    group = np.zeros(len(order), np.int64)
    group[starts[1:]] = 1
    return order[np.lexsort((weight_E[order], np.cumsum(group)))]


def _decayed_last(
    user: I64, week: I64, item: I64, decay_EH: F64, user_count: int
) -> tuple[F32, I64]:
    """Sum, per user, the decay of each (week, item)'s last event; events are in time order."""
    order = np.lexsort((np.arange(len(user)), item, week, user))
    starts = np.flatnonzero(_starts(user[order], week[order], item[order]))
    ends = np.append(starts[1:] - 1, len(order) - 1)
    last = order[ends]
    sums_UH = np.zeros((user_count, decay_EH.shape[1]))
    np.add.at(sums_UH, user[last], decay_EH[last])
    return sums_UH.astype(np.float32), last


def _repeats(
    user: I64, week: I64, item: I64, time: F64, decay_EH: F64
) -> tuple[I64, I64, I64, F32, I64]:
    """Sum, per user and item, the decay of the item's last event of each week."""
    by_week = np.lexsort((np.arange(len(user)), week, item, user))
    starts = np.flatnonzero(_starts(user[by_week], item[by_week], week[by_week]))
    ends = np.append(starts[1:] - 1, len(user) - 1)
    last = by_week[ends]
    pair_starts = np.flatnonzero(_starts(user[last], item[last]))
    counts_RH = np.add.reduceat(decay_EH[last], pair_starts, axis=0).astype(np.float32)
    pair_ends = np.append(pair_starts[1:] - 1, len(last) - 1)
    last_R = np.floor(time[last[pair_ends]]).astype(np.int64)
    return last, user[last[pair_starts]], item[last[pair_starts]], counts_RH, last_R


def _most_recent(user_R: I64, last_R: I64, item_R: I64, limit: int) -> I64:
    """Return rows that are among their user's `limit` most recent, in the given order."""
    order = np.lexsort((item_R, -last_R, user_R))
    starts = np.flatnonzero(_starts(user_R[order]))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return np.sort(order[rank < limit])
