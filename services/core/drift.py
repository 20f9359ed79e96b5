"""Do users' vectors and scores move more from period to period than they always did.

Each period is compared with the few before it, and that distance with the distances of the periods
before: a season or a holiday moves a population too, so what counts as much comes from the data's own
noise, in robust standard deviations. Sampling noise is taken off first, so that few users are no drift.
Means of vectors are compared: what moves users but leaves their mean where it was is not seen.

Shape suffixes: U = users of a period, D = width, T = periods, oldest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import F64
from services.core.records import F32

# Periods that one is compared with.
REFERENCE_PERIODS = 4
# Distances of earlier periods that say what is usual; fewer than the least say nothing.
USUAL_PERIODS, LEAST_USUAL = 12, 6
# Periods that a statement about the newest one rests on.
DRIFT_PERIODS = REFERENCE_PERIODS + USUAL_PERIODS + 1
# Above this many robust standard deviations it is drift, and the alerts of k8s/components/monitoring fire; see
# DECISIONS.md for how it was chosen.
DRIFT_LIMIT = 6.0
# Makes the median distance from the median a standard deviation, where noise is Gaussian.
_MAD_TO_SD = 1.4826
# Mean and standard deviation of the Kolmogorov-Smirnov distance of two samples of one law, in its unit.
_KS_MEAN, _KS_SD = 0.87, 0.26


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How unusual the newest period is."""

    # Robust standard deviations; None where there are too few periods to say.
    vectors: float | None
    scores: float | None


def drift_of(vec_TUD: Sequence[F32], score_TU: Sequence[F64]) -> Drift:
    """Return how unusual the newest of some consecutive periods is.

    Args:
        vec_TUD: each period's unit-norm vectors; users may differ from period to period.
        score_TU: each period's scores, of any unit.
    """
    return Drift(
        vectors=_unusual(*_vector_distances(vec_TUD)), scores=_unusual(*_score_distances(score_TU))
    )


def _vector_distances(vec_TUD: Sequence[F32]) -> tuple[F64, F64]:
    """Return the squared distance of each period's mean from that of the periods before it.

    Sampling noise is taken off; the second array is how large it was.
    """
    mean_TD = np.array([vec_UD.mean(axis=0, dtype=np.float64) for vec_UD in vec_TUD])
    count_T = np.array([len(vec_UD) for vec_UD in vec_TUD], np.float64)
    # Of unit vectors the variance, all components together, is 1 less the mean's squared length.
    noise_T = (1.0 - (mean_TD**2).sum(axis=1)) / count_T
    places = range(REFERENCE_PERIODS, len(vec_TUD))
    distances, noises = [], []
    for t in places:
        before = slice(t - REFERENCE_PERIODS, t)
        apart = mean_TD[t] - mean_TD[before].mean(axis=0)
        noise = noise_T[t] + noise_T[before].mean() / REFERENCE_PERIODS
        distances.append(float(apart @ apart) - noise)
        noises.append(noise)
    return np.array(distances), np.array(noises)


def _score_distances(score_TU: Sequence[F64]) -> tuple[F64, F64]:
    """Return the Kolmogorov-Smirnov distance of each period's scores from those before it.

    What samples of such sizes give by chance is taken off; the second array is how much that varies.
    """
    distances, noises = [], []
    for t in range(REFERENCE_PERIODS, len(score_TU)):
        before = np.concatenate(score_TU[t - REFERENCE_PERIODS : t])
        n, m = len(score_TU[t]), len(before)
        of_size = np.sqrt((n + m) / (n * m))
        distances.append(ks_distance(score_TU[t], before) - _KS_MEAN * of_size)
        noises.append(_KS_SD * of_size)
    return np.array(distances), np.array(noises)


def ks_distance(a_U: F64, b_U: F64) -> float:
    """Return the largest difference of two samples' distribution functions, in [0, 1]."""
    both: NDArray[np.float64] = np.concatenate([a_U, b_U])
    share_a, share_b = (
        np.searchsorted(np.sort(sample), both, side="right") / len(sample) for sample in (a_U, b_U)
    )
    return float(np.abs(share_a - share_b).max())


def _unusual(distance_T: F64, noise_T: F64) -> float | None:
    """Return how far the newest distance is from the usual ones, in robust standard deviations."""
    usual = distance_T[-1 - USUAL_PERIODS : -1]
    if len(usual) < LEAST_USUAL:
        return None
    middle = float(np.median(usual))
    spread = _MAD_TO_SD * float(np.median(np.abs(usual - middle)))
    # Never finer than the newest period's own sampling noise.
    return (float(distance_T[-1]) - middle) / max(spread, float(noise_T[-1]))
