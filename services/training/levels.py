"""Fits the naive forecasters: half-lives, shrinking, and how their errors grow with age.

Shape suffixes: D = width, S = (user, close) samples.
"""

from typing import Any

import numpy as np

from services.core.level_forecasters import LevelForecaster, Noise, ema_level, level_of
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch

HALF_LIVES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SHRINKS = (1.0, 2.0, 4.0, 8.0, 16.0)


def choose_levels(batch: TrajectoryBatch, centre_D: F32, cut: int) -> dict[str, dict[str, Any]]:
    """Return parameters by name; the periods from column `cut` on choose."""
    ema = min((_ema_error(batch, centre_D, cut, h, 0.0), h) for h in HALF_LIVES)
    shrunk = min(
        (_ema_error(batch, centre_D, cut, h, k), h, k) for h in HALF_LIVES[2:] for k in SHRINKS
    )
    return {
        "persistence": {},
        "mean": {},
        "ema": {"half_life": ema[1]},
        "shrunk_ema": {"half_life": shrunk[1], "shrink": shrunk[2]},
    }


def fit_noises(
    params: dict[str, dict[str, Any]], batch: TrajectoryBatch, centre_D: F32, horizons: int
) -> dict[str, F32]:
    """Return the arrays of every level forecaster's noise, under their names in a spec."""
    arrays: dict[str, F32] = {}
    flat = Noise(var0_D=np.ones_like(centre_D), var1_D=np.zeros_like(centre_D))
    for name, given in params.items():
        member = LevelForecaster(name=name, level=level_of(name, given, centre_D), noise=flat)
        noise = _fit_noise(member, batch, horizons)
        arrays[f"{name}.var0_D"], arrays[f"{name}.var1_D"] = noise.var0_D, noise.var1_D
    return arrays


def _ema_error(
    batch: TrajectoryBatch, centre_D: F32, cut: int, half_life: float, shrink: float
) -> float:
    """Return the mean squared error one period ahead over the validation block."""
    total, count = 0.0, 0
    for t in range(cut, batch.mask_UT.shape[1], 2):
        past = batch.until(t)
        ready = np.flatnonzero(batch.mask_UT[:, t] & past.mask_UT.any(axis=1))
        level_SD = ema_level(past.users(ready), centre_D, half_life, shrink)
        total += float(((batch.vec_UTD[ready, t] - level_SD) ** 2).sum())
        count += level_SD.size
    return total / max(count, 1)


def _fit_noise(member: LevelForecaster, fit: TrajectoryBatch, horizons: int) -> Noise:
    """Fit var0 + var1 * (age - 1) by least squares over the errors of a few closes."""
    periods = fit.mask_UT.shape[1]
    gram, right = np.zeros((2, 2)), np.zeros((2, fit.vec_UTD.shape[2]))
    for close in sorted({max(2, periods - horizons - 1 - 3 * i) for i in range(4)}):
        past = fit.until(close)
        level_UD, gap_U = member.level(past), past.gap_U()
        for h in range(1, min(horizons, periods - close) + 1):
            ready = np.flatnonzero(fit.mask_UT[:, close + h - 1] & past.mask_UT.any(axis=1))
            squared_SD = (
                fit.vec_UTD[ready, close + h - 1].astype(np.float64) - level_UD[ready]
            ) ** 2
            design_S2 = np.stack([np.ones(len(ready)), gap_U[ready] + h - 1.0], axis=1)
            gram += design_S2.T @ design_S2
            right += design_S2.T @ squared_SD
    var0_D, var1_D = np.linalg.lstsq(gram, right, rcond=None)[0]
    var0_D = np.maximum(var0_D, 1e-6)
    # Never surer with age; a tenth of a percent a period at least, so that a gap widens the scale.
    return Noise(
        var0_D=var0_D.astype(np.float32),
        var1_D=np.maximum(var1_D, 1e-3 * var0_D).astype(np.float32),
    )
