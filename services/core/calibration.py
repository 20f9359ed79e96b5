"""How wide a forecast really is: factors learned from errors on data not used to fit it.

The variance that a forecaster states is multiplied by a factor of its horizon and of the periods
since the user was last active, times (events / typical) ** slope of the user's own mean count: the
periods of a user with few events are noisier than those of one with many.

Shape suffixes: U = users, H = horizons, G = gap buckets.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from services.core.forecasts import ForecastBatch, Forecaster, typical_count
from services.core.pooling import F64, I64
from services.core.trajectories import TrajectoryBatch

# First gap of each bucket: 0, 1, 2-3, 4 and more periods since last active.
GAPS = (0, 1, 2, 4)
GAP_NAMES = ("0", "1", "2-3", "4+")


def gap_bucket(gap_U: I64) -> I64:
    """Return the row of GAPS that each gap is in."""
    return np.searchsorted(np.asarray(GAPS), gap_U, side="right") - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Variance factors; horizons beyond the last one use the last one's."""

    factor_HG: tuple[tuple[float, ...], ...] = ((1.0,) * len(GAPS),)
    # Exponent of the user's mean count over `count`.
    slope: float = 0.0
    count: float = 1.0

    @staticmethod
    def from_json(given: dict[str, Any]) -> "Calibration":
        """Rebuild from a spec's JSON."""
        return Calibration(
            factor_HG=tuple(tuple(float(f) for f in row) for row in given["factor_HG"]),
            slope=float(given["slope"]),
            count=float(given["count"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {"factor_HG": [list(row) for row in self.factor_HG]}

    def factors(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> F64:
        """Return variance factors [U, H]."""
        row_H = np.minimum(np.asarray(horizons), len(self.factor_HG)) - 1
        by_gap_UH = np.asarray(self.factor_HG)[row_H][:, gap_bucket(batch.gap_U())].T
        factor_UH: F64 = by_gap_UH * self.by_count(typical_count(batch))[:, None]
        return factor_UH

    def by_count(self, count_U: F64) -> F64:
        """Return the part of the factor that the user's mean count decides [U]."""
        factor_U: F64 = (count_U / self.count) ** self.slope
        return factor_U


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A forecaster whose widths are corrected; its means stay."""

    inner: Forecaster
    calibration: Calibration

    @property
    def name(self) -> str:
        """The inner one's."""
        return self.inner.name

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """See Forecaster."""
        made = self.inner.forecast(batch, horizons)
        width_UH1 = np.sqrt(self.calibration.factors(batch, horizons))[:, :, None]
        return ForecastBatch(
            means_UHD=made.means_UHD,
            scales_UHD=(made.scales_UHD * width_UH1).astype(np.float32),
        )
