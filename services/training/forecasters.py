"""The forecasters of every granularity: each fitted on its own, kept as it is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import torch

from services.core.dataset import Dataset, vector_grid
from services.core.model import ForecasterSpec
from services.core.periods import closed_before
from services.core.pooling import PoolingConfig
from services.core.progress import Progress
from services.core.records import F32
from services.core.schema import BURST_GRANULARITIES, Granularity
from services.core.trajectories import TrajectoryBatch
from services.training.bursts import BurstSource
from services.training.checkpoints import Checkpoints, State, json_of
from services.training.forecaster import ForecasterConfig, fit_forecaster

# Columns a forecaster learns from: newest first, more would not fit and say little.
PERIODS = {Granularity.DAY: 112, Granularity.WEEK: 156, Granularity.MONTH: 60}


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedForecasters:
    """What fitting gives; a granularity with too little data has none."""

    specs: dict[Granularity, ForecasterSpec] = field(default_factory=dict)
    # Of the nets, by name and granularity.
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def fit_forecasters(
    data: Dataset,
    items_ND: F32,
    config: ForecasterConfig,
    pooling: PoolingConfig,
    *,
    granularities: Sequence[Granularity],
    until: datetime,
    parent: Mapping[Granularity, ForecasterSpec],
    bursts: BurstSource | None = None,
    checkpoints: Checkpoints | None = None,
    on_progress: Progress = lambda stage, done, total: None,
) -> FittedForecasters:
    """Fit a forecaster of each granularity.

    Args:
        data: events before `until`.
        items_ND: item vectors of the space.
        config: what is tried.
        pooling: makes vectors of periods.
        granularities: which.
        until: periods closed by then are learned from.
        parent: forecasters of the same space to go on with: a granularity that has one keeps it,
            for its constants describe users of this space and the new periods reach it as input.
        bursts: how detection of bursts is fitted, where it is wanted; not again for a parent's.
        checkpoints: where finished ones are kept and taken up.
        on_progress: called with stage, done, total.
    """
    fitted = FittedForecasters()
    for granularity in granularities:
        spec = parent.get(granularity)
        if spec is None:
            spec = _taken_up(checkpoints, granularity)
        if spec is None:
            batch = _trajectories(data, items_ND, granularity, until, pooling)
            settings = config
            if granularity is Granularity.DAY:
                # Days are many and mostly empty: no net was tried on them, and fewer users will do.
                settings = replace(settings, nets=(), components=0, user_limit=2000)
            spec = fit_forecaster(batch, settings, on_progress)
            if spec is not None and bursts is not None and granularity in BURST_GRANULARITIES:
                spec = bursts.fitted(spec, data, items_ND, batch)
            if spec is not None and checkpoints is not None:
                checkpoints.write(str(granularity), _state(spec))
        if spec is not None:
            curves, fitted.specs[granularity] = _without_curves(spec)
            fitted.curves.update({f"{name} {granularity}": c for name, c in curves.items()})
    return fitted


def _trajectories(
    data: Dataset, items_ND: F32, granularity: Granularity, until: datetime, pooling: PoolingConfig
) -> TrajectoryBatch:
    if granularity is not data.granularity:
        data = data.at(granularity)
    last = closed_before(granularity, until).ordinal
    first = max(int(data.period_E.min()), last - PERIODS[granularity] + 1)
    return vector_grid(data, items_ND, pooling, first=first, last=last)


def _without_curves(
    spec: ForecasterSpec,
) -> tuple[dict[str, list[tuple[float, float]]], ForecasterSpec]:
    """Take the learning curves, where a spec brings them, out of what it needs to forecast."""
    found: Any = spec.config.get("curves", {})
    curves = {name: [(float(x), float(y)) for x, y in points] for name, points in found.items()}
    config = {name: value for name, value in spec.config.items() if name != "curves"}
    return curves, replace(spec, config=config)


def _state(spec: ForecasterSpec) -> State:
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in spec.arrays.items()}
    return State(tensors=tensors, values=json_of(spec.config))


def _taken_up(checkpoints: Checkpoints | None, granularity: Granularity) -> ForecasterSpec | None:
    state = checkpoints.read(str(granularity)) if checkpoints else None
    if state is None:
        return None
    arrays = {name: tensor.numpy() for name, tensor in state.tensors.items()}
    return ForecasterSpec(config=state.values, arrays=arrays)
