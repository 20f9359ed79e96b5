"""Fits every forecaster of one granularity, and chooses per horizon by what validation data prove.

Split by time: constants and nets learn from targets before the validation block (the last
`validation` periods); the block chooses half-lives, widths of the uncertainty, weights of the
stack, and who serves. Then all learn again from everything, with those choices.

`arima` and `ets` are fitted at forecast time, a user at a time: too slow to serve a bucket, so they
are calibrated on a sample and reported, never chosen.

Shape suffixes: U = users, D = width, K = components.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from services.core.calibration import Calibration
from services.core.forecasters import forecaster_of
from services.core.local_level import LocalLevel
from services.core.model import ForecasterSpec
from services.core.progress import Progress
from services.core.records import F32
from services.core.recurrent import Cell, RecurrentConfig, RecurrentForecaster
from services.core.statistical import STATISTICAL
from services.core.trajectories import TrajectoryBatch
from services.training.backtest import Errors, backtest, calibrate
from services.training.levels import choose_levels, fit_noises
from services.training.local_level import choose_local_level, fit_local_level, persisting
from services.training.recurrent import train_recurrent
from services.training.stacking import STACK, choose, combined, common_factors


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecasterConfig:
    """What is tried."""

    horizons: int = 8
    # Periods at the end that choose; cut to a third of what there is.
    validation: int = 8
    # Users who fit and choose; more are sampled among those with two active periods.
    user_limit: int = 6000
    # Users that backtests forecast; more are sampled.
    backtest_limit: int = 3000
    net: RecurrentConfig = field(default_factory=RecurrentConfig)
    # The LSTM equals the GRU wherever both were measured, and costs as much again.
    nets: tuple[Cell, ...] = ("gru",)
    # Principal components that arima and ets take on, and users that calibrate them; 0 leaves
    # them out: they never serve, so only an evaluation wants them.
    components: int = 0
    statistical_users: int = 24
    seed: int = 0


def fit_forecaster(
    batch: TrajectoryBatch,
    config: ForecasterConfig,
    on_progress: Progress = lambda stage, done, total: None,
) -> ForecasterSpec | None:
    """Fit and choose; None where there are fewer than 6 periods or no repeated user.

    Args:
        batch: trajectories; the last column is the last closed period of the training data.
        config: what is tried.
        on_progress: called with stage, done, total.
    """
    batch = _sample(batch, config.user_limit, config.seed)
    periods = batch.mask_UT.shape[1]
    if periods < 6 or (batch.mask_UT.sum(axis=1) >= 3).sum() < 8:
        return None
    cut = periods - min(config.validation, periods // 3)
    fit = batch.until(cut)
    centre_D = _centre(fit)
    params: dict[str, dict[str, Any]] = choose_levels(batch, centre_D, cut)
    level, exponent = choose_local_level(fit, batch, centre_D)
    spec = _fitted(fit, params, level, config, on_progress)
    judge = _sample(batch, config.backtest_limit, config.seed)
    members, choice, skill = _judged(spec, judge, cut, config, on_progress)
    widths = {name: given["calibration"] for name, given in members.items()}
    again = persisting(fit_local_level(batch, _centre(batch), level.count_power), exponent)
    whole = _fitted(batch, params, again, config, on_progress)
    loadings_DR, saved = _loadings(spec, judge, cut, members, choice, config)
    if loadings_DR is not None:
        whole.arrays["loadings_DR"] = loadings_DR
    for name, given in members.items():
        given["calibration"] = widths[name]
    return replace(
        whole,
        config={
            "members": members,
            "choice": choice,
            "validation_skill": skill,
            "common_factors": saved,
            "curves": whole.config["curves"],
        },
    )


def _fitted(
    batch: TrajectoryBatch, params: dict[str, dict[str, Any]], level: LocalLevel,
    config: ForecasterConfig, on_progress: Progress,
) -> ForecasterSpec:  # fmt: skip
    """Fit everything to a batch: members without calibration, nothing chosen."""
    plain = {"calibration": Calibration().to_json()}
    members: dict[str, dict[str, Any]] = {name: given | plain for name, given in params.items()}
    arrays: dict[str, F32] = {"centre_D": level.centre_D, **level.arrays()}
    arrays.update(fit_noises(params, batch, level.centre_D, config.horizons))
    members["local_level"] = {"count_power": level.count_power, **plain}
    curves = {}
    for cell in config.nets:
        model, curves[cell] = train_recurrent(
            cell, batch, level, config.horizons, config.net, on_progress
        )
        arrays.update(RecurrentForecaster(cell=cell, model=model, base=level).arrays())
        members[cell] = dict(plain)
    if config.components:
        arrays["components_DK"] = _components(batch, level.centre_D, config.components)
        members.update({kind: dict(plain) for kind in STATISTICAL})
    config_of: dict[str, object] = {"choice": ["ema"], "members": members, "curves": curves}
    return ForecasterSpec(config=config_of, arrays=arrays)


def _judged(
    spec: ForecasterSpec, batch: TrajectoryBatch, cut: int, config: ForecasterConfig,
    on_progress: Progress,
) -> tuple[dict[str, dict[str, Any]], list[str], dict[str, dict[str, list[float]]]]:  # fmt: skip
    """Return members with their calibrations, who serves each horizon, and everyone's gains."""
    members: dict[str, dict[str, Any]] = {k: dict(v) for k, v in _members(spec).items()}
    trials = _backtests(spec, batch, cut, config, on_progress)
    fast = {name: errors for name, errors in trials.items() if name not in STATISTICAL}
    rng = np.random.default_rng(config.seed)
    chosen = [
        choose({name: errors[h] for name, errors in fast.items()}, rng)
        for h in range(len(fast["ema"]))
        if len(fast["ema"][h].user_S)
    ]
    if chosen and any(each.name == STACK for each in chosen):
        members[STACK] = {"weight_H": [each.weight for each in chosen]}
        trials[STACK] = [
            combined({name: trials[name][h] for name in each.weight}, each.weight)
            for h, each in enumerate(chosen)
        ]
    for name, errors in trials.items():
        members[name]["calibration"] = calibrate(errors).to_json()
    choice = [each.name for each in chosen] or ["ema"]
    skill = {str(h): each.gains for h, each in enumerate(chosen, start=1)}
    return members, choice, skill


def _backtests(
    spec: ForecasterSpec, batch: TrajectoryBatch, cut: int, config: ForecasterConfig,
    on_progress: Progress,
) -> dict[str, list[Errors]]:  # fmt: skip
    """Return each member's errors over the validation block, by horizon."""
    auto = forecaster_of(spec)
    few = _sample(batch, config.statistical_users, config.seed)
    trials = {}
    for done, (name, member) in enumerate(auto.members.items(), start=1):
        trials[name] = backtest(member, few if name in STATISTICAL else batch, cut, config.horizons)
        on_progress("backtest forecasters", done, len(auto.members))
    return trials


def _loadings(
    spec: ForecasterSpec, batch: TrajectoryBatch, cut: int, members: dict[str, dict[str, Any]],
    choice: list[str], config: ForecasterConfig,
) -> tuple[F32 | None, dict[str, list[float]]]:  # fmt: skip
    """Return loadings of the served forecaster's errors one period ahead, where they help."""
    config_of: dict[str, object] = {"members": members, "choice": choice}
    served = forecaster_of(replace(spec, config=config_of))
    errors_H = backtest(served, batch, cut, 1)
    rng = np.random.default_rng(config.seed)
    return common_factors(errors_H[0], rng) if errors_H else (None, {})


def _components(batch: TrajectoryBatch, centre_D: F32, components: int) -> F32:
    """Return the leading principal components of the vectors [D, K]."""
    centred_PD = (batch.vec_UTD[batch.mask_UT] - centre_D).astype(np.float64)
    _, axes_DD = np.linalg.eigh(centred_PD.T @ centred_PD)
    components_DK: F32 = axes_DD[:, ::-1][:, :components].astype(np.float32)
    return components_DK


def _centre(batch: TrajectoryBatch) -> F32:
    centre_D: F32 = batch.vec_UTD[batch.mask_UT].mean(axis=0).astype(np.float32)
    return centre_D


def _members(spec: ForecasterSpec) -> dict[str, dict[str, Any]]:
    members = spec.config["members"]
    assert isinstance(members, dict)
    return members


def _sample(batch: TrajectoryBatch, limit: int, seed: int) -> TrajectoryBatch:
    """Return at most `limit` users, drawn among those with two active periods."""
    if len(batch.mask_UT) <= limit:
        return batch
    able = np.flatnonzero(batch.mask_UT.sum(axis=1) >= 2)
    rng = np.random.default_rng(seed)
    return batch.users(np.sort(rng.choice(able, min(limit, len(able)), replace=False)))
