"""Metrics of rankings and forecasts, and their intervals.

Shape suffixes: U = users, K = rank positions, S = samples (user, origin), D = width, M = resamples,
C = columns, L = items.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import F64, I64
from services.core.records import F32

# Bounds the bootstrap's memory at this many times the users.
RESAMPLES_AT_ONCE = 100


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


# Of rank_figures, in order; each is named with its position: recall_at_10.
RANK_FIGURES = ("recall", "precision", "f1", "ndcg", "hit_rate", "mrr")


def rank_figures(
    hit_UK: NDArray[np.bool_], truth_count_U: I64, positions: tuple[int, ...]
) -> dict[str, F64]:
    """Return each user's figures at several depths of one ranking, by name: recall_at_10, ...

    Args:
        hit_UK: whether the item at each place, best first, is among the user's truths. Fewer
            places than a depth mean that there was nothing more to show.
        truth_count_U: truths of each user, at least 1.
        positions: depths.

    Returns:
        recall: hits / min(depth, truths). precision: hits / depth. f1: their harmonic mean.
        ndcg: discounted hits over their best possible sum. hit_rate: 1 with any hit.
        mrr: 1 / place of the first hit, 0 without one.
    """
    deepest = max(positions)
    gain_K = 1.0 / np.log2(np.arange(2, deepest + 2))
    ideal_K = np.cumsum(gain_K)
    hits_UK = np.cumsum(hit_UK, axis=1)
    gained_UK = np.cumsum(hit_UK * gain_K[: hit_UK.shape[1]], axis=1)
    # One past the end where there is no hit.
    first_U = np.where(hit_UK.any(axis=1), hit_UK.argmax(axis=1), deepest)
    figures: dict[str, F64] = {}
    for depth in positions:
        last = min(depth, hit_UK.shape[1]) - 1
        hits_U = hits_UK[:, last].astype(np.float64)
        findable_U = np.minimum(truth_count_U, depth)
        recall_U, precision_U = hits_U / findable_U, hits_U / depth
        values = (
            recall_U,
            precision_U,
            2.0 * recall_U * precision_U / np.maximum(recall_U + precision_U, 1e-300),
            gained_UK[:, last] / ideal_K[findable_U - 1],
            (hits_U > 0).astype(np.float64),
            np.where(first_U < depth, 1.0 / (first_U + 1.0), 0.0),
        )
        names = [f"{name}_at_{depth}" for name in RANK_FIGURES]
        figures.update(zip(names, values, strict=True))
    return figures


def self_information(count_L: I64) -> F64:
    """Return -log2 of each item's share of events, bits; one event is added to each item."""
    share_L: F64 = (count_L + 1.0) / (count_L.sum() + len(count_L))
    return -np.log2(share_L)


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
    mean_MC = resampled_means(value_SC, user_S, rng, resamples)
    low_C, high_C = np.quantile(mean_MC, [0.025, 0.975], axis=0)
    return value_SC.mean(axis=0), low_C, high_C


def resampled_means(
    value_SC: NDArray[np.floating], user_S: I64, rng: np.random.Generator, resamples: int = 1000
) -> F64:
    """Return each column's mean in each resample [M, C], users drawn whole and alike for all.

    The difference of two columns is therefore the paired difference of their methods.
    """
    order_S = np.argsort(user_S, kind="stable")
    starts_U = np.flatnonzero(np.diff(user_S[order_S], prepend=user_S[order_S[0]] - 1))
    sums_UC = np.add.reduceat(value_SC[order_S].astype(np.float64), starts_U, axis=0)
    count_U = np.diff(np.append(starts_U, len(user_S))).astype(np.float64)
    users = len(starts_U)
    mean_MC = np.empty((resamples, value_SC.shape[1]))
    for at in range(0, resamples, RESAMPLES_AT_ONCE):
        rows = min(RESAMPLES_AT_ONCE, resamples - at)
        drawn = rng.integers(users, size=(rows, users)) + np.arange(rows)[:, None] * users
        draws_MU = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
        draws_MU = draws_MU.astype(np.float64)
        mean_MC[at : at + rows] = (draws_MU @ sums_UC) / (draws_MU @ count_U)[:, None]
    return mean_MC


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastErrors:
    """How far forecasts were off; see `forecast_errors`."""

    # Share of the squared distance from the cross-user mean that is explained.
    r2: float
    # Per component.
    rmse: float
    mse: float
    # Mean cosine between forecast and truth.
    cosine: float
    # Mean negative log likelihood per component, nats.
    nll: float
    # Share of components inside the central 80% and 95% of the forecast.
    coverage_80: float
    coverage_95: float


def forecast_errors(truth_SD: F32, mean_SD: F32, scale_SD: F32, centre_D: F32) -> ForecastErrors:
    """Compare forecasts with what came.

    Args:
        truth_SD: unit vectors that came.
        mean_SD: forecast means.
        scale_SD: standard deviations, > 0.
        centre_D: the cross-user mean known when the forecasts were made.
    """
    error_SD = truth_SD.astype(np.float64) - mean_SD
    z_SD = np.abs(error_SD) / scale_SD
    mse = float((error_SD**2).mean())
    norms_S = np.linalg.norm(mean_SD, axis=1) * np.linalg.norm(truth_SD, axis=1)
    cosine_S = (truth_SD * mean_SD).sum(axis=1) / np.maximum(norms_S, 1e-12)
    return ForecastErrors(
        r2=1.0 - mse / float(((truth_SD.astype(np.float64) - centre_D) ** 2).mean()),
        rmse=float(np.sqrt(mse)),
        mse=mse,
        cosine=float(cosine_S.mean()),
        nll=float((0.5 * z_SD**2 + np.log(scale_SD) + 0.5 * np.log(2 * np.pi)).mean()),
        coverage_80=float((z_SD <= 1.2815515655).mean()),
        coverage_95=float((z_SD <= 1.9599639845).mean()),
    )
