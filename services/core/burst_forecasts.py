"""Forecasts that know of a burst: wider while one lasts, as before when it is over.

A burst of share f for topic g lasts another h periods with chance p = persistence ** h. The
forecast is the mixture of the burst's period, level + f (topic - level), and the level's: with
shift d = f (topic - level), its mean is level + p d and its variance grows by p (1 - p) d^2. What
the inner forecaster is given has gaps where bursts were, so its level is what it was before.
A user without a burst gets the inner forecast, number for number.

Shape suffixes: U = users, T = periods, D = width, H = horizons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.core.burst_follow import follow
from services.core.burst_state import Bools, BurstModel, Bursts, BurstState, BurstType
from services.core.bursts import new_state
from services.core.forecasts import ForecastBatch, Forecaster
from services.core.pooling import F64, I64
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
        state = follow(self.model, new_state(self.model, len(batch.mask_UT)), batch).state
        known = known_from(state, batch)
        return with_bursts(
            self.inner.forecast(batch, horizons), self.inner, self.model, batch, known, horizons
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBursts:
    """What a forecast needs of users' bursts at the close of a batch's last column."""

    is_burst_UT: Bools
    # Of the burst that lasted at the user's last active period; -1 where none did.
    topic_U: I64
    # Its share of that period.
    share_U: F64


def known_of(bursts: Bursts, batch: TrajectoryBatch) -> KnownBursts:
    """Return what was detected in the same columns."""
    last_U = np.maximum(batch.mask_UT.shape[1] - 1 - batch.gap_U(), 0)
    row_U = np.arange(len(last_U))
    return KnownBursts(
        is_burst_UT=(bursts.kind != BurstType.NONE) & batch.mask_UT,
        topic_U=bursts.topic[row_U, last_U], share_U=bursts.share[row_U, last_U],
    )  # fmt: skip


def known_from(state: BurstState, batch: TrajectoryBatch) -> KnownBursts:
    """Return what a state remembers: the last bursts only, and each from its first period to its last.

    Args:
        state: at the close of the batch's last column.
        batch: trajectories of the same users.
    """
    columns = batch.mask_UT.shape[1]
    period_T = np.arange(state.period - columns, state.period)
    _, first_UM, last_UM, _ = np.moveaxis(state.past_UM4, 2, 0)
    is_in_UMT = (first_UM[:, :, None] <= period_T) & (period_T <= last_UM[:, :, None])
    return KnownBursts(
        is_burst_UT=is_in_UMT.any(axis=1) & batch.mask_UT, topic_U=state.topic_U,
        share_U=state.share_U,
    )  # fmt: skip


def with_bursts(
    plain: ForecastBatch, inner: Forecaster, model: BurstModel, batch: TrajectoryBatch,
    known: KnownBursts, horizons: Sequence[int],
) -> ForecastBatch:  # fmt: skip
    """Return forecasts that know of bursts.

    Args:
        plain: the inner forecaster's.
        inner: asked again for users who had a burst.
        model: whose topics the bursts name.
        batch: trajectories.
        known: bursts of the same users.
        horizons: periods ahead.
    """
    rows = np.flatnonzero(known.is_burst_UT.any(axis=1))
    if not len(rows):
        return plain
    cleaned = inner.forecast(without(batch.users(rows), known.is_burst_UT[rows]), horizons)
    means_UHD, scales_UHD = plain.means_UHD.copy(), plain.scales_UHD.copy()
    means_UHD[rows], scales_UHD[rows] = cleaned.means_UHD, cleaned.scales_UHD
    lasting = rows[known.topic_U[rows] >= 0]
    gap_U = batch.gap_U()[lasting]
    topic_UD = model.topics_GD[known.topic_U[lasting]]
    share_U = known.share_U[lasting]
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
