"""What a forecaster is: trajectories in, predictive distributions out. Every forecaster's port.

Shape suffixes: U = users, D = width, H = horizons, R = common factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from services.core.pooling import F64
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch

# How fast the noise of a period's vector falls with its events, where nothing was fitted; 1 if
# events were independent.
COUNT_POWER = 0.34


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastBatch:
    """Forecasts of many users."""

    means_UHD: F32
    # Standard deviation of each component.
    scales_UHD: F32


class Forecaster(Protocol):
    """Forecasts from what each user did up to the batch's last column; later data cannot enter."""

    @property
    def name(self) -> str:
        """What it is called in specs, reports and responses."""
        ...

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """Return means and scales, `horizons` periods (each at least 1) after the last column.

        A user's rows do not depend on who else is in the batch, nor on empty columns in front.
        """
        ...


def typical_count(batch: TrajectoryBatch) -> F64:
    """Return each user's mean events of an active period, at least 1 [U]."""
    active_U = np.maximum(batch.mask_UT.sum(axis=1), 1)
    count_U: F64 = np.maximum((batch.count_UT * batch.mask_UT).sum(axis=1) / active_U, 1.0)
    return count_U
