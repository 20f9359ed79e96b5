"""Why an item is recommended: what of the user's history its score rests on.

For each item that the user had, the score is computed again as if they never had it; what lowers it
most is cited. The rank state holds decayed weeks of each item, not its events, so what an item adds
to the query sums is taken as its share of the weeks: w_rh = W_h c_rh / sum_r c_rh. Activity stays.
evaluation/reasons.py measures how true that is, by events that are really taken away.

Shape suffixes: K = items recommended, R = items the user had, H = half-lives, D = width, C = cited.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import I64, RankStates
from services.core.ranker import Ranker
from services.core.ranking import NEVER, ItemStats, score_items
from services.core.records import F32

# Items of a history that are tried, besides the recommended ones: those with most weight near them.
TRIED = 32
# Items cited, at most.
CITED = 3
# An item that lowers the score by less is not cited, nats.
LEAST_EFFECT = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """One item of the history that a score rests on."""

    # Row of the item.
    row: int
    # How much lower the score would be without it, nats, > 0.
    effect: float
    # Weeks with the item, each counted 2 ** (-age / the longest half-life), at `now`.
    week_count: float
    # Seconds since 1970.
    last_time: int


def cite(
    states: RankStates, row_K: I64, stats: ItemStats, items_ND: F32, ranker: Ranker, now: float
) -> tuple[tuple[Citation, ...], ...]:
    """Return what each recommended item rests on, strongest first; nothing where it is popularity.

    Args:
        states: one user's rank state; `repeat_item_ix_R` are rows of `items_ND`.
        row_K: the recommended items.
        stats: popularity of all items.
        items_ND: unit-norm item vectors.
        ranker: learned weights.
        now: seconds since 1970.
    """
    if not len(states.repeat_item_ix_R) or not len(row_K):
        return ((),) * len(row_K)
    tried_R = _tried(states, row_K, items_ND)
    effect_RK = removal_effects(states, tried_R, row_K, stats, items_ND, ranker, now)
    longest = ranker.half_lives_days[-1] * 86_400.0
    fade = float(np.exp2(-max(now - float(states.state_time_U[0]), 0.0) / longest))
    found = []
    for effect_R in effect_RK.T:
        best = np.argsort(-effect_R, kind="stable")[:CITED]
        found.append(
            tuple(
                Citation(
                    row=int(states.repeat_item_ix_R[tried_R[r]]),
                    effect=float(effect_R[r]),
                    week_count=float(states.repeat_counts_RH[tried_R[r], -1]) * fade,
                    last_time=int(states.repeat_last_times_R[tried_R[r]]),
                )
                for r in best
                if effect_R[r] >= LEAST_EFFECT
            )
        )
    return tuple(found)


def _tried(states: RankStates, row_K: I64, items_ND: F32) -> I64:
    vectors_RD = np.asarray(items_ND[states.repeat_item_ix_R])
    near_R = (vectors_RD @ np.asarray(items_ND[row_K]).T).max(axis=1)
    weight_R = states.repeat_counts_RH.mean(axis=1) * np.maximum(near_R, 0.0)
    weight_R[np.isin(states.repeat_item_ix_R, row_K)] = np.inf
    return np.argsort(-weight_R, kind="stable")[: TRIED + len(row_K)]


def removal_effects(
    states: RankStates, tried_R: I64, row_K: I64, stats: ItemStats, items_ND: F32,
    ranker: Ranker, now: float,
) -> F32:  # fmt: skip
    """Return how much lower the score of each item would be without each tried one [R, K]."""
    vectors_KD, of_K = np.asarray(items_ND[row_K]), stats.take(row_K)
    place_of = {int(row): place for place, row in enumerate(row_K)}
    had_K = np.asarray([place_of.get(int(row), -1) for row in states.repeat_item_ix_R], np.int64)
    with_all = score_items(_among(states, had_K), of_K, vectors_KD, ranker, now)
    without = without_each(states, tried_R, items_ND)
    alone = score_items(without, of_K, vectors_KD, ranker, now)
    # Without repeats a score is discovery alone.
    discovery_RK = alone.score_UN
    repeat_K = with_all.repeat_UN[0]
    is_had_K = repeat_K > NEVER
    moved_RK = ranker.repeat_interest_weight * (alone.interest_UN - with_all.interest_UN)
    repeat_RK = np.where(is_had_K, repeat_K + moved_RK, NEVER)
    own = had_K[tried_R]
    repeat_RK[np.flatnonzero(own >= 0), own[own >= 0]] = NEVER
    with_repeat_RK = np.logaddexp(discovery_RK + ranker.repeat_discovery_shift, repeat_RK)
    score_RK = np.where(repeat_RK > NEVER, with_repeat_RK, discovery_RK)
    effect_RK: F32 = (with_all.score_UN - score_RK).astype(np.float32)
    return effect_RK


def without_each(states: RankStates, tried_R: I64, items_ND: F32) -> RankStates:
    """Return one state for each tried item: the user's without it, and without repeats."""
    total_H = np.maximum(states.repeat_counts_RH.sum(axis=0), 1e-12)
    share_RH = states.repeat_counts_RH[tried_R] / total_H
    weights_RH = share_RH * states.query_weights_UH[0]
    vectors_RD = np.asarray(items_ND[states.repeat_item_ix_R[tried_R]])
    sums_RHD = states.query_sums_UHD[0] - weights_RH[:, :, None] * vectors_RD[:, None, :]
    count = len(tried_R)
    return replace(
        _without_repeats(states),
        query_sums_UHD=sums_RHD.astype(np.float32),
        query_weights_UH=(states.query_weights_UH - weights_RH).astype(np.float32),
        activity_UH=np.repeat(states.activity_UH, count, axis=0),
        state_time_U=np.repeat(states.state_time_U, count),
    )


def _without_repeats(states: RankStates) -> RankStates:
    return _kept(states, np.zeros(len(states.repeat_item_ix_R), bool))


def _among(states: RankStates, place_R: I64) -> RankStates:
    """Return the state with its repeats as places among the recommended items; -1 is not there."""
    kept = _kept(states, place_R >= 0)
    return replace(kept, repeat_item_ix_R=place_R[place_R >= 0])


def _kept(states: RankStates, mask_R: NDArray[np.bool_]) -> RankStates:
    return replace(
        states,
        repeat_user_ix_R=states.repeat_user_ix_R[mask_R],
        repeat_item_ix_R=states.repeat_item_ix_R[mask_R],
        repeat_counts_RH=states.repeat_counts_RH[mask_R],
        repeat_last_times_R=states.repeat_last_times_R[mask_R],
    )
