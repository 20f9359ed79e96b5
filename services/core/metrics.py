"""Metrics of rankings, and intervals of any figure.

Shape suffixes: U = users, K = rank positions, S = samples (user, origin), M = resamples, C = columns.
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
    mean_C, low_C, high_C = bootstrap_means(value_S[:, None], user_S, rng, resamples)
    return Interval(mean=float(mean_C[0]), low=float(low_C[0]), high=float(high_C[0]))


def bootstrap_means(
    value_SC: F64, user_S: I64, rng: np.random.Generator, resamples: int = 1000
) -> tuple[F64, F64, F64]:
    """Return mean, low and high of each column; all columns share their draws."""
    rows_S, draws_MU, count_U = _draws(user_S, rng, resamples)
    sums_UC = np.zeros((len(count_U), value_SC.shape[1]))
    np.add.at(sums_UC, rows_S, value_SC)
    mean_MC = (draws_MU @ sums_UC) / np.maximum(draws_MU @ count_U, 1.0)[:, None]
    low_C, high_C = np.quantile(mean_MC, [0.025, 0.975], axis=0)
    return value_SC.mean(axis=0), low_C, high_C


def bootstrap_ratio(
    above_S: F64, below_S: F64, user_S: I64, rng: np.random.Generator, resamples: int = 1000
) -> tuple[float, float]:
    """Return the 95% interval of sum(above) / sum(below), users drawn whole."""
    rows_S, draws_MU, count_U = _draws(user_S, rng, resamples)
    above_U = np.bincount(rows_S, weights=above_S, minlength=len(count_U))
    below_U = np.bincount(rows_S, weights=below_S, minlength=len(count_U))
    ratio_M = (draws_MU @ above_U) / np.maximum(draws_MU @ below_U, 1e-300)
    low, high = np.quantile(ratio_M, [0.025, 0.975])
    return float(low), float(high)


def _draws(user_S: I64, rng: np.random.Generator, resamples: int) -> tuple[I64, F64, F64]:
    """Return each sample's user row, how often each resample drew each user, samples per user."""
    users, rows_S = np.unique(user_S, return_inverse=True)
    count_U = np.bincount(rows_S, minlength=len(users)).astype(np.float64)
    even = np.full(len(users), 1.0 / len(users))
    draws_MU = rng.multinomial(len(users), even, size=resamples).astype(np.float64)
    return rows_S, draws_MU, count_U
