"""The forecasters that say the future is like a level of the past.

    persistence   the last active period's vector
    mean          the mean of all active periods
    ema           the mean with weights 2 ** (-age / half_life)
    shrunk_ema    S / (S + k) ema + k / (S + k) centre, S the sum of weights * count ** .34

Shape suffixes: U = users, T = periods, D = width, H = horizons.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.core.errors import InvalidArgument
from services.core.forecasts import COUNT_POWER, ForecastBatch
from services.core.pooling import I64
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch

NAIVE = ("persistence", "mean", "ema")


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Error variance of a level by its age: var0 + var1 * (horizon + gap - 1)."""

    var0_D: F32
    # >= 0: a forecast never gets surer with age.
    var1_D: F32

    def scales(self, gap_U: I64, horizons: Sequence[int]) -> F32:
        """Return standard deviations [U, H, D]."""
        age_UH = gap_U[:, None] + np.asarray(horizons) - 1
        var_UHD = self.var0_D + self.var1_D * age_UH[:, :, None]
        scales_UHD: F32 = np.sqrt(var_UHD).astype(np.float32)
        return scales_UHD


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelForecaster:
    """Says that the future is like a level of the past."""

    name: str
    # Batch -> level_UD.
    level: Callable[[TrajectoryBatch], F32]
    noise: Noise

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """See Forecaster."""
        level_UD = self.level(batch)
        means_UHD = np.repeat(level_UD[:, None], len(horizons), axis=1)
        return ForecastBatch(
            means_UHD=means_UHD, scales_UHD=self.noise.scales(batch.gap_U(), horizons)
        )


def level_of(name: str, params: dict[str, Any], centre_D: F32) -> Callable[[TrajectoryBatch], F32]:
    """Return the level of a forecaster of this module.

    Raises:
        InvalidArgument: it has none by that name.
    """
    match name:
        case "persistence":
            return lambda batch: persistence_level(batch, centre_D)
        case "mean":
            return lambda batch: ema_level(batch, centre_D, np.inf)
        case "ema" | "shrunk_ema":
            half_life, shrink = float(params["half_life"]), float(params.get("shrink", 0.0))
            return lambda batch: ema_level(batch, centre_D, half_life, shrink)
    raise InvalidArgument("forecaster", f"{name!r} is not one this version knows; train again")


def persistence_level(batch: TrajectoryBatch, centre_D: F32) -> F32:
    """Return each user's last vector; the centre where there is none."""
    periods = batch.mask_UT.shape[1]
    last_U = periods - 1 - batch.gap_U()
    level_UD = batch.vec_UTD[np.arange(len(last_U)), np.maximum(last_U, 0)]
    level: F32 = np.where(last_U[:, None] >= 0, level_UD, centre_D).astype(np.float32)
    return level


def ema_level(batch: TrajectoryBatch, centre_D: F32, half_life: float, shrink: float = 0.0) -> F32:
    """Return each user's decayed mean; `half_life` periods, inf for the plain mean.

    Args:
        batch: trajectories.
        centre_D: where `shrink` pulls to, and the level of a user without vectors.
        half_life: of the weights, periods.
        shrink: k >= 0; 0 weighs active periods alike, else by their events too.
    """
    age_T = np.arange(batch.mask_UT.shape[1])[::-1]
    weight_UT = np.where(batch.mask_UT, np.exp2(-age_T / half_life), 0.0)
    if shrink > 0.0:
        weight_UT = weight_UT * np.maximum(batch.count_UT, 1) ** COUNT_POWER
    total_U = weight_UT.sum(axis=1)
    sum_UD = np.einsum("ut,utd->ud", weight_UT, batch.vec_UTD.astype(np.float64))
    # Without shrinking, a user without vectors still gets the centre.
    pull_U = np.where(total_U > 0, shrink, 1.0)
    level: F32 = ((sum_UD + pull_U[:, None] * centre_D) / (total_U + pull_U)[:, None]).astype(
        np.float32
    )
    return level
