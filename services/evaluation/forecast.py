"""Forecast skill: every forecaster of the model, from every origin, against what came.

Shape suffixes: U = users, D = width, S = (user, origin) samples.
"""

from dataclasses import asdict, dataclass

import numpy as np

from services.core.calibration import GAP_NAMES, gap_bucket
from services.core.dataset import Dataset
from services.core.forecast_metrics import calibration_curve, forecast_errors
from services.core.forecasters import forecaster_of
from services.core.forecasts import Forecaster
from services.core.metrics import bootstrap_ratio
from services.core.model import Model
from services.core.pooling import F64, I64, pool_periods
from services.core.progress import Progress
from services.core.records import F32
from services.core.statistical import STATISTICAL
from services.core.trajectories import TrajectoryBatch, grid
from services.evaluation.protocol import Split

# Users that forecasters fitted at forecast time are measured on.
SLOW_USERS = 40
# More than any column.
BIG = 1_000_000
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
    with a vector in the target period and one before the origin. `skill_over_ema` and
    `skill_over_shrunk_ema` are the share of those ones' squared error that is saved on the same
    samples, paired. arima and ets are fitted at forecast time, so they are measured on SLOW_USERS
    users; their skills are comparable, their R2 is of those users.
    """
    spec = model.forecasters.get(split.granularity)
    if spec is None:
        return {}
    auto = forecaster_of(spec)
    methods: dict[str, Forecaster] = {"driftline": auto, **auto.members}
    batch, first = trajectories(data, split, model, items_ND)
    few = np.random.default_rng(0).permutation(data.user_count)[:SLOW_USERS]
    report: dict[str, dict[str, dict[str, object]]] = {}
    done = 0
    for horizon in range(1, horizons + 1):
        columns = [origin - first for origin in split.origins_of(horizon)]
        made: dict[str, Samples] = {}
        for name, method in methods.items():
            among = few if name in STATISTICAL else None
            samples = _samples(batch, method, columns, horizon=horizon, among=among)
            if samples is not None:
                made[name] = samples
            done += 1
            on_progress("forecast skill", done, horizons * len(methods))
        for name, samples in made.items():
            figures = _figures(samples, spec.arrays["centre_D"], rng)
            for reference in ("ema", "shrunk_ema"):
                if reference in made and name != reference:
                    skill = _skill(samples, made[reference], rng)
                    figures[f"skill_over_{reference}"], figures[f"skill_over_{reference}_ci"] = (
                        skill
                    )
            report.setdefault(f"h{horizon}", {})[name] = figures
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Forecasts of one method at one horizon, and what came."""

    user_S: I64
    # With the user, tells a sample.
    column_S: I64
    gap_S: I64
    truth_SD: F32
    mean_SD: F32
    scale_SD: F32

    def squared(self) -> F64:
        """Return each sample's squared error [S]."""
        error_S: F64 = ((self.truth_SD.astype(np.float64) - self.mean_SD) ** 2).sum(axis=1)
        return error_S


def _samples(
    batch: TrajectoryBatch, method: Forecaster, columns: list[int], *, horizon: int,
    among: I64 | None,
) -> Samples | None:  # fmt: skip
    parts = []
    for column in columns:
        target = column + horizon - 1
        past = batch.until(column)
        ready = np.flatnonzero(past.mask_UT.any(axis=1) & batch.mask_UT[:, target])
        if among is not None:
            ready = np.intersect1d(ready, among)
        if not len(ready):
            continue
        known = past.users(ready)
        made = method.forecast(known, [horizon])
        parts.append(
            (
                ready, np.full(len(ready), column), known.gap_U(),
                batch.vec_UTD[ready, target], made.means_UHD[:, 0], made.scales_UHD[:, 0],
            )
        )  # fmt: skip
    if not parts:
        return None
    user_S, column_S, gap_S, truth_SD, mean_SD, scale_SD = (
        np.concatenate(each) for each in zip(*parts, strict=True)
    )
    return Samples(
        user_S=user_S, column_S=column_S, gap_S=gap_S,
        truth_SD=truth_SD, mean_SD=mean_SD, scale_SD=scale_SD,
    )  # fmt: skip


def _figures(samples: Samples, centre_D: F32, rng: np.random.Generator) -> dict[str, object]:
    truth_SD, mean_SD, scale_SD = samples.truth_SD, samples.mean_SD, samples.scale_SD
    errors = forecast_errors(truth_SD, mean_SD, scale_SD, centre_D)
    spread_S: F64 = ((truth_SD.astype(np.float64) - centre_D) ** 2).sum(axis=1)
    low, high = bootstrap_ratio(samples.squared(), spread_S, samples.user_S, rng)
    bucket_S = gap_bucket(samples.gap_S)
    by_gap = {}
    for g, name in enumerate(GAP_NAMES):
        rows = np.flatnonzero(bucket_S == g)
        if len(rows):
            part = forecast_errors(truth_SD[rows], mean_SD[rows], scale_SD[rows], centre_D)
            by_gap[name] = {
                "coverage_80": part.coverage_80, "coverage_95": part.coverage_95,
                "samples": len(rows),
            }  # fmt: skip
    return {
        **asdict(errors),
        "r2_ci": [1.0 - high, 1.0 - low],
        "by_gap": by_gap,
        "calibration": calibration_curve(truth_SD, mean_SD, scale_SD),
        "users": len(np.unique(samples.user_S)),
        "samples": len(samples.user_S),
    }


def _skill(
    samples: Samples, reference: Samples, rng: np.random.Generator
) -> tuple[float, list[float]]:
    """Return the share of the reference's squared error saved on the same samples, and its CI."""
    key_S = samples.user_S * BIG + samples.column_S
    reference_key_S = reference.user_S * BIG + reference.column_S
    order_S = np.argsort(reference_key_S)
    row_S = order_S[np.searchsorted(reference_key_S[order_S], key_S)]
    mine_S, theirs_S = samples.squared(), reference.squared()[row_S]
    low, high = bootstrap_ratio(mine_S, theirs_S, samples.user_S, rng)
    return 1.0 - float(mine_S.sum() / theirs_S.sum()), [1.0 - high, 1.0 - low]
