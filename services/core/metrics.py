"""Metrics of rankings and forecasts, and their intervals.

Shape suffixes: U = users, K = rank positions, S = samples (user, origin), H = horizons, D = width,
M = resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import F64, I64


def rank_metrics(hit_UK: NDArray[np.bool_], truth_count_U: I64) -> tuple[F64, F64]:
    """Return each user's Recall@K and NDCG@K.

    Args:
        hit_UK: whether the item at each position, best first, is among the user's truths.
        truth_count_U: truths of each user, at least 1.

    Returns:
        recall_U: hits / min(K, truths).
        ndcg_U: sum of 1 / log2(position + 1) over hits, over its best possible sum.
    """
    positions = hit_UK.shape[1]
    gain_K = 1.0 / np.log2(np.arange(2, positions + 2))
    best_U = np.cumsum(gain_K)[np.minimum(truth_count_U, positions) - 1]
    recall_U = hit_UK.sum(axis=1) / np.minimum(truth_count_U, positions)
    return recall_U, (hit_UK * gain_K).sum(axis=1) / best_U


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and its 95% bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    value_S: F64, user_S: I64, rng: np.random.Generator, resamples: int = 1000
) -> Interval:
    """Return the mean of samples, with an interval from resampling users whole.

    A user's samples of many origins are not independent, so users are drawn, not samples.
    """
    users, row_S = np.unique(user_S, return_inverse=True)
    sum_U = np.bincount(row_S, weights=value_S, minlength=len(users))
    count_U = np.bincount(row_S, minlength=len(users)).astype(np.float64)
    draws_MU = rng.multinomial(len(users), np.full(len(users), 1.0 / len(users)), size=resamples)
    mean_M = (draws_MU @ sum_U) / np.maximum(draws_MU @ count_U, 1.0)
    low, high = np.quantile(mean_M, [0.025, 0.975])
    return Interval(mean=float(value_S.mean()), low=float(low), high=float(high))
