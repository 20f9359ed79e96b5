"""Forecasts that know of a burst: wider while one lasts, as before when it is over.

A burst of share f for topic g lasts another h periods with chance p = persistence ** h. The
forecast is the mixture of the burst's period, level + f (topic - level), and the level's: with
shift d = f (topic - level), its mean is level + p d and its variance grows by p (1 - p) d^2. What
the inner forecaster is given has gaps where bursts were, so its level is what it was before.
A user without a burst gets the inner forecast, number for number.

Shape suffixes: U = users, T = periods, D = width, H = horizons.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.core.burst_state import BurstModel, Bursts, BurstType
from services.core.bursts import detect
from services.core.forecasts import ForecastBatch, Forecaster
from services.core.trajectories import TrajectoryBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstAware:
    """A forecaster that widens after a burst and recovers."""

    inner: Forecaster
    model: BurstModel

    @property
    def name(self) -> str:
        """The inner one's."""
        return self.inner.name

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """See Forecaster.

        Types do not matter here, so the batch's other users do not either.
        """
        plain = self.inner.forecast(batch, horizons)
        return with_bursts(
            plain, self.inner, self.model, batch, detect(self.model, batch), horizons
        )


def with_bursts(
    plain: ForecastBatch, inner: Forecaster, model: BurstModel, batch: TrajectoryBatch,
    bursts: Bursts, horizons: Sequence[int],
) -> ForecastBatch:  # fmt: skip
    """Return forecasts that know what was detected in the same columns.

    Args:
        plain: the inner forecaster's.
        inner: asked again for users who had a burst.
        model: whose topics the bursts name.
        batch: trajectories.
        bursts: of the batch's columns.
        horizons: periods ahead.
    """
    is_burst_UT = (bursts.kind != BurstType.NONE) & batch.mask_UT
    rows = np.flatnonzero(is_burst_UT.any(axis=1))
    if not len(rows):
        return plain
    cleaned = inner.forecast(without(batch.users(rows), is_burst_UT[rows]), horizons)
    means_UHD, scales_UHD = plain.means_UHD.copy(), plain.scales_UHD.copy()
    means_UHD[rows], scales_UHD[rows] = cleaned.means_UHD, cleaned.scales_UHD
    periods = batch.mask_UT.shape[1]
    last_U = np.maximum(periods - 1 - batch.gap_U(), 0)
    lasting = rows[bursts.topic[rows, last_U[rows]] >= 0]
    if not len(lasting):
        return replace(plain, means_UHD=means_UHD, scales_UHD=scales_UHD)
    column_U, gap_U = last_U[lasting], (periods - 1 - last_U)[lasting]
    topic_UD = model.topics_GD[bursts.topic[lasting, column_U]]
    share_U = bursts.share[lasting, column_U]
    for at, horizon in enumerate(horizons):
        level_UD = means_UHD[lasting, at]
        shift_UD = share_U[:, None] * (topic_UD - level_UD)
        chance_U1 = (model.persistence ** (gap_U + horizon))[:, None]
        means_UHD[lasting, at] = level_UD + chance_U1 * shift_UD
        spread_UD = scales_UHD[lasting, at] ** 2 + chance_U1 * (1 - chance_U1) * shift_UD**2
        scales_UHD[lasting, at] = np.sqrt(spread_UD)
    return ForecastBatch(means_UHD=means_UHD, scales_UHD=scales_UHD)


def without(batch: TrajectoryBatch, is_burst_UT: np.ndarray) -> TrajectoryBatch:
    """Return the batch with gaps where bursts were."""
    mask_UT = batch.mask_UT & ~is_burst_UT
    return TrajectoryBatch(
        vec_UTD=batch.vec_UTD * mask_UT[:, :, None], mask_UT=mask_UT,
        count_UT=batch.count_UT * mask_UT,
    )  # fmt: skip
