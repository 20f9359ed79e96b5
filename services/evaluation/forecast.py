"""Forecast skill: every forecaster of the model, from every origin, against what came.

Shape suffixes: U = users, D = width, S = (user, origin) samples.
"""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from services.core.dataset import Dataset
from services.core.forecast_metrics import forecast_errors
from services.core.forecasters import ForecastBatch, Forecaster, forecaster_of
from services.core.metrics import bootstrap_ratio
from services.core.model import Model
from services.core.pooling import F64, I64, pool_periods
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch, grid
from services.evaluation.protocol import Split

Progress = Callable[[str, int, int], None]
# Periods of the past that a forecaster gets.
HISTORY = 156


def forecast_report(
    data: Dataset,
    split: Split,
    model: Model,
    items_ND: F32,
    *,
    horizons: int,
    rng: np.random.Generator,
    on_progress: Progress = lambda stage, done, total: None,
) -> dict[str, dict[str, dict[str, object]]]:
    """Return {hH: {method: figures}} for H in 1..horizons; empty where the model has no forecaster.

    R2 is against the cross-user mean of the training data, frozen in the model. A sample is a user
    with a vector in the target period and one before the origin.
    """
    spec = model.forecasters.get(split.granularity)
    if spec is None:
        return {}
    auto = forecaster_of(spec)
    methods: dict[str, Forecaster] = {"driftline": auto, **auto.members}
    batch, first = trajectories(data, split, model, items_ND)
    report: dict[str, dict[str, dict[str, object]]] = {}
    done = 0
    for horizon in range(1, horizons + 1):
        origins = split.origins_of(horizon)
        for name, method in methods.items():
            figures = _skill(
                batch, method, [o - first for o in origins],
                horizon=horizon, arrays=spec.arrays, rng=rng,
            )  # fmt: skip
            if figures is not None:
                report.setdefault(f"h{horizon}", {})[name] = figures
            done += 1
            on_progress("forecast skill", done, horizons * len(methods))
    return report


def trajectories(
    data: Dataset, split: Split, model: Model, items_ND: F32
) -> tuple[TrajectoryBatch, int]:
    """Return all vectors up to the last full period, and the ordinal of the first column."""
    first = max(split.first, split.origins[0] - HISTORY)
    vectors = pool_periods(
        data.user_ix_E, data.period_E, data.item_ix_E, data.weight_E, items_ND, model.pooling
    )
    batch = grid(
        vectors.user_ix_P, vectors.period_P, vectors.vec_PD, vectors.event_count_P,
        users=data.user_count, first=first, last=split.last,
    )  # fmt: skip
    return batch, first


def _skill(
    batch: TrajectoryBatch, method: Forecaster, columns: list[int], *, horizon: int,
    arrays: dict[str, F32], rng: np.random.Generator,
) -> dict[str, object] | None:  # fmt: skip
    users, truths, means, scales = [], [], [], []
    for column in columns:
        target = column + horizon - 1
        past = batch.until(column)
        ready = np.flatnonzero(past.mask_UT.any(axis=1) & batch.mask_UT[:, target])
        made = _forecast(method, past, ready, horizon)
        users.append(ready)
        truths.append(batch.vec_UTD[ready, target])
        means.append(made.means_UHD[:, 0])
        scales.append(made.scales_UHD[:, 0])
    users_S = np.concatenate(users) if users else np.zeros(0, np.int64)
    if not len(users_S):
        return None
    truth_SD, mean_SD = np.concatenate(truths), np.concatenate(means)
    centre_D = arrays["centre_D"]
    errors = forecast_errors(truth_SD, mean_SD, np.concatenate(scales), centre_D)
    error_S: F64 = ((truth_SD.astype(np.float64) - mean_SD) ** 2).sum(axis=1)
    spread_S: F64 = ((truth_SD.astype(np.float64) - centre_D) ** 2).sum(axis=1)
    low, high = bootstrap_ratio(error_S, spread_S, users_S, rng)
    return {
        **asdict(errors),
        "r2_ci": [1.0 - high, 1.0 - low],
        "users": len(np.unique(users_S)),
        "samples": len(users_S),
    }


def _forecast(method: Forecaster, past: TrajectoryBatch, ready: I64, horizon: int) -> ForecastBatch:
    rows = TrajectoryBatch(
        vec_UTD=past.vec_UTD[ready], mask_UT=past.mask_UT[ready], count_UT=past.count_UT[ready]
    )
    return method.forecast(rows, [horizon])
