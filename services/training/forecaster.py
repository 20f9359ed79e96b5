"""Fits every forecaster of one granularity, and chooses per horizon by what validation data prove.

Split by time: constants and the GRU learn from targets before the validation block (the last
`validation` periods); the block chooses half-lives, widths of the uncertainty, and who serves.

Shape suffixes: U = users, T = periods, D = width, H = horizons, S = (user, origin) samples.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from services.core.forecasters import (
    COUNT_POWER,
    NAIVE,
    Forecaster,
    LevelForecaster,
    LocalLevel,
    Noise,
    ema_level,
    forecaster_of,
)
from services.core.gru import GruConfig, GruForecaster, GruModel, gaps, tensors
from services.core.metrics import bootstrap_mean
from services.core.model import ForecasterSpec
from services.core.pooling import F64, I64
from services.core.progress import Progress
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecasterConfig:
    """What is tried."""

    horizons: int = 4
    # Periods at the end that choose; cut to a third of what there is.
    validation: int = 8
    half_lives: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    shrinks: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    # Users who fit and choose; more are sampled.
    user_limit: int = 20_000
    gru: GruConfig = field(default_factory=GruConfig)
    has_gru: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errors:
    """Errors of one horizon over the validation block."""

    user_S: I64
    error_SD: F64
    scale_SD: F32


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
    batch = _sample(batch, config)
    periods = batch.mask_UT.shape[1]
    if periods < 6 or (batch.mask_UT.sum(axis=1) >= 3).sum() < 8:
        return None
    cut = periods - min(config.validation, periods // 3)
    fit = batch.until(cut)
    centre_D = fit.vec_UTD[fit.mask_UT].mean(axis=0)
    spec = _fit_members(fit, batch, centre_D, cut, config)
    if config.has_gru:
        base = forecaster_of(spec).members["local_level"]
        assert isinstance(base, LocalLevel)
        model = train_gru(fit, base, config.horizons, config.gru, on_progress)
        spec.arrays.update(GruForecaster(model=model, base=base).arrays())
        members = {**_members(spec), "gru": {"factors": [1.0]}}
        spec = replace(spec, config=spec.config | {"members": members})
    return _calibrate_and_choose(spec, batch, cut, config)


def train_gru(
    batch: TrajectoryBatch,
    base: LocalLevel,
    horizons: int,
    config: GruConfig,
    on_progress: Progress = lambda stage, done, total: None,
) -> GruModel:
    """Maximise the Gaussian likelihood of each vector within the horizons, from every close."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    users, _, width = batch.vec_UTD.shape
    model = GruModel(width, horizons, config.hidden, config.dropout)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.rate, weight_decay=config.weight_decay
    )
    starts = list(range(0, users, config.batch_users))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.rate, total_steps=max(config.epochs * len(starts), 2)
    )
    step = 0
    for _ in range(config.epochs):
        order_U = rng.permutation(users)
        for start in starts:
            part = _users(batch, np.sort(order_U[start : start + config.batch_users]))
            loss = _gru_loss(model, part, base, horizons)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            on_progress("train gru", step, config.epochs * len(starts))
    return model.eval()


def _gru_loss(
    model: GruModel, batch: TrajectoryBatch, base: LocalLevel, horizons: int
) -> torch.Tensor:
    vec_UTD, mask_UT, count_UT = tensors(batch, base.centre_D)
    hidden_UTK = model.hidden_states(vec_UTD, mask_UT, count_UT)
    level_UTD, level_var_UTD, noise_UD = _base_path(base, batch)
    started_UT = mask_UT.cumsum(1) > 0
    gap_UT = gaps(mask_UT)
    losses, weights = [], []
    for h in range(1, horizons + 1):
        if h >= vec_UTD.shape[1]:
            break
        user_S, t_S = torch.nonzero(started_UT[:, :-h] & mask_UT[:, h:], as_tuple=True)
        mean_SHD, log_SH1 = model(hidden_UTK[user_S, t_S], gap_UT[user_S, t_S])
        rho_D = torch.from_numpy(base.rho_D) ** h
        stationary_D = torch.from_numpy(base.variance_D)
        var_SD = stationary_D + rho_D**2 * (level_var_UTD[user_S, t_S] - stationary_D)
        log_scale_SD = 0.5 * torch.log(var_SD + noise_UD[user_S]) + log_SH1[:, h - 1]
        error_SD = vec_UTD[user_S, t_S + h] - rho_D * level_UTD[user_S, t_S] - mean_SHD[:, h - 1]
        losses.append((0.5 * (error_SD * torch.exp(-log_scale_SD)) ** 2 + log_scale_SD).sum())
        weights.append(error_SD.numel())
    total: torch.Tensor = torch.stack(losses).sum() / max(sum(weights), 1)
    return total


def _base_path(
    base: LocalLevel, batch: TrajectoryBatch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the base's level and variance at every close, and the noise of a user's periods."""
    level_UTD = np.empty(batch.vec_UTD.shape, np.float32)
    var_UTD = np.empty(batch.vec_UTD.shape, np.float32)
    for t, state in enumerate(base.states(batch), start=-1):
        if t >= 0:
            level_UTD[:, t], var_UTD[:, t] = state.mean_UD, state.variance_UD
    noise_UD = base.noise_D / state.count_U[:, None] ** COUNT_POWER
    return (
        torch.from_numpy(level_UTD),
        torch.from_numpy(var_UTD),
        torch.from_numpy(noise_UD.astype(np.float32)),
    )


def _fit_members(
    fit: TrajectoryBatch, batch: TrajectoryBatch, centre_D: F32, cut: int, config: ForecasterConfig
) -> ForecasterSpec:
    arrays: dict[str, F32] = {"centre_D": centre_D.astype(np.float32)}
    ema = min((_ema_error(batch, centre_D, cut, h, 0.0), h, 0.0) for h in config.half_lives)
    shrunk = min(
        (_ema_error(batch, centre_D, cut, h, k), h, k)
        for h in config.half_lives[2:]
        for k in config.shrinks
    )
    members: dict[str, Any] = {
        "persistence": {},
        "mean": {},
        "ema": {"half_life": ema[1]},
        "shrunk_ema": {"half_life": shrunk[1], "shrink": shrunk[2]},
    }
    spec = ForecasterSpec(config={"choice": ["ema"], "members": {}}, arrays=arrays)
    for name, params in members.items():
        params["factors"] = [1.0]
        arrays[f"{name}.var0_D"] = np.ones_like(centre_D)
        arrays[f"{name}.var1_D"] = np.zeros_like(centre_D)
    spec = replace(spec, config={"choice": ["ema"], "members": members})
    for name in members:
        member = forecaster_of(spec).members[name]
        assert isinstance(member, LevelForecaster)
        noise = _fit_noise(member, fit, config.horizons)
        arrays[f"{name}.var0_D"], arrays[f"{name}.var1_D"] = noise.var0_D, noise.var1_D
    level = fit_local_level(fit, centre_D)
    for part in ("rho_D", "variance_D", "noise_D"):
        arrays[f"local_level.{part}"] = getattr(level, part)
    members["local_level"] = {"factors": [1.0]}
    return spec


def fit_local_level(batch: TrajectoryBatch, centre_D: F32) -> LocalLevel:
    """Fit by moments: a user's vectors k periods apart co-vary by variance * rho ** k."""
    centred_UTD = (batch.vec_UTD - centre_D) * batch.mask_UT[:, :, None]
    periods = batch.mask_UT.shape[1]
    lags = [k for k in (1, 2, 3, 4, 6, 8, 13, 20, 26) if k <= periods // 2]
    moments, pairs = [], []
    for k in lags:
        both = batch.mask_UT[:, k:] & batch.mask_UT[:, :-k]
        moments.append(np.einsum("utd,utd->d", centred_UTD[:, k:], centred_UTD[:, :-k]))
        pairs.append(max(both.sum(), 1))
    moment_LD = np.asarray(moments, np.float64) / np.asarray(pairs)[:, None]
    total_D = (centred_UTD[batch.mask_UT].astype(np.float64) ** 2).mean(axis=0)
    log_LD = np.log(np.maximum(moment_LD, 1e-4 * total_D))
    weight_L = np.sqrt(np.asarray(pairs, np.float64))
    lag_L = np.asarray(lags, np.float64)
    centre_lag = np.average(lag_L, weights=weight_L)
    centre_log_D = np.average(log_LD, axis=0, weights=weight_L)
    spread = (weight_L * (lag_L - centre_lag) ** 2).sum()
    slope_D = (weight_L * (lag_L - centre_lag)) @ (log_LD - centre_log_D) / max(spread, 1e-9)
    rho_D = np.clip(np.exp(slope_D), 0.5, 0.9995)
    variance_D = np.clip(
        np.exp(centre_log_D - np.log(rho_D) * centre_lag), 1e-4 * total_D, 0.95 * total_D
    )
    shrink = (batch.count_UT[batch.mask_UT] ** -COUNT_POWER).mean()
    noise_D = (total_D - variance_D) / shrink
    return LocalLevel(
        centre_D=centre_D.astype(np.float32),
        rho_D=rho_D.astype(np.float32),
        variance_D=variance_D.astype(np.float32),
        noise_D=noise_D.astype(np.float32),
    )


def _ema_error(
    batch: TrajectoryBatch, centre_D: F32, cut: int, half_life: float, shrink: float
) -> float:
    """Return the mean squared error one period ahead over the validation block."""
    total, count = 0.0, 0
    for t in range(cut, batch.mask_UT.shape[1], 2):
        past = batch.until(t)
        ready = np.flatnonzero(batch.mask_UT[:, t] & past.mask_UT.any(axis=1))
        level_SD = ema_level(_users(past, ready), centre_D, half_life, shrink)
        total += float(((batch.vec_UTD[ready, t] - level_SD) ** 2).sum())
        count += level_SD.size
    return total / max(count, 1)


def _fit_noise(member: LevelForecaster, fit: TrajectoryBatch, horizons: int) -> Noise:
    """Fit var0 + var1 * (age - 1) by least squares over the errors of a few closes."""
    periods = fit.mask_UT.shape[1]
    gram, right = np.zeros((2, 2)), np.zeros((2, fit.vec_UTD.shape[2]))
    for close in sorted({max(2, periods - horizons - 1 - 3 * i) for i in range(4)}):
        past = fit.until(close)
        level_UD, gap_U = member.level(past), past.gap_U()
        for h in range(1, min(horizons, periods - close) + 1):
            ready = np.flatnonzero(fit.mask_UT[:, close + h - 1] & past.mask_UT.any(axis=1))
            squared_SD = (
                fit.vec_UTD[ready, close + h - 1].astype(np.float64) - level_UD[ready]
            ) ** 2
            design_S2 = np.stack([np.ones(len(ready)), gap_U[ready] + h - 1.0], axis=1)
            gram += design_S2.T @ design_S2
            right += design_S2.T @ squared_SD
    var0_D, var1_D = np.linalg.lstsq(gram, right, rcond=None)[0]
    var0_D = np.maximum(var0_D, 1e-6)
    # Never surer with age; a tenth of a percent a period at least, so that a gap widens the scale.
    return Noise(
        var0_D=var0_D.astype(np.float32),
        var1_D=np.maximum(var1_D, 1e-3 * var0_D).astype(np.float32),
    )


def _calibrate_and_choose(
    spec: ForecasterSpec, batch: TrajectoryBatch, cut: int, config: ForecasterConfig
) -> ForecasterSpec:
    auto = forecaster_of(spec)
    members = {name: dict(params) for name, params in _members(spec).items()}
    choice, skill = [], {}
    errors = {
        name: _backtest(member, batch, cut, config.horizons)
        for name, member in auto.members.items()
    }
    for name, params in members.items():
        params["factors"] = [
            float(((e.error_SD / e.scale_SD) ** 2).mean()) for e in errors[name] if len(e.user_S)
        ] or [1.0]
    rng = np.random.default_rng(config.seed)
    for h in range(config.horizons):
        at_h = {name: errors[name][h] for name in members}
        if not len(at_h["ema"].user_S):
            break
        chosen, gains = _choose(at_h, rng)
        choice.append(chosen)
        skill[str(h + 1)] = gains
    return replace(
        spec, config={"members": members, "choice": choice or ["ema"], "validation_skill": skill}
    )


def _choose(
    at_h: dict[str, _Errors], rng: np.random.Generator
) -> tuple[str, dict[str, list[float]]]:
    """Return the best forecaster of proven skill, else the best naive one; and each one's gain.

    A gain is the share of the best naive one's squared error that is saved, with its 95% interval.
    """
    squared = {name: (e.error_SD**2).mean(axis=1) for name, e in at_h.items()}
    naive = min(NAIVE, key=lambda name: float(squared[name].mean()))
    scale = float(squared[naive].mean())
    gains = {}
    for name, squared_S in squared.items():
        gain = bootstrap_mean((squared[naive] - squared_S) / scale, at_h[name].user_S, rng, 300)
        gains[name] = [round(v, 5) for v in (gain.mean, gain.low, gain.high)]
    proven = [name for name, (_, low, _) in gains.items() if low > 0.0]
    return max(proven, key=lambda name: gains[name][0], default=naive), gains


def _backtest(member: Forecaster, batch: TrajectoryBatch, cut: int, horizons: int) -> list[_Errors]:
    """Forecast from every close whose targets lie in the validation block."""
    periods = batch.mask_UT.shape[1]
    found: list[list[tuple[I64, F64, F32]]] = [[] for _ in range(horizons)]
    for close in range(max(cut - 1, 2), periods):
        past = batch.until(close)
        ahead = range(1, min(horizons, periods - close) + 1)
        ready = np.flatnonzero(past.mask_UT.any(axis=1) & batch.mask_UT[:, close:].any(axis=1))
        made = member.forecast(_users(past, ready), list(ahead))
        for i, h in enumerate(ahead):
            row = np.flatnonzero(batch.mask_UT[ready, close + h - 1])
            truth_SD = batch.vec_UTD[ready[row], close + h - 1].astype(np.float64)
            found[h - 1].append(
                (ready[row], truth_SD - made.means_UHD[row, i], made.scales_UHD[row, i])
            )
    width = batch.vec_UTD.shape[2]
    return [
        _Errors(
            user_S=np.concatenate([np.zeros(0, np.int64), *(u for u, _, _ in parts)]),
            error_SD=np.concatenate([np.zeros((0, width)), *(e for _, e, _ in parts)]),
            scale_SD=np.concatenate([np.zeros((0, width), np.float32), *(s for _, _, s in parts)]),
        )
        for parts in found
    ]


def _members(spec: ForecasterSpec) -> dict[str, dict[str, Any]]:
    members = spec.config["members"]
    assert isinstance(members, dict)
    return members


def _sample(batch: TrajectoryBatch, config: ForecasterConfig) -> TrajectoryBatch:
    users = len(batch.mask_UT)
    if users <= config.user_limit:
        return batch
    rng = np.random.default_rng(config.seed)
    return _users(batch, np.sort(rng.choice(users, config.user_limit, replace=False)))


def _users(batch: TrajectoryBatch, rows: I64) -> TrajectoryBatch:
    return TrajectoryBatch(
        vec_UTD=batch.vec_UTD[rows], mask_UT=batch.mask_UT[rows], count_UT=batch.count_UT[rows]
    )
