"""Scores items for users: one function in training, evaluation and gateway.

    score(u, j) = logaddexp(discovery, repeat)
    discovery   = q . x_j + sum_w c_w log(share_jw + floor)
    repeat      = log sum_h a_h exp(x_j . g_h) r_jh / (A_h + k_h)
                  + (d + x_j . d') 2 ** (-age_j / recent) + e q . x_j + f + f' log(1 + A_last)
    q           = q0 + sum_h (S_h / (W_h + m_h)) Q_h

S, W, A, r are the rank state's query sums, query weights, activity and repeat counts, aged from
`state_time` to `now` by 2 ** (-age / half_life); age_j is the time since the user last had j. g and
d' say from an item's vector whether and how soon it is had again, so they hold for items that
training never saw. An item never had has no repeat term; a user without state has discovery alone.
A mixture of repetition and discovery beats adding a repeat term to one score.

Shape suffixes: U = users, N = items, D = width, H = half-lives, W = popularity windows,
R = (user, item) pairs.
"""

from dataclasses import dataclass

import numpy as np

from services.core.pooling import DAY_S, F64, I64, RankStates
from services.core.records import F32

NEVER = -np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemStats:
    """Popularity of each item in catalogue order."""

    # Decayed share of all events, one column per window. A column sums to 1, or is zero: no events.
    share_NW: F32


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranker:
    """Learned weights of the score; stored in the model folder."""

    # Half-lives of the rank state, days (PoolingConfig.half_lives_days).
    half_lives_days: tuple[float, ...]
    # Half-lives of the popularity windows, days.
    popularity_half_lives_days: tuple[float, ...]
    query_HDD: F32
    # Shrinks short histories, event weights, > 0.
    query_prior_H: F32
    # q0: what any user wants.
    query_bias_D: F32
    popularity_weight_W: F32
    # Added to each share before the logarithm.
    popularity_floor: float
    # a, > 0.
    repeat_weight_H: F32
    # k, > 0, active weeks.
    repeat_prior_H: F32
    # g.
    repeat_item_DH: F32
    # d.
    repeat_recent_weight: float
    # d'.
    repeat_recent_item_D: F32
    # Half-life of "recently", days.
    repeat_recent_half_life_days: float
    # e.
    repeat_interest_weight: float
    # f.
    repeat_bias: float
    # f'.
    repeat_activity_weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores and their parts; `score = logaddexp(interest + popularity, repeat)`."""

    score_UN: F32
    interest_UN: F32
    popularity_N: F32
    # -inf where the user never had the item.
    repeat_UN: F32


def popularity_shares(
    item_ix_E: I64, time_E: F64, now: float, item_count: int, half_lives_days: tuple[float, ...]
) -> ItemStats:
    """Return decayed event shares at `now` (seconds since 1970). Ageing all alike cancels out."""
    columns = []
    for half_life in half_lives_days:
        decay_E = np.exp2(-(now - time_E) / (half_life * DAY_S))
        pop_N = np.bincount(item_ix_E, weights=decay_E, minlength=item_count)
        columns.append(pop_N / max(pop_N.sum(), 1e-300))
    return ItemStats(share_NW=np.stack(columns, axis=1).astype(np.float32))


def query_vectors(states: RankStates, ranker: Ranker, now: float) -> F32:
    """Return q for each user [U, D], not normalised. Older states shrink towards q0."""
    fade_UH = _fade(states, ranker, now)
    sums_UHD = states.query_sums_UHD * fade_UH[:, :, None]
    weights_UH = states.query_weights_UH * fade_UH + ranker.query_prior_H
    pooled_UHD = (sums_UHD / np.maximum(weights_UH, 1e-12)[:, :, None]).astype(np.float32)
    query_UD = np.einsum("uhd,hde->ue", pooled_UHD, ranker.query_HDD, optimize=True)
    biased_UD: F32 = (query_UD + ranker.query_bias_D).astype(np.float32)
    return biased_UD


def score_items(
    states: RankStates, stats: ItemStats, items_ND: F32, ranker: Ranker, now: float
) -> Scores:
    """Score every item for every user; see the module's formula.

    Args:
        states: users' rank states; `repeat_item_ix_R` are rows of `items_ND`.
        stats: popularity, in the same order as `items_ND`.
        items_ND: unit-norm item vectors.
        ranker: learned weights.
        now: seconds since 1970, at or after every `state_time`.
    """
    fade_UH = _fade(states, ranker, now)
    interest_UN = query_vectors(states, ranker, now) @ items_ND.T
    popularity_N = (
        np.log(stats.share_NW + ranker.popularity_floor) @ ranker.popularity_weight_W
    ).astype(np.float32)
    repeat_UN = np.full(interest_UN.shape, NEVER, np.float32)
    user_R, item_R = states.repeat_user_ix_R, states.repeat_item_ix_R
    repeat_UN[user_R, item_R] = _repeat_scores(
        states, items_ND, ranker, now, fade_UH=fade_UH, interest_R=interest_UN[user_R, item_R]
    )
    discovery_UN = interest_UN + popularity_N
    return Scores(
        score_UN=np.logaddexp(discovery_UN, repeat_UN),
        interest_UN=interest_UN,
        popularity_N=popularity_N,
        repeat_UN=repeat_UN,
    )


def neutral_ranker(
    half_lives_days: tuple[float, ...], popularity_half_lives_days: tuple[float, ...], width: int
) -> Ranker:
    """Return a ranker that has learned nothing: decayed frequency, then popularity.

    It ignores the interest vector. Training starts from it.
    """
    half_lives, windows = len(half_lives_days), len(popularity_half_lives_days)
    return Ranker(
        half_lives_days=half_lives_days,
        popularity_half_lives_days=popularity_half_lives_days,
        query_HDD=np.zeros((half_lives, width, width), np.float32),
        query_prior_H=np.ones(half_lives, np.float32),
        query_bias_D=np.zeros(width, np.float32),
        popularity_weight_W=np.full(windows, 1.0 / windows, np.float32),
        popularity_floor=1e-6,
        repeat_weight_H=np.full(half_lives, 1.0 / half_lives, np.float32),
        repeat_prior_H=np.ones(half_lives, np.float32),
        repeat_item_DH=np.zeros((width, half_lives), np.float32),
        repeat_recent_weight=0.0,
        repeat_recent_item_D=np.zeros(width, np.float32),
        repeat_recent_half_life_days=7.0,
        repeat_interest_weight=0.0,
        repeat_bias=0.0,
        repeat_activity_weight=0.0,
    )


def top_items(score_N: F32, k: int) -> I64:
    """Return rows of the `k` best scores, best first, equal scores in catalogue order.

    An item scored -inf is never returned.
    """
    k = min(k, int(np.isfinite(score_N).sum()))
    if k <= 0:
        return np.zeros(0, np.int64)
    # Every item that ties with the k-th competes; the stable sort keeps their order.
    threshold = np.partition(score_N, len(score_N) - k)[len(score_N) - k]
    candidates = np.flatnonzero(score_N >= threshold)
    return candidates[np.argsort(-score_N[candidates], kind="stable")][:k]


def _repeat_scores(
    states: RankStates, items_ND: F32, ranker: Ranker, now: float, *, fade_UH: F64, interest_R: F32
) -> F64:
    user_R, item_R = states.repeat_user_ix_R, states.repeat_item_ix_R
    activity_UH = states.activity_UH * fade_UH
    weight_NH = ranker.repeat_weight_H * np.exp(items_ND @ ranker.repeat_item_DH)
    rate_RH = (
        states.repeat_counts_RH * fade_UH[user_R] / (activity_UH + ranker.repeat_prior_H)[user_R]
    )
    rate_R = (weight_NH[item_R] * rate_RH).sum(axis=1)
    age_R = np.maximum(now - states.repeat_last_times_R, 0.0)
    recent_R = np.exp2(-age_R / (ranker.repeat_recent_half_life_days * DAY_S))
    recent_weight_N = ranker.repeat_recent_weight + items_ND @ ranker.repeat_recent_item_D
    user_gate_U = ranker.repeat_bias + ranker.repeat_activity_weight * np.log1p(activity_UH[:, -1])
    score_R: F64 = (
        np.log(np.maximum(rate_R, 1e-30))
        + recent_weight_N[item_R] * recent_R
        + ranker.repeat_interest_weight * interest_R
        + user_gate_U[user_R]
    )
    return score_R


def _fade(states: RankStates, ranker: Ranker, now: float) -> F64:
    age_U = np.maximum(now - states.state_time_U, 0.0)
    return np.exp2(-age_U[:, None] / (np.asarray(ranker.half_lives_days) * DAY_S))
