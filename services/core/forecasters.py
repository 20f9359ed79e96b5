"""Forecasters of interest vectors: one port, batched, mask-aware, each with its uncertainty.

    persistence   the last active period's vector
    mean          the mean of all active periods
    ema           the mean with weights 2 ** (-age / half_life)
    shrunk_ema    S / (S + k) ema + k / (S + k) centre, S the sum of weights * count ** .34
    local_level   per component, an AR(1) level around the centre, seen through noise
    gru           a recurrent net on top of local_level (core/gru.py)
    auto          of all these, the one that the spec names for each horizon

The centre is the cross-user mean of the training data, frozen in the spec. A forecast's mean is not
of unit norm: it is the expectation of a unit vector, and the shorter the less is known.

Shape suffixes: U = users, T = periods, D = width, H = horizons.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from services.core.errors import InvalidArgument
from services.core.model import ForecasterSpec, Model
from services.core.pooling import F64, I64
from services.core.records import F32
from services.core.schema import Granularity
from services.core.trajectories import TrajectoryBatch

NAIVE = ("persistence", "mean", "ema")
# How fast the noise of a period's vector falls with its events; 1 if events were independent.
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
        """One of the names above."""
        ...

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """Return means and scales, `horizons` periods (each at least 1) after the last column.

        A user's rows do not depend on who else is in the batch, nor on empty columns in front.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Error variance of a level by its age: (var0 + var1 * (horizon + gap - 1)) * factor."""

    var0_D: F32
    # >= 0: a forecast never gets surer with age.
    var1_D: F32
    # Squared errors on validation data over those expected, by horizon; the last one goes on.
    factor_H: tuple[float, ...] = (1.0,)

    def scales(self, gap_U: I64, horizons: Sequence[int]) -> F32:
        """Return standard deviations [U, H, D]."""
        age_UH = gap_U[:, None] + np.asarray(horizons) - 1
        var_UHD = self.var0_D + self.var1_D * age_UH[:, :, None]
        scales_UHD: F32 = np.sqrt(var_UHD * factors(self.factor_H, horizons)).astype(np.float32)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelState:
    """What `local_level` resumes from: its belief about each user's level at a period's close."""

    # Distance from the centre.
    mean_UD: F64
    variance_UD: F64
    # Typical events of an active period.
    count_U: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalLevel:
    """A Kalman filter per component: level' = rho level + drift.

    A period of n events is the level seen through noise of variance r / n ** COUNT_POWER.
    """

    centre_D: F32
    # Correlation of the level with itself one period on, in (0, 1).
    rho_D: F32
    # Variance of levels across users.
    variance_D: F32
    # Noise variance of a period with one event.
    noise_D: F32
    factor_H: tuple[float, ...] = (1.0,)
    name: str = "local_level"

    def states(self, batch: TrajectoryBatch) -> Iterator[LevelState]:
        """Yield the belief at the close of every period, oldest first; arrays are reused."""
        users, periods, width = batch.vec_UTD.shape
        rho_D, stationary_D = self.rho_D.astype(np.float64), self.variance_D.astype(np.float64)
        mean_UD = np.zeros((users, width))
        variance_UD = np.tile(stationary_D, (users, 1))
        active_U = np.maximum(batch.mask_UT.sum(axis=1), 1)
        count_U = np.maximum((batch.count_UT * batch.mask_UT).sum(axis=1) / active_U, 1.0)
        yield LevelState(mean_UD=mean_UD, variance_UD=variance_UD, count_U=count_U)
        for t in range(periods):
            mean_UD *= rho_D
            variance_UD = stationary_D + rho_D**2 * (variance_UD - stationary_D)
            seen = np.flatnonzero(batch.mask_UT[:, t])
            noise_SD = self.noise_D / np.maximum(batch.count_UT[seen, t], 1)[:, None] ** COUNT_POWER
            gain_SD = variance_UD[seen] / (variance_UD[seen] + noise_SD)
            mean_UD[seen] += gain_SD * (batch.vec_UTD[seen, t] - self.centre_D - mean_UD[seen])
            variance_UD[seen] *= 1.0 - gain_SD
            yield LevelState(mean_UD=mean_UD, variance_UD=variance_UD, count_U=count_U)

    def state(self, batch: TrajectoryBatch) -> LevelState:
        """Return the belief at the close of the last period."""
        *_, last = self.states(batch)
        return last

    def resume(self, state: LevelState, horizons: Sequence[int]) -> ForecastBatch:
        """Forecast from a state, `horizons` periods after the period it was made at.

        A user who did nothing since needs no more: g empty periods on, ask for horizons g + h.
        """
        ahead_HD = self.rho_D.astype(np.float64) ** np.asarray(horizons)[:, None]
        means_UHD = self.centre_D + ahead_HD * state.mean_UD[:, None]
        level_UHD = self.variance_D + ahead_HD**2 * (state.variance_UD[:, None] - self.variance_D)
        noise_UD = self.noise_D / state.count_U[:, None] ** COUNT_POWER
        var_UHD = (level_UHD + noise_UD[:, None]) * factors(self.factor_H, horizons)
        return ForecastBatch(
            means_UHD=means_UHD.astype(np.float32), scales_UHD=np.sqrt(var_UHD).astype(np.float32)
        )

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """See Forecaster."""
        return self.resume(self.state(batch), horizons)


@dataclass(frozen=True, slots=True, kw_only=True)
class Auto:
    """Uses, for each horizon, the forecaster that validation data chose."""

    members: dict[str, Forecaster]
    # Name for horizons 1..n; the last one goes on.
    choice_H: tuple[str, ...]

    @property
    def name(self) -> str:
        """Names of the forecasters in use, nearest horizon first, joined by +."""
        return "+".join(dict.fromkeys(self.choice_H))

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """See Forecaster."""
        choices = [self.choice_H[min(h, len(self.choice_H)) - 1] for h in horizons]
        shape = (batch.vec_UTD.shape[0], len(horizons), batch.vec_UTD.shape[2])
        means_UHD, scales_UHD = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for name in dict.fromkeys(choices):
            columns = [i for i, choice in enumerate(choices) if choice == name]
            part = self.members[name].forecast(batch, [horizons[i] for i in columns])
            means_UHD[:, columns], scales_UHD[:, columns] = part.means_UHD, part.scales_UHD
        return ForecastBatch(means_UHD=means_UHD, scales_UHD=scales_UHD)


def load_forecaster(model: Model, granularity: Granularity = Granularity.WEEK) -> Auto:
    """Return the model's forecaster of a granularity; `untrained_spec` where it has none."""
    spec = model.forecasters.get(granularity) or untrained_spec(model.tower.width)
    return forecaster_of(spec)


def forecaster_of(spec: ForecasterSpec) -> Auto:
    """Make a spec work; it holds the chosen forecasters and every other one that was fitted.

    Raises:
        InvalidArgument: the spec names a forecaster that is not known or was not fitted.
    """
    config: dict[str, Any] = spec.config
    members: dict[str, Forecaster] = {}
    # The net needs its base first; the config's order is JSON's, not ours.
    for name, params in sorted(config["members"].items(), key=lambda item: item[0] == "gru"):
        members[name] = _member(name, params, spec.arrays, members)
    choice = tuple(config["choice"])
    if missing := set(choice) - set(members):
        raise InvalidArgument(
            "forecaster", f"{', '.join(sorted(missing))} was not fitted; train again"
        )
    return Auto(members=members, choice_H=choice)


def untrained_spec(width: int, half_life: float = 12.0) -> ForecasterSpec:
    """Return an EMA for a granularity that has no trained forecaster: no skill is claimed."""
    return ForecasterSpec(
        config={"members": {"ema": {"half_life": half_life, "factors": [1.0]}}, "choice": ["ema"]},
        arrays={
            "centre_D": np.zeros(width, np.float32),
            "ema.var0_D": np.full(width, 1.0 / width, np.float32),
            "ema.var1_D": np.full(width, 0.01 / width, np.float32),
        },
    )


def factors(factor_H: tuple[float, ...], horizons: Sequence[int]) -> F64:
    """Return the variance factor of each horizon [H, 1]."""
    return np.asarray([factor_H[min(h, len(factor_H)) - 1] for h in horizons])[:, None]


def _member(
    name: str, params: dict[str, Any], arrays: dict[str, F32], members: dict[str, Forecaster]
) -> Forecaster:
    centre_D, factor_H = arrays["centre_D"], tuple(params["factors"])
    if name == "local_level":
        return LocalLevel(
            centre_D=centre_D,
            rho_D=arrays["local_level.rho_D"],
            variance_D=arrays["local_level.variance_D"],
            noise_D=arrays["local_level.noise_D"],
            factor_H=factor_H,
        )
    if name == "gru":
        from services.core.gru import GruForecaster

        base = members["local_level"]
        assert isinstance(base, LocalLevel)
        # It learned on top of the base as it was before the base's own calibration.
        return GruForecaster.from_arrays(arrays, replace(base, factor_H=(1.0,)), factor_H)
    level = _level(name, params, centre_D)
    noise = Noise(
        var0_D=arrays[f"{name}.var0_D"], var1_D=arrays[f"{name}.var1_D"], factor_H=factor_H
    )
    return LevelForecaster(name=name, level=level, noise=noise)


def _level(name: str, params: dict[str, Any], centre_D: F32) -> Callable[[TrajectoryBatch], F32]:
    match name:
        case "persistence":
            return lambda batch: persistence_level(batch, centre_D)
        case "mean":
            return lambda batch: ema_level(batch, centre_D, np.inf)
        case "ema" | "shrunk_ema":
            half_life, shrink = float(params["half_life"]), float(params.get("shrink", 0.0))
            return lambda batch: ema_level(batch, centre_D, half_life, shrink)
    raise InvalidArgument("forecaster", f"{name!r} is not one this version knows; train again")
