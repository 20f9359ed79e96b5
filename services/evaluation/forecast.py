"""Forecast skill: every forecaster of the model, from every origin, against what came.

Shape suffixes: U = users, D = width, H = horizons, S = (user, origin) samples.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from services.core.calibration import GAP_NAMES, gap_bucket
from services.core.forecast_metrics import calibration_curve, forecast_errors
from services.core.forecasters import forecaster_of
from services.core.forecasts import Forecaster
from services.core.metrics import bootstrap_ratio
from services.core.model import Model
from services.core.pooling import F64, I64
from services.core.progress import Progress
from services.core.records import F32
from services.core.statistical import STATISTICAL
from services.core.trajectories import TrajectoryBatch, next_mean
from services.evaluation.protocol import Split
from services.evaluation.trajectories import Trajectories

# What others' squared errors are compared with, on the same samples.
REFERENCES = ("ema", "shrunk_ema")
# Periods whose mean is forecast as one: a single one is mostly noise.
AGGREGATE = 4
WHOLE = f"mean{AGGREGATE}"
# Users that forecasters fitted at forecast time are measured on.
SLOW_USERS = 24
# More than any column.
BIG = 1_000_000

Row = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSkill:
    """Figures of every method; nothing where the model has no forecaster."""

    # {hH: {method: figures}}.
    by_horizon: dict[str, dict[str, Row]]
    # {method: figures} of the mean of the next AGGREGATE periods; nothing with fewer horizons.
    aggregate: dict[str, Row]


def forecast_report(
    split: Split,
    model: Model,
    seen: Trajectories,
    *,
    horizons: int,
    rng: np.random.Generator,
    on_progress: Progress = lambda stage, done, total: None,
) -> ForecastSkill:
    """Measure every forecaster at horizons 1..horizons, and on the mean of the next AGGREGATE periods.

    That mean is forecast by the mean of the periods' means; it has no intervals.

    R2 is against the cross-user mean of the training data, frozen in the model. A sample is a user
    with a vector in the target period and one before the origin. `skill_over_ema` and
    `skill_over_shrunk_ema` are the share of those ones' squared error that is saved on the same
    samples, paired. arima and ets are fitted at forecast time, so they are measured on SLOW_USERS
    users; their skills are comparable, their R2 is of those users.
    """
    spec = model.forecasters.get(split.granularity)
    if spec is None:
        return ForecastSkill(by_horizon={}, aggregate={})
    auto = forecaster_of(spec)
    # Ours leads the tables; what it is compared with is measured first.
    methods: dict[str, Forecaster] = {"driftline": auto, **auto.members}
    order = sorted(methods, key=lambda name: name not in REFERENCES)
    batch = seen.batch
    few = np.random.default_rng(0).permutation(len(batch.mask_UT))[:SLOW_USERS]
    columns = [seen.column(origin) for origin in split.origins]
    found: dict[str, dict[str, Row]] = {}
    references: dict[tuple[str, str], Squared] = {}
    for done, name in enumerate(order, 1):
        among = few if name in STATISTICAL else None
        for part, samples in _measured(batch, methods[name], columns, horizons, among):
            squared = samples.squared()
            row = _figures(samples, squared, spec.arrays["centre_D"], rng)
            for reference in REFERENCES:
                if name != reference and (reference, part) in references:
                    skill, interval = _skill(squared, references[reference, part], rng)
                    row |= {
                        f"skill_over_{reference}": skill,
                        f"skill_over_{reference}_ci": interval,
                    }
            if name in REFERENCES:
                references[name, part] = squared
            found.setdefault(part, {})[name] = row
        on_progress("forecast skill", done, len(order))
    ordered = {
        part: {name: rows[name] for name in methods if name in rows} for part, rows in found.items()
    }
    return ForecastSkill(aggregate=ordered.pop(WHOLE, {}), by_horizon=ordered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Forecasts of one method, and what came."""

    user_S: I64
    # With the user, tells a sample.
    column_S: I64
    gap_S: I64
    truth_SD: F32
    mean_SD: F32
    # None where a method gives no width.
    scale_SD: F32 | None

    def squared(self) -> "Squared":
        """Return each sample's squared error."""
        error_S: F64 = ((self.truth_SD.astype(np.float64) - self.mean_SD) ** 2).sum(axis=1)
        return Squared(key_S=self.user_S * BIG + self.column_S, user_S=self.user_S, error_S=error_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Squared:
    """Squared errors of one method, by sample."""

    key_S: I64
    user_S: I64
    error_S: F64


def _measured(
    batch: TrajectoryBatch, method: Forecaster, columns: list[int], horizons: int,
    among: I64 | None,
) -> Iterator[tuple[str, Samples]]:  # fmt: skip
    """Yield each part's samples; a method is asked once an origin, for all horizons."""
    parts: dict[str, list[Samples]] = {}
    periods = batch.mask_UT.shape[1]
    for column in columns:
        past, ahead = batch.until(column), min(horizons, periods - column)
        ready = past.mask_UT.any(axis=1) & batch.mask_UT[:, column : column + ahead].any(axis=1)
        ready_U = (
            np.flatnonzero(ready) if among is None else np.intersect1d(np.flatnonzero(ready), among)
        )
        if not len(ready_U) or not ahead:
            continue
        known = past.users(ready_U)
        made = method.forecast(known, list(range(1, ahead + 1)))
        gap_U = known.gap_U()
        for h in range(ahead):
            row = np.flatnonzero(batch.mask_UT[ready_U, column + h])
            parts.setdefault(f"h{h + 1}", []).append(
                Samples(
                    user_S=ready_U[row], column_S=np.full(len(row), column), gap_S=gap_U[row],
                    truth_SD=batch.vec_UTD[ready_U[row], column + h],
                    mean_SD=made.means_UHD[row, h], scale_SD=made.scales_UHD[row, h],
                )
            )  # fmt: skip
        if ahead >= AGGREGATE:
            truth_UD, row = next_mean(batch.users(ready_U), column, AGGREGATE)
            parts.setdefault(WHOLE, []).append(
                Samples(
                    user_S=ready_U[row], column_S=np.full(len(row), column), gap_S=gap_U[row],
                    truth_SD=truth_UD[row],
                    mean_SD=made.means_UHD[row, :AGGREGATE].mean(axis=1), scale_SD=None,
                )
            )  # fmt: skip
    for part in sorted(
        parts, key=lambda name: (not name.startswith("h"), int(name.strip("hmean")))
    ):
        yield part, _joined(parts.pop(part))


def _joined(parts: list[Samples]) -> Samples:
    scales = [part.scale_SD for part in parts if part.scale_SD is not None]
    return Samples(
        user_S=np.concatenate([part.user_S for part in parts]),
        column_S=np.concatenate([part.column_S for part in parts]),
        gap_S=np.concatenate([part.gap_S for part in parts]),
        truth_SD=np.concatenate([part.truth_SD for part in parts]),
        mean_SD=np.concatenate([part.mean_SD for part in parts]),
        scale_SD=np.concatenate(scales) if scales else None,
    )


def _figures(
    samples: Samples, squared: Squared, centre_D: F32, rng: np.random.Generator
) -> Row:  # fmt: skip
    truth_SD, mean_SD, scale_SD = samples.truth_SD, samples.mean_SD, samples.scale_SD
    spread_S: F64 = ((truth_SD.astype(np.float64) - centre_D) ** 2).sum(axis=1)
    low, high = bootstrap_ratio(squared.error_S, spread_S, samples.user_S, rng)
    row: Row = {
        "r2_ci": [1.0 - high, 1.0 - low],
        "users": len(np.unique(samples.user_S)),
        "samples": len(samples.user_S),
    }
    if scale_SD is None:
        mse = float(squared.error_S.mean()) / truth_SD.shape[1]
        return row | {"r2": 1.0 - float(squared.error_S.sum() / spread_S.sum()), "mse": mse}
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
    errors = asdict(forecast_errors(truth_SD, mean_SD, scale_SD, centre_D))
    curve = calibration_curve(truth_SD, mean_SD, scale_SD)
    return {**errors, **row, "by_gap": by_gap, "calibration": curve}


def _skill(
    mine: Squared, reference: Squared, rng: np.random.Generator
) -> tuple[float, list[float]]:  # fmt: skip
    """Return the share of the reference's squared error saved on the same samples, and its CI."""
    order_S = np.argsort(reference.key_S)
    row_S = order_S[np.searchsorted(reference.key_S[order_S], mine.key_S)]
    theirs_S = reference.error_S[row_S]
    low, high = bootstrap_ratio(mine.error_S, theirs_S, mine.user_S, rng)
    return 1.0 - float(mine.error_S.sum() / theirs_S.sum()), [1.0 - high, 1.0 - low]
