"""A fitted detection of bursts as data of a forecaster's spec, and back.

Shape suffixes: D = width, G = topics.
"""

from dataclasses import replace
from typing import Any

from services.core.burst_state import BurstModel
from services.core.local_level import LocalLevel
from services.core.model import ForecasterSpec, Model
from services.core.records import F32
from services.core.schema import Granularity

_KEY = "bursts"
_SCALARS = ("count_offset", "threshold", "shift", "longest", "season_slack", "persistence")


def with_burst_model(spec: ForecasterSpec, model: BurstModel) -> ForecasterSpec:
    """Return the spec with detection in it."""
    said: dict[str, object] = {name: getattr(model, name) for name in _SCALARS}
    said |= {
        "seasons": list(model.seasons),
        "names": list(model.names_G),
        "count_power": model.level.count_power,
    }
    level = {"centre_D": model.level.centre_D, **model.level.arrays()}
    arrays = {f"{_KEY}.{name.removeprefix('local_level.')}": a for name, a in level.items()}
    arrays[f"{_KEY}.topics_GD"] = model.topics_GD
    return replace(spec, config=spec.config | {_KEY: said}, arrays=spec.arrays | arrays)


def burst_model_of(spec: ForecasterSpec) -> BurstModel | None:
    """Return what a spec has; None where none was fitted."""
    said: Any = spec.config.get(_KEY)
    if said is None:
        return None
    arrays = {
        name.removeprefix(f"{_KEY}."): array
        for name, array in spec.arrays.items()
        if name.startswith(f"{_KEY}.")
    }
    topics_GD = arrays.pop("topics_GD")
    return BurstModel(
        level=_level(arrays, float(said["count_power"])),
        topics_GD=topics_GD,
        names_G=tuple(said["names"]),
        seasons=tuple(said["seasons"]),
        **{name: said[name] for name in _SCALARS},
    )


def load_burst_model(model: Model, granularity: Granularity) -> BurstModel | None:
    """Return a model's detection for a granularity; None where it has none."""
    spec = model.forecasters.get(granularity)
    return burst_model_of(spec) if spec is not None else None


def _level(arrays: dict[str, F32], count_power: float) -> LocalLevel:
    return LocalLevel(
        centre_D=arrays["centre_D"],
        basis_DK=arrays["basis_DK"],
        inverse_KD=arrays["inverse_KD"],
        rho_K=arrays["rho_K"],
        variance_K=arrays["variance_K"],
        noise_K=arrays["noise_K"],
        count_power=count_power,
    )
