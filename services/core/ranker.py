"""What a ranker has learned: the weights of the formulas in ranking.py and repeats.py, as data.

Shape suffixes: D = width, H = half-lives, W = popularity windows, F = W + 1 features of an item,
Z = (D + 2) H inputs of the query net, Y = inputs of the repeat net, P = what it reads of an item's
vector, K = hidden units.
"""

from dataclasses import dataclass

import numpy as np

from services.core.records import F32

# Brings log shares and log counts near one in size.
LOG_SHARE_SHIFT, LOG_SCALE = 9.0, 3.0
# Default of what is added to a share before its logarithm.
POPULARITY_FLOOR = 1e-6


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
    # P, N, n, v of the repeat net; see core/repeats.py.
    repeat_project_DP: F32
    repeat_in_YK: F32
    repeat_hidden_K: F32
    repeat_out_K: F32
    # t: what an item had by few gains over one had by many.
    repeat_tail_weight: float
    # s.
    repeat_discovery_shift: float


def repeat_inputs(half_lives: int, windows: int, projected: int) -> int:
    """Return Y: item features, three logarithms per half-life, three of the age, the projection."""
    return (windows + 1) + 3 * half_lives + 3 + projected


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
        repeat_project_DP=np.zeros((width, 1), np.float32),
        repeat_in_YK=np.zeros((repeat_inputs(half_lives, windows, 1), 1), np.float32),
        repeat_hidden_K=np.zeros(1, np.float32),
        repeat_out_K=np.zeros(1, np.float32),
        repeat_tail_weight=0.0,
        repeat_discovery_shift=0.0,
    )
