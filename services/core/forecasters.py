"""Forecasters of interest vectors: one port, batched, mask-aware, each with its uncertainty.

    persistence, mean, ema, shrunk_ema   levels of the past (core/level_forecasters.py)
    local_level   a level seen through noise, filtered (core/local_level.py)
    arima, ets    statsforecast on principal components (core/statistical.py)
    gru, lstm     recurrent nets on top of local_level (core/recurrent.py)
    stack         for each horizon, a convex combination of some of these
    auto          of all these, the one that the spec names for each horizon

The centre is the cross-user mean of the training data, frozen in the spec. A forecast's mean is not
of unit norm: it is the expectation of a unit vector, and the shorter the less is known. Every
width is calibrated (core/calibration.py).

Shape suffixes: U = users, D = width, H = horizons, R = common factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import numpy as np

from services.core.calibration import Calibrated, Calibration
from services.core.errors import InvalidArgument
from services.core.forecasts import ForecastBatch, Forecaster
from services.core.level_forecasters import LevelForecaster, Noise, level_of
from services.core.local_level import LocalLevel
from services.core.model import ForecasterSpec, Model
from services.core.records import F32
from services.core.schema import Granularity
from services.core.statistical import STATISTICAL, StatisticalForecaster
from services.core.trajectories import TrajectoryBatch

# Made of other members, which come before them.
DERIVED = ("gru", "lstm", *STATISTICAL, "stack")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A convex combination of members for each horizon; the last one goes on."""

    members: dict[str, Forecaster]
    weight_H: tuple[dict[str, float], ...]
    name: str = "stack"

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """See Forecaster. Means are combined, and variances with the same weights."""
        weights = [self.weight_H[min(h, len(self.weight_H)) - 1] for h in horizons]
        shape = (batch.vec_UTD.shape[0], len(horizons), batch.vec_UTD.shape[2])
        means_UHD, variances_UHD = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for name in dict.fromkeys(name for weight in weights for name in weight):
            columns = [i for i, weight in enumerate(weights) if name in weight]
            part = self.members[name].forecast(batch, [horizons[i] for i in columns])
            share_H1 = np.asarray([weights[i][name] for i in columns], np.float32)[:, None]
            means_UHD[:, columns] += share_H1 * part.means_UHD
            variances_UHD[:, columns] += share_H1 * part.scales_UHD**2
        return ForecastBatch(means_UHD=means_UHD, scales_UHD=np.sqrt(variances_UHD))


@dataclass(frozen=True, slots=True, kw_only=True)
class Auto:
    """Uses, for each horizon, the forecaster that validation data chose."""

    members: dict[str, Forecaster]
    # Name for horizons 1..n; the last one goes on.
    choice_H: tuple[str, ...]
    # What errors of different components share: standardised errors correlate as
    # loadings @ loadings.T off the diagonal. None where no fit was better than independence.
    loadings_DR: F32 | None = None
    # The filter itself, where one was fitted.
    level: LocalLevel | None = None

    @property
    def name(self) -> str:
        """Who forecasts: `ema`, or by horizon `stack:1-4+local_level:5-`."""
        runs = [(name, len(list(group))) for name, group in groupby(self.choice_H)]
        if len(runs) == 1:
            return runs[0][0]
        said, first = [], 1
        for name, length in runs:
            last = first + length - 1
            said.append(f"{name}:{first}" if length == 1 else f"{name}:{first}-{last}")
            first += length
        start = first - runs[-1][1]
        said[-1] = f"{runs[-1][0]}:{start}-"
        return "+".join(said)

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
    plain: dict[str, Forecaster] = {}
    # The config's order is JSON's, not ours.
    given = sorted(
        config["members"].items(),
        key=lambda item: DERIVED.index(item[0]) + 1 if item[0] in DERIVED else 0,
    )
    for name, params in given:
        plain[name] = _member(name, params, spec.arrays, plain)
    choice = tuple(config["choice"])
    if missing := set(choice) - set(plain):
        raise InvalidArgument(
            "forecaster", f"{', '.join(sorted(missing))} was not fitted; train again"
        )
    members: dict[str, Forecaster] = {
        name: Calibrated(
            inner=plain[name], calibration=Calibration.from_json(params["calibration"])
        )
        for name, params in given
    }
    level = plain.get("local_level")
    return Auto(
        members=members,
        choice_H=choice,
        loadings_DR=spec.arrays.get("loadings_DR"),
        level=level if isinstance(level, LocalLevel) else None,
    )


def untrained_spec(width: int) -> ForecasterSpec:
    """Return an EMA for a granularity that has no trained forecaster: no skill is claimed."""
    ema = {"half_life": 12.0, "calibration": Calibration().to_json()}
    return ForecasterSpec(
        config={"members": {"ema": ema}, "choice": ["ema"]},
        arrays={
            "centre_D": np.zeros(width, np.float32),
            "ema.var0_D": np.full(width, 1.0 / width, np.float32),
            "ema.var1_D": np.full(width, 0.01 / width, np.float32),
        },
    )


def _member(
    name: str, params: dict[str, Any], arrays: dict[str, F32], members: dict[str, Forecaster]
) -> Forecaster:
    """Return one member, not calibrated: what is made of others is made of them as they were."""
    centre_D = arrays["centre_D"]
    match name:
        case "local_level":
            return LocalLevel(
                centre_D=centre_D,
                basis_DK=arrays["local_level.basis_DK"],
                inverse_KD=arrays["local_level.inverse_KD"],
                rho_K=arrays["local_level.rho_K"],
                variance_K=arrays["local_level.variance_K"],
                noise_K=arrays["local_level.noise_K"],
                count_power=float(params["count_power"]),
            )
        case "gru" | "lstm":
            from services.core.recurrent import RecurrentForecaster

            base = cast(LocalLevel, members["local_level"])
            return RecurrentForecaster.from_arrays(name, arrays, base)
        case "arima" | "ets":
            return StatisticalForecaster(
                kind=name,
                base=members["shrunk_ema"],
                centre_D=centre_D,
                components_DK=arrays["components_DK"],
            )
        case "stack":
            return Stack(members=members, weight_H=tuple(params["weight_H"]))
    level = level_of(name, params, centre_D)
    noise = Noise(var0_D=arrays[f"{name}.var0_D"], var1_D=arrays[f"{name}.var1_D"])
    return LevelForecaster(name=name, level=level, noise=noise)
