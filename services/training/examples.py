"""Training examples of the ranker: each user's past at an origin, and what came after it.

Shape suffixes: U = users, N = items, H = half-lives, W = popularity windows, F = item features,
R = (user, item) pairs of the past, T = of the truth.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from services.core.dataset import Dataset, period_start, rank_states
from services.core.pooling import DAY_S, I64, PoolingConfig, decayed_histories
from services.core.ranker import POPULARITY_FLOOR
from services.core.ranking import item_features, popularity_shares
from services.core.records import F32


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """All users at one instant. Everything but `truth` is from events strictly before it."""

    # Decayed event weights [U, N] at the origin, one per half-life.
    histories_H: tuple[sparse.csr_matrix, ...]
    weights_UH: F32
    activity_UH: F32
    share_NW: F32
    # core.ranking.item_features.
    features_NF: F32
    # Periods since the item's first event, 0 within its first; -1 where nobody had it yet.
    age_N: I64
    # Rows of one user stand together: [repeat_ptr[u], repeat_ptr[u + 1]).
    repeat_ptr: I64
    repeat_item_ix_R: I64
    # Decayed to the origin.
    repeat_counts_RH: F32
    # Days since the user last had the item.
    repeat_age_days_R: F32
    # Items of the next periods, each once: rows of one user stand together.
    truth_ptr: I64
    truth_item_ix_T: I64


def make_origin(
    data: Dataset,
    period: int,
    pooling: PoolingConfig,
    popularity_half_lives_days: tuple[float, ...],
    popularity_floor: float = POPULARITY_FLOOR,
    ahead: int = 1,
) -> Origin:
    """Build the examples of the origin at a period's start; the truth is what follows it.

    Args:
        data: events; the caller has cut off what must not be seen.
        period: ordinal of the first period to predict.
        pooling: constants of the rank state.
        popularity_half_lives_days: windows.
        popularity_floor: added to each share.
        ahead: how many periods the truth spans; all of the next so many.
    """
    now = period_start(data.granularity, period)
    past = data.before(now)
    shape_UN = (data.user_count, data.item_count)
    dummy_N1 = np.zeros((data.item_count, 1), np.float32)
    states = rank_states(past, dummy_N1, pooling)
    histories = decayed_histories(
        past.user_ix_E, past.time_E, past.item_ix_E, past.weight_E, now, shape_UN, pooling
    )
    half_lives = np.asarray(pooling.half_lives_days) * DAY_S
    fade_UH = np.exp2(-(now - states.state_time_U)[:, None] / half_lives)
    stats = popularity_shares(
        past.item_ix_E, past.time_E, now, data.item_count, popularity_half_lives_days
    )
    next_period = data.where((data.period_E >= period) & (data.period_E < period + ahead))
    pairs = np.unique(next_period.user_ix_E * data.item_count + next_period.item_ix_E)
    rows = np.arange(data.user_count + 1)
    return Origin(
        histories_H=tuple(histories),
        weights_UH=(states.query_weights_UH * fade_UH).astype(np.float32),
        activity_UH=(states.activity_UH * fade_UH).astype(np.float32),
        share_NW=stats.share_NW,
        features_NF=item_features(stats, popularity_floor, now),
        age_N=_ages(past, period),
        repeat_ptr=np.searchsorted(states.repeat_user_ix_R, rows),
        repeat_item_ix_R=states.repeat_item_ix_R,
        repeat_counts_RH=(states.repeat_counts_RH * fade_UH[states.repeat_user_ix_R]).astype(
            np.float32
        ),
        repeat_age_days_R=((now - states.repeat_last_times_R) / DAY_S).astype(np.float32),
        truth_ptr=np.searchsorted(pairs // data.item_count, rows),
        truth_item_ix_T=pairs % data.item_count,
    )


def _ages(past: Dataset, period: int) -> I64:
    first_N = np.full(past.item_count, period)
    np.minimum.at(first_N, past.item_ix_E, past.period_E)
    return np.asarray(period - 1 - first_N, np.int64)


def rows_between(ptr: I64, users_B: I64) -> tuple[I64, I64]:
    """Return the rows of some users, and for each row which of the users (0..B-1) it belongs to."""
    counts_B = ptr[users_B + 1] - ptr[users_B]
    owner = np.repeat(np.arange(len(users_B)), counts_B)
    first = np.repeat(ptr[users_B] - np.concatenate([[0], np.cumsum(counts_B)[:-1]]), counts_B)
    return first + np.arange(len(owner)), owner
