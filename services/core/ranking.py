"""Scores items for users: one function in training, evaluation and gateway.

    score(u, j) = discovery                            where the user never had j
                  logaddexp(discovery + s, repeat)     where the user had j
    discovery   = q . x_j + p_j + z_u . B f_j
    q           = q0 + sum_h Q_h g_h + M2 silu(M1 [g, log weights, log activity] + m)
    g_h         = S_h / (W_h + m_h), what the user had, pooled with half-life h
    f_j         = [log share_jw of each window, log age of the item], scaled near one
    p_j         = sum_w c_w log(share_jw + floor) + n2 . tanh(N1 f_j + n)
    z_u         = logs of the user's weights and activity, of the shortest and longest half-life
    repeat      how the user's own past speaks for j: core/repeats.py

S, W, A are the rank state's query sums, query weights and activity, aged from `state_time` to `now`
by 2 ** (-age / half_life). A user without state has discovery alone. A mixture of repetition and
discovery beats adding a repeat term to one score; s lets a world without repeats put down what was
had.

Shape suffixes: U = users, N = items, D = width, H = half-lives, W = popularity windows,
F = W + 1 features of an item, Z = (D + 2) H inputs, K = hidden units.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import DAY_S, F64, I64, RankStates
from services.core.ranker import LOG_SCALE, LOG_SHARE_SHIFT, Ranker
from services.core.records import F32
from services.core.repeats import logs, repeat_scores

NEVER = -np.inf


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
    part = item_ix_E, time_E
    return popularity_of_parts([part], now, item_count, half_lives_days)


def popularity_of_parts(
    parts: Iterable[tuple[I64, F64]],
    now: float,
    item_count: int,
    half_lives_days: tuple[float, ...],
) -> ItemStats:
    """Return popularity_shares of events that come in parts, of which one is held at a time."""
    sum_NW = np.zeros((item_count, len(half_lives_days)))
    first_time_N = np.full(item_count, np.inf)
    for item_ix_E, time_E in parts:
        np.minimum.at(first_time_N, item_ix_E, time_E)
        for column, half_life in enumerate(half_lives_days):
            decay_E = np.exp2(-(now - time_E) / (half_life * DAY_S))
            sum_NW[:, column] += np.bincount(item_ix_E, weights=decay_E, minlength=item_count)
    total_W = np.maximum(sum_NW.sum(axis=0), 1e-300)
    return ItemStats(share_NW=(sum_NW / total_W).astype(np.float32), first_time_N=first_time_N)


def first_times(item_ix_E: I64, time_E: F64, item_count: int) -> F64:
    """Return each item's first event, seconds since 1970; inf where there is none."""
    first_time_N = np.full(item_count, np.inf)
    np.minimum.at(first_time_N, item_ix_E, time_E)
    return first_time_N


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
        [pooled_UHD.reshape(len(fade_UH), -1), logs(weights_UH), logs(activity_UH)], axis=1
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
    features_NF = item_features(stats, ranker.popularity_floor, now)
    popularity_UN = _popularity(states, features_NF, ranker, fade_UH=fade_UH)
    score_UN = interest_UN + popularity_UN
    repeat_UN = np.full(interest_UN.shape, NEVER, np.float32)
    had = states.repeat_user_ix_R, states.repeat_item_ix_R
    repeat_UN[had] = repeat_scores(
        states, items_ND, ranker, now,
        features_NF=features_NF, fade_UH=fade_UH, interest_R=interest_UN[had],
    )  # fmt: skip
    score_UN[had] = np.logaddexp(score_UN[had] + ranker.repeat_discovery_shift, repeat_UN[had])
    return Scores(
        score_UN=score_UN,
        interest_UN=interest_UN,
        popularity_UN=popularity_UN,
        repeat_UN=repeat_UN,
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


def _popularity(states: RankStates, features_NF: F32, ranker: Ranker, *, fade_UH: F64) -> F32:
    hidden_NK = np.tanh(features_NF @ ranker.popularity_in_FK + ranker.popularity_hidden_K)
    log_share_NW = LOG_SCALE * features_NF[:, :-1] - LOG_SHARE_SHIFT
    alike_N = log_share_NW @ ranker.popularity_weight_W + hidden_NK @ ranker.popularity_out_K
    ends = [0, -1]
    user_U4 = np.concatenate(
        [
            logs((states.query_weights_UH * fade_UH)[:, ends]),
            logs((states.activity_UH * fade_UH)[:, ends]),
        ],
        axis=1,
    )
    popularity_UN: F32 = alike_N + user_U4 @ ranker.popularity_user_4F @ features_NF.T
    return popularity_UN.astype(np.float32)


def _fade(states: RankStates, ranker: Ranker, now: float) -> F64:
    age_U = np.maximum(now - states.state_time_U, 0.0)
    return np.exp2(-age_U[:, None] / (np.asarray(ranker.half_lives_days) * DAY_S))
