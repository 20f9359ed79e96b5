"""The part of the report that is about vectors: how well they are foretold, and what that is worth."""

import numpy as np

from services.core.dataset import Dataset
from services.core.model import Model
from services.core.progress import Progress
from services.core.records import F32
from services.evaluation.ceiling import forecast_ceiling
from services.evaluation.fans import forecast_fans
from services.evaluation.forecast import ForecastSkill, forecast_report
from services.evaluation.protocol import Split
from services.evaluation.staleness import staleness_report
from services.evaluation.trajectories import trajectories


def vector_report(
    data: Dataset, split: Split, model: Model, items_ND: F32, text_NV: F32, *, horizons: int,
    user_limit: int, seed: int, rng: np.random.Generator, on_progress: Progress,
    frozen: Model | None = None,
) -> dict[str, object]:  # fmt: skip
    """Return the report's keys `forecast`, `forecast_*` and `staleness`.

    `frozen` forecasts the vectors of the frozen texts, `text_NV`; unset, there are no such figures.
    """
    seen = trajectories(data, split, model, items_ND)
    skill = forecast_report(split, model, seen, horizons=horizons, rng=rng, on_progress=on_progress)
    beside = ForecastSkill(by_horizon={}, aggregate={})
    if frozen is not None:
        beside = forecast_report(
            split, frozen, trajectories(data, split, frozen, text_NV),
            horizons=horizons, rng=rng, on_progress=on_progress,
        )  # fmt: skip
    return {
        "forecast": skill.by_horizon,
        "forecast_mean4": skill.aggregate,
        "forecast_frozen": beside.by_horizon,
        "forecast_frozen_mean4": beside.aggregate,
        "forecast_ceiling": {
            "ours": forecast_ceiling(data, split, model.pooling, items_ND, seed=seed),
            "frozen": forecast_ceiling(data, split, model.pooling, text_NV, seed=seed),
        },
        "forecast_fans": forecast_fans(split, model, seen),
        "staleness": staleness_report(
            data,
            split,
            model,
            items_ND,
            seen,
            user_limit=user_limit,
            rng=rng,
            on_progress=on_progress,
        ),
    }
