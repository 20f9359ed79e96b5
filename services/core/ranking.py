"""Scores items for users: one function in training, evaluation and gateway.

    score(u, j) = discovery                            where the user never had j
                  logaddexp(discovery + s, repeat)     where the user had j
    discovery   = q . x_j + p_j + z_u . B f_j
    q           = q0 + sum_h Q_h g_h + M2 silu(M1 [g, log weights, log activity] + m)
    g_h         = S_h / (W_h + m_h), what the user had, pooled with half-life h
    f_j         = [log share_jw of each window, log age of the item], scaled near one
    p_j         = sum_w c_w log(share_jw + floor) + n2 . tanh(N1 f_j + n)
    z_u         = logs of the user's weights and activity, of the shortest and longest half-life
    repeat      = log sum_h a_h exp(x_j . g_h) r_jh / (A_h + k_h)
                  + (d + x_j . d') 2 ** (-age_uj / recent) + e q . x_j + f + f' log(1 + A_last)

S, W, A, r are the rank state's query sums, query weights, activity and repeat counts, aged from
`state_time` to `now` by 2 ** (-age / half_life); age_uj is the time since the user last had j. g
and d' say from an item's vector whether and how soon it is had again, so they hold for items that
training never saw. A user without state has discovery alone. A mixture of repetition and discovery
beats adding a repeat term to one score; s lets a world without repeats put down what was had.

Shape suffixes: U = users, N = items, D = width, H = half-lives, W = popularity windows,
R = (user, item) pairs, F = W + 1 features of an item, Z = (D + 2) H inputs, K = hidden units.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import DAY_S, F64, I64, RankStates
from services.core.records import F32

NEVER = -np.inf
# Brings log shares and log counts near one in size.
LOG_SHARE_SHIFT, LOG_SCALE = 9.0, 3.0
# Default of what is added to a share before its logarithm.
POPULARITY_FLOOR = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemStats:
    """Popularity of each item in catalogue order."""

    # Decayed share of all events, one column per window. A column sums to 1, or is zero: no events.
    share_NW: F32
    # Seconds since 1970 of each item's first event; inf where nobody had it yet.
    first_time_N: F64

    def take(self, rows: NDArray[np.integer] | list[int]) -> "ItemStats":
        """Return the statistics of some items, in the order asked."""
        return ItemStats(share_NW=self.share_NW[rows], first_time_N=self.first_time_N[rows])

    def joined(self, others: "ItemStats") -> "ItemStats":
        """Return both's, these first."""
        return ItemStats(
            share_NW=np.concatenate([self.share_NW, others.share_NW]),
            first_time_N=np.concatenate([self.first_time_N, others.first_time_N]),
        )


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
    # M1, m, M2.
    query_in_ZK: F32
    query_hidden_K: F32
    query_out_KD: F32
    # c.
    popularity_weight_W: F32
    # N1, n, n2.
    popularity_in_FK: F32
    popularity_hidden_K: F32
    popularity_out_K: F32
    # B: how a user's activity moves the weight of popularity and age; 4 rows, see z.
    popularity_user_4F: F32
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
    # s.
    repeat_discovery_shift: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores and their parts; see the module's formula."""

    score_UN: F32
    # q . x_j.
    interest_UN: F32
    # p_j + z_u . B f_j.
    popularity_UN: F32
    # -inf where the user never had the item.
    repeat_UN: F32


def popularity_shares(
    item_ix_E: I64, time_E: F64, now: float, item_count: int, half_lives_days: tuple[float, ...]
) -> ItemStats:
    """Return decayed event shares at `now` (seconds since 1970), and first times.

    Ageing all events alike cancels out of a share.
    """
    first_time_N = np.full(item_count, np.inf)
    np.minimum.at(first_time_N, item_ix_E, time_E)
    columns = []
    for half_life in half_lives_days:
        decay_E = np.exp2(-(now - time_E) / (half_life * DAY_S))
        pop_N = np.bincount(item_ix_E, weights=decay_E, minlength=item_count)
        columns.append(pop_N / max(pop_N.sum(), 1e-300))
    return ItemStats(
        share_NW=np.stack(columns, axis=1).astype(np.float32), first_time_N=first_time_N
    )


def query_vectors(states: RankStates, ranker: Ranker, now: float) -> F32:
    """Return q for each user [U, D], not normalised. Older states shrink towards q0."""
    fade_UH = _fade(states, ranker, now)
    sums_UHD = states.query_sums_UHD * fade_UH[:, :, None]
    weights_UH = states.query_weights_UH * fade_UH
    prior_UH = np.maximum(weights_UH + ranker.query_prior_H, 1e-12)
    pooled_UHD = (sums_UHD / prior_UH[:, :, None]).astype(np.float32)
    query_UD = np.einsum("uhd,hde->ue", pooled_UHD, ranker.query_HDD, optimize=True)
    activity_UH = states.activity_UH * fade_UH
    input_UZ = np.concatenate(
        [pooled_UHD.reshape(len(fade_UH), -1), _logs(weights_UH), _logs(activity_UH)], axis=1
    )
    hidden_UK = input_UZ @ ranker.query_in_ZK + ranker.query_hidden_K
    hidden_UK *= 1.0 / (1.0 + np.exp(-hidden_UK))
    biased_UD: F32 = query_UD + ranker.query_bias_D + hidden_UK @ ranker.query_out_KD
    return biased_UD.astype(np.float32)


def item_features(stats: ItemStats, floor: float, now: float) -> F32:
    """Return f [N, F]: logarithms of shares and of age in days, brought near one in size.

    An item that nobody had yet is of age 0.
    """
    is_had_N = np.isfinite(stats.first_time_N)
    age_N = np.where(is_had_N, now - np.where(is_had_N, stats.first_time_N, now), 0.0) / DAY_S
    log_NW = (np.log(stats.share_NW + floor) + LOG_SHARE_SHIFT) / LOG_SCALE
    log_age_N1 = np.log1p(np.maximum(age_N, 0.0))[:, None] / LOG_SCALE - 1.0
    features_NF: F32 = np.concatenate([log_NW, log_age_N1], axis=1).astype(np.float32)
    return features_NF


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
    popularity_UN = _popularity(states, stats, ranker, now, fade_UH=fade_UH)
    score_UN = interest_UN + popularity_UN
    repeat_UN = np.full(interest_UN.shape, NEVER, np.float32)
    had = states.repeat_user_ix_R, states.repeat_item_ix_R
    repeat_UN[had] = _repeat_scores(
        states, items_ND, ranker, now, fade_UH=fade_UH, interest_R=interest_UN[had]
    )
    score_UN[had] = np.logaddexp(score_UN[had] + ranker.repeat_discovery_shift, repeat_UN[had])
    return Scores(
        score_UN=score_UN,
        interest_UN=interest_UN,
        popularity_UN=popularity_UN,
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
        query_in_ZK=np.zeros(((width + 2) * half_lives, 1), np.float32),
        query_hidden_K=np.zeros(1, np.float32),
        query_out_KD=np.zeros((1, width), np.float32),
        popularity_weight_W=np.full(windows, 1.0 / windows, np.float32),
        popularity_in_FK=np.zeros((windows + 1, 1), np.float32),
        popularity_hidden_K=np.zeros(1, np.float32),
        popularity_out_K=np.zeros(1, np.float32),
        popularity_user_4F=np.zeros((4, windows + 1), np.float32),
        popularity_floor=POPULARITY_FLOOR,
        repeat_weight_H=np.full(half_lives, 1.0 / half_lives, np.float32),
        repeat_prior_H=np.ones(half_lives, np.float32),
        repeat_item_DH=np.zeros((width, half_lives), np.float32),
        repeat_recent_weight=0.0,
        repeat_recent_item_D=np.zeros(width, np.float32),
        repeat_recent_half_life_days=7.0,
        repeat_interest_weight=0.0,
        repeat_bias=0.0,
        repeat_activity_weight=0.0,
        repeat_discovery_shift=0.0,
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


def _popularity(
    states: RankStates, stats: ItemStats, ranker: Ranker, now: float, *, fade_UH: F64
) -> F32:
    features_NF = item_features(stats, ranker.popularity_floor, now)
    hidden_NK = np.tanh(features_NF @ ranker.popularity_in_FK + ranker.popularity_hidden_K)
    log_share_NW = np.log(stats.share_NW + ranker.popularity_floor)
    alike_N = log_share_NW @ ranker.popularity_weight_W + hidden_NK @ ranker.popularity_out_K
    ends = [0, -1]
    user_U4 = np.concatenate(
        [
            _logs((states.query_weights_UH * fade_UH)[:, ends]),
            _logs((states.activity_UH * fade_UH)[:, ends]),
        ],
        axis=1,
    )
    popularity_UN: F32 = alike_N + user_U4 @ ranker.popularity_user_4F @ features_NF.T
    return popularity_UN.astype(np.float32)


def _logs(values_UH: F64) -> F64:
    return np.log1p(values_UH) / LOG_SCALE


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
