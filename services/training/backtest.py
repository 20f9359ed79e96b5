"""Rolling-origin backtest: forecasts from close after close, against what came.

Shape suffixes: D = width, H = horizons, S = (user, close) samples, G = gap buckets.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import isotonic_regression

from services.core.calibration import GAPS, Calibration, gap_bucket
from services.core.forecast_metrics import Z80, Z95
from services.core.forecasts import Forecaster, typical_count
from services.core.pooling import F64, I64
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch

# Samples that a factor of a gap bucket needs; with fewer, the whole horizon's stands in.
ENOUGH = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors of one forecaster at one horizon."""

    user_S: I64
    # Periods since last active, and mean events of an active period, when the forecast was made.
    gap_S: I64
    count_S: F64
    error_SD: F32
    scale_SD: F32

    def widened(self, factor_S: F64) -> "Errors":
        """Return the same errors with variances times `factor_S`."""
        scale_SD = self.scale_SD * np.sqrt(factor_S)[:, None].astype(np.float32)
        return replace(self, scale_SD=scale_SD)

    def squared(self) -> F64:
        """Return each sample's mean squared error per component [S]."""
        squared_S: F64 = (self.error_SD.astype(np.float64) ** 2).mean(axis=1)
        return squared_S


def backtest(member: Forecaster, batch: TrajectoryBatch, cut: int, horizons: int) -> list[Errors]:
    """Forecast from closes whose targets lie at column `cut` or later.

    Closes before `cut` serve the longer horizons, every second one.

    Returns:
        Errors of each horizon 1..horizons that has targets.
    """
    periods = batch.mask_UT.shape[1]
    found: list[list[Errors]] = [[] for _ in range(horizons)]
    early = range(max(cut - horizons + 1, 2), cut, 2)
    for close in (*early, *range(max(cut, 2), periods)):
        past = batch.until(close)
        is_wanted_UT = batch.mask_UT[:, max(close, cut) : close + horizons]
        ready = np.flatnonzero(past.mask_UT.any(axis=1) & is_wanted_UT.any(axis=1))
        known = past.users(ready)
        ahead = list(range(1, min(horizons, periods - close) + 1))
        made = member.forecast(known, ahead)
        gap_U, count_U = known.gap_U(), typical_count(known)
        for h in ahead:
            if close + h - 1 < cut:
                continue
            row = np.flatnonzero(batch.mask_UT[ready, close + h - 1])
            found[h - 1].append(
                Errors(
                    user_S=ready[row], gap_S=gap_U[row], count_S=count_U[row],
                    error_SD=batch.vec_UTD[ready[row], close + h - 1] - made.means_UHD[row, h - 1],
                    scale_SD=made.scales_UHD[row, h - 1],
                )
            )  # fmt: skip
    width = batch.vec_UTD.shape[2]
    return [_joined(parts, width) for parts in found if parts]


def calibrate(errors_H: list[Errors]) -> Calibration:
    """Fit the factors with which 80% and 95% intervals hold what they say."""
    slope, count = _count_slope(errors_H[0])
    plain = Calibration(slope=slope, count=count)
    factor_HG = tuple(_by_gap(e.widened(plain.by_count(e.count_S)), e.gap_S) for e in errors_H)
    return replace(plain, factor_HG=factor_HG or ((1.0,) * len(GAPS),))


def _count_slope(errors: Errors) -> tuple[float, float]:
    """Return how the error goes with the user's mean count: the exponent, and the count at 1."""
    if len(errors.user_S) < ENOUGH:
        return 0.0, 1.0
    log_count_S = np.log(errors.count_S)
    z2_S = ((errors.error_SD / errors.scale_SD).astype(np.float64) ** 2).mean(axis=1)
    centre = float(log_count_S.mean())
    offset_S = log_count_S - centre
    spread = float((offset_S**2).sum())
    if spread < 1e-6:
        return 0.0, float(np.exp(centre))
    slope = float(offset_S @ np.log(np.maximum(z2_S, 1e-9)) / spread)
    return float(np.clip(slope, -1.0, 1.0)), float(np.exp(centre))


def _by_gap(errors: Errors, gap_S: I64) -> tuple[float, ...]:
    """Return a factor for each gap bucket, never less for a longer gap.

    A forecaster's own scale widens with the gap already; a factor that fell could undo that.
    """
    z_SD = np.abs(errors.error_SD / errors.scale_SD)
    bucket_S = gap_bucket(gap_S)
    whole = _factor(z_SD) if len(z_SD) else 1.0
    found_G = np.full(len(GAPS), whole)
    samples_G = np.bincount(bucket_S, minlength=len(GAPS))
    for g in np.flatnonzero(samples_G >= ENOUGH):
        found_G[g] = _factor(z_SD[bucket_S == g])
    rising = isotonic_regression(found_G, weights=np.maximum(samples_G, 1.0))
    return tuple(float(factor) for factor in rising.x)


def _factor(z_SD: F32) -> float:
    """Return the variance factor midway between what 80% and what 95% ask for."""
    at_80, at_95 = np.quantile(z_SD, [0.80, 0.95])
    return max(float((at_80 / Z80) * (at_95 / Z95)), 1e-6)


def _joined(parts: list[Errors], width: int) -> Errors:
    none = Errors(
        user_S=np.zeros(0, np.int64), gap_S=np.zeros(0, np.int64), count_S=np.zeros(0),
        error_SD=np.zeros((0, width), np.float32), scale_SD=np.zeros((0, width), np.float32),
    )  # fmt: skip
    every = [none, *parts]
    return Errors(
        user_S=np.concatenate([e.user_S for e in every]),
        gap_S=np.concatenate([e.gap_S for e in every]),
        count_S=np.concatenate([e.count_S for e in every]),
        error_SD=np.concatenate([e.error_SD for e in every]),
        scale_SD=np.concatenate([e.scale_SD for e in every]),
    )
