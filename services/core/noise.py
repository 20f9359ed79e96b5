"""Is it more than noise? Shares of counts by period, tested with the noise that the user shows.

A user's events come in clumps (baskets, sittings), so shares scatter more than independent draws
would. Tests are scaled by that scatter, estimated from the periods themselves and never below the
binomial one.

Shape suffixes: T = topics, P = periods, S = splits, K = findings.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import F64, I64

# Of a 95% interval, in standard deviations.
Z_95 = 1.959963984540054
# A variance below it is none.
_LEAST = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Tests:
    """What a test of each topic's share found."""

    # Standardised effect; its sign is the direction.
    z_T: F64
    # Two-sided.
    p_value_T: F64
    # First period after a change, a row of P; a trend has none: -1.
    split_T: I64


def share_interval(share: float, sample: float) -> tuple[float, float]:
    """Return a 95% interval of a share (Wilson's) that rests on `sample` independent draws."""
    if sample <= 0:
        return 0.0, 1.0
    z2 = Z_95**2
    centre = (share + z2 / (2 * sample)) / (1 + z2 / sample)
    half = (
        Z_95
        / (1 + z2 / sample)
        * math.sqrt(max(share * (1 - share), 0.0) / sample + z2 / (4 * sample**2))
    )
    return max(centre - half, 0.0), min(centre + half, 1.0)


def independent_draws(count_TP: F64, total_P: F64, weight_P: F64) -> tuple[float, F64]:
    """Return how many independent draws tell as much as these weighted counts.

    Kish's size of the weights, less the clumping.

    Returns:
        sample: by the scatter of all topics together.
        sample_T: of each topic by its own: the variance of a ratio of sums; never above Kish's.
    """
    total = float((weight_P * total_P).sum())
    if total <= 0:
        return 0.0, np.zeros(len(count_TP))
    kish = total**2 / float((weight_P**2 * total_P).sum())
    share_T = (count_TP * weight_P).sum(1) / total
    periods = int((total_P > 0).sum())
    if periods < 2:
        return kish, np.full(len(count_TP), kish)
    residual_TP = weight_P * (count_TP - share_T[:, None] * total_P)
    variance_T = (residual_TP**2).sum(1) / total**2 * periods / (periods - 1)
    binomial_T = share_T * (1 - share_T)
    sample_T = np.where(variance_T > _LEAST, binomial_T / np.maximum(variance_T, _LEAST), kish)
    clumping = variance_T.sum() * kish / max(float(binomial_T.sum()), _LEAST)
    return kish / max(clumping, 1.0), np.minimum(sample_T, kish)


def scatter(count_TP: F64, total_P: F64) -> F64:
    """Return how much more each share scatters than independent draws would; at least 1."""
    used_P = total_P > 0
    count_TP, total_P = count_TP[:, used_P], total_P[used_P]
    free = max(len(total_P) - 1, 1)
    scatter_T: F64 = np.maximum(_chi2(count_TP, total_P).sum(-1) / free, 1.0)
    return scatter_T


def trend_tests(count_TP: F64, total_P: F64) -> Tests:
    """Test each share for a trend: Cochran and Armitage's test, scaled by the scatter."""
    total = max(float(total_P.sum()), 1.0)
    time_P = np.arange(len(total_P), dtype=np.float64)
    away_P = time_P - float((total_P * time_P).sum()) / total
    share_T = count_TP.sum(1) / total
    spread = float((total_P * away_P**2).sum())
    variance_T = scatter(count_TP, total_P) * share_T * (1 - share_T) * spread
    z_T = (count_TP @ away_P) / np.sqrt(np.maximum(variance_T, _LEAST))
    z_T = np.where(variance_T > _LEAST, z_T, 0.0)
    return Tests(z_T=z_T, p_value_T=two_sided(z_T), split_T=np.full(len(z_T), -1, np.int64))


def change_tests(count_TP: F64, total_P: F64, shortest: int) -> Tests:
    """Find the one period from which on each share differs most, and test it for that choice.

    The scatter is that around one share, a change counted in: where clumps are few and large, the
    scatter that the best split leaves over passed one steady user in four as changed. The p-value
    is the best split's times the number of splits tried: never too small.

    Args:
        count_TP: events of each topic.
        total_P: events of the user.
        shortest: periods with events on either side, at least.
    """
    active_P = np.flatnonzero(total_P > 0)
    tried_S = active_P[shortest : len(active_P) - shortest + 1]
    none = Tests(
        z_T=np.zeros(len(count_TP)),
        p_value_T=np.ones(len(count_TP)),
        split_T=np.full(len(count_TP), -1, np.int64),
    )
    if not len(tried_S) or not len(count_TP):
        return none
    total = float(total_P.sum())
    sums_TP, totals_P = np.cumsum(count_TP, axis=1), np.cumsum(total_P)
    share_T1 = sums_TP[:, -1:] / total
    after_S = total - totals_P[tried_S - 1]
    variance_TS = (
        scatter(count_TP, total_P)[:, None]
        * (share_T1 * (1 - share_T1))
        * (after_S * (total - after_S) / total)
    )
    effect_TS = sums_TP[:, -1:] - sums_TP[:, tried_S - 1] - share_T1 * after_S
    z_TS = np.where(variance_TS > _LEAST, effect_TS / np.sqrt(np.maximum(variance_TS, _LEAST)), 0.0)
    best_T = np.argmax(np.abs(z_TS), axis=1)
    z_T = z_TS[np.arange(len(z_TS)), best_T]
    return Tests(
        z_T=z_T,
        p_value_T=np.minimum(two_sided(z_T) * len(tried_S), 1.0),
        split_T=tried_S[best_T],
    )


def two_sided(z_T: F64) -> F64:
    """Return the p-values of standard normal deviates."""
    return np.array([math.erfc(abs(z) / math.sqrt(2)) for z in z_T.tolist()])


def discoveries(p_value_K: F64, rate: float) -> NDArray[np.bool_]:
    """Return which findings stand where at most `rate` of those may be false (Benjamini, Hochberg)."""
    count = len(p_value_K)
    order = np.argsort(p_value_K, kind="stable")
    allowed = rate * np.arange(1, count + 1) / max(count, 1)
    passed = np.flatnonzero(p_value_K[order] <= allowed)
    stands_K = np.zeros(count, bool)
    if len(passed):
        stands_K[order[: passed[-1] + 1]] = True
    return stands_K


def evenness_p_value(count_P: I64) -> float:
    """Return the p-value of even counts (chi-squared, by Wilson and Hilferty)."""
    total, cells = float(count_P.sum()), len(count_P)
    if total <= 0 or cells < 2:
        return 1.0
    chi2 = float(((count_P - total / cells) ** 2).sum()) / (total / cells)
    free = cells - 1
    z = ((chi2 / free) ** (1 / 3) - (1 - 2 / (9 * free))) / math.sqrt(2 / (9 * free))
    return 0.5 * math.erfc(z / math.sqrt(2))


def concentration_p_value(inside: int, active: int, window: int, periods: int) -> float:
    """Return the chance that of `active` periods among `periods`, `inside` or more lie in a window.

    Args:
        inside: periods of the topic within the window.
        active: periods of the topic.
        window: periods of the user within the window.
        periods: periods of the user.
    """
    ways = math.comb(periods, active)
    most = min(active, window)
    good = sum(
        math.comb(window, hits) * math.comb(periods - window, active - hits)
        for hits in range(inside, most + 1)
    )
    return good / ways


def _chi2(count_TP: F64, total_P: F64) -> F64:
    """Return Pearson's statistic of each count against the topic's share of the whole."""
    share_T1 = count_TP.sum(1, keepdims=True) / max(float(total_P.sum()), 1.0)
    variance_TP = share_T1 * (1 - share_T1) * total_P
    chi2_TP = (count_TP - share_T1 * total_P) ** 2 / np.maximum(variance_TP, _LEAST)
    return np.where(variance_TP > _LEAST, chi2_TP, 0.0)
