"""How a user's own past speaks for what they had before: a hazard of having it again.

    repeat = log sum_h a_h exp(x_j . g_h) r_jh / (A_h + k_h)
             + (d + x_j . d') 2 ** (-age / recent) + e q . x_j + f + f' log(1 + A_last)
             + v . tanh(N y + n) - t (log share_j + 9)
    y      = [f_j, P x_j, log(1 + r_jh), log(1 + A_h) / 3, log((r_jh + .1) / (A_h + 1)),
              log(1 + age) / 3, 2 ** (-age / recent), 2 ** (-age / 28)]

r_jh are decayed counts of the weeks with the item, A_h of the user's active weeks; age is the time
since the user last had it, in days; f_j are the item's popularity and age (ranking.item_features).
The first two lines are a rate, and how it differs soon after; the net bends them: bread is due
within days and detergent is not, and what is on offer is had again sooner. g, d' and P read that
from the item's vector, so it holds for items that training never saw. t is not learned: likelihood
wants it at 0. It spreads what is recommended over more of the catalogue; share_j is of the longest
window.

Shape suffixes: U = users, N = items, H = half-lives, I = items that somebody had, R = (user, item) pairs,
F = item features, Y = inputs of the net.
"""

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import DAY_S, F64, RankStates
from services.core.ranker import LOG_SCALE, Ranker
from services.core.records import F32

# Half-life of the net's slower memory of the last time, days.
SLOW_DAYS = 28.0


def repeat_scores(
    states: RankStates, items_ND: F32, ranker: Ranker, now: float, *, features_NF: F32,
    fade_UH: F64, interest_R: F32,
) -> F64:  # fmt: skip
    """Return the repeat of every pair of the states [R]; see the module's formula.

    Args:
        states: users' rank states; `repeat_item_ix_R` are rows of `items_ND`.
        items_ND: unit-norm item vectors.
        ranker: learned weights.
        now: seconds since 1970.
        features_NF: ranking.item_features at `now`.
        fade_UH: what ages each user's state to `now`.
        interest_R: q . x of the pairs.
    """
    # What depends on the item alone is computed once an item, not once a pair, for items had only.
    had_I, item_R = np.unique(states.repeat_item_ix_R, return_inverse=True)
    items_ID, user_R = items_ND[had_I], states.repeat_user_ix_R
    activity_UH = states.activity_UH * fade_UH
    counts_RH = states.repeat_counts_RH * fade_UH[user_R]
    weight_IH = ranker.repeat_weight_H * np.exp(items_ID @ ranker.repeat_item_DH)
    rate_RH = counts_RH / (activity_UH + ranker.repeat_prior_H)[user_R]
    rate_R = (weight_IH[item_R] * rate_RH).sum(axis=1)
    age_days_R = np.maximum(now - states.repeat_last_times_R, 0.0) / DAY_S
    recent_R = np.exp2(-age_days_R / ranker.repeat_recent_half_life_days)
    recent_weight_I = ranker.repeat_recent_weight + items_ID @ ranker.repeat_recent_item_D
    tail_I = ranker.repeat_tail_weight * LOG_SCALE * features_NF[had_I, -2]
    user_gate_U = ranker.repeat_bias + ranker.repeat_activity_weight * np.log1p(activity_UH[:, -1])
    of_item_IP = np.concatenate([features_NF[had_I], items_ID @ ranker.repeat_project_DP], axis=1)
    of_pair_RY = np.concatenate(
        [
            np.log1p(counts_RH),
            logs(activity_UH)[user_R],
            np.log((counts_RH + 0.1) / (activity_UH[user_R] + 1.0)),
            logs(age_days_R)[:, None],
            recent_R[:, None],
            np.exp2(-age_days_R / SLOW_DAYS)[:, None],
        ],
        axis=1,
    )
    hidden_IK = of_item_IP @ ranker.repeat_in_YK[: of_item_IP.shape[1]]
    of_pair_YK = ranker.repeat_in_YK[of_item_IP.shape[1] :]
    hidden_RK = hidden_IK[item_R] + of_pair_RY.astype(np.float32) @ of_pair_YK
    net_R = np.tanh(hidden_RK + ranker.repeat_hidden_K) @ ranker.repeat_out_K
    score_R: F64 = (
        np.log(np.maximum(rate_R, 1e-30))
        + recent_weight_I[item_R] * recent_R
        + ranker.repeat_interest_weight * interest_R
        + user_gate_U[user_R]
        + net_R
        - tail_I[item_R]
    )
    return score_R


def logs(values: NDArray[np.floating]) -> F64:
    """Return log(1 + values), brought near one in size."""
    scaled: F64 = np.log1p(values) / LOG_SCALE
    return scaled
