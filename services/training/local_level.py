"""Fits the local level by moments: how a user's vectors some periods apart vary together.

Shape suffixes: U = users, T = periods, D = width, K = coordinates, L = lags, P = active periods.
"""

from dataclasses import dataclass, replace

import numpy as np

from services.core.forecasts import COUNT_POWER
from services.core.local_level import LocalLevel
from services.core.pooling import F64
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch

LAGS = (1, 2, 3, 4, 6, 8, 13, 20, 26)
# Lags whose co-variation stands for the level's own.
NEAR = 4
# Powers of the count, then exponents of the fitted correlations, that validation data choose from.
POWERS = (0.0, 0.15, COUNT_POWER)
PERSISTENCES = (1.0, 0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moments:
    """Weighted co-variation of a user's centred vectors."""

    lag_L: F64
    # User and lag pairs behind each.
    pairs_L: F64
    lagged_LDD: F64
    # Of all vectors, each times its events ** count_power; and the mean of those powers.
    total_DD: F64
    less: float


def fit_local_level(
    batch: TrajectoryBatch, centre_D: F32, count_power: float = COUNT_POWER
) -> LocalLevel:
    """Fit by moments: coordinates z periods apart co-vary by variance * rho ** lag.

    Args:
        batch: trajectories with at least two active periods of one user.
        centre_D: cross-user mean.
        count_power: how fast a period's noise falls with its events.
    """
    moments = _moments(batch, centre_D, count_power)
    near = moments.lag_L <= NEAR
    signal_DD = np.average(moments.lagged_LDD[near], axis=0, weights=moments.pairs_L[near])
    # Few pairs say little about how components go together: pull that to nothing.
    width = len(centre_D)
    noise_DD = moments.total_DD - signal_DD * moments.less
    trust = 1.0 - width / (width + 0.1 * moments.pairs_L[near].sum())
    signal_DD = _off_diagonal_times(signal_DD, trust)
    basis_DK, inverse_KD = _coordinates(signal_DD, _off_diagonal_times(noise_DD, trust))
    total_K = np.maximum(_in_coordinates(moments.total_DD, inverse_KD), 0.1)
    lagged_LK = np.stack([_in_coordinates(m, inverse_KD) for m in moments.lagged_LDD])
    log_LK = np.log(np.maximum(lagged_LK, 1e-3 * total_K))
    weight_L = np.sqrt(moments.pairs_L)
    mean_lag = np.average(moments.lag_L, weights=weight_L)
    mean_log_K = np.average(log_LK, axis=0, weights=weight_L)
    offset_L = moments.lag_L - mean_lag
    spread = max(float((weight_L * offset_L**2).sum()), 1e-9)
    slope_K = (weight_L * offset_L) @ (log_LK - mean_log_K) / spread
    rho_K = np.clip(np.exp(slope_K), 0.5, 0.9995)
    most_K = 0.95 * total_K / moments.less
    variance_K = np.clip(np.exp(mean_log_K - np.log(rho_K) * mean_lag), 1e-4 * total_K, most_K)
    # The level at lag 0 is more than at the near lags that gave the coordinates.
    noise_K = total_K - variance_K * moments.less
    return LocalLevel(
        centre_D=centre_D.astype(np.float32),
        basis_DK=basis_DK.astype(np.float32),
        inverse_KD=inverse_KD.astype(np.float32),
        rho_K=rho_K.astype(np.float32),
        variance_K=variance_K.astype(np.float32),
        noise_K=noise_K.astype(np.float32),
        count_power=count_power,
    )


def choose_local_level(
    fit: TrajectoryBatch, batch: TrajectoryBatch, centre_D: F32
) -> tuple[LocalLevel, float]:
    """Fit on `fit`; let the periods of `batch` after it choose the count's power and persistence.

    Returns:
        The level, and the exponent that its fitted correlations were raised to.
    """
    levels = [fit_local_level(fit, centre_D, power) for power in POWERS]
    cut = fit.mask_UT.shape[1]
    best = min(levels, key=lambda level: one_step_error(level, batch, cut))
    tried = {exponent: persisting(best, exponent) for exponent in PERSISTENCES}
    exponent = min(PERSISTENCES, key=lambda e: one_step_error(tried[e], batch, cut))
    return tried[exponent], exponent


def persisting(level: LocalLevel, exponent: float) -> LocalLevel:
    """Return the level with its correlations raised to a power; under 1, it persists longer."""
    return replace(level, rho_K=(level.rho_K**exponent).astype(np.float32))


def one_step_error(level: LocalLevel, batch: TrajectoryBatch, cut: int) -> float:
    """Return the mean squared error one period ahead, over targets from column `cut` on."""
    total, count = 0.0, 0
    started_UT = batch.mask_UT.cumsum(axis=1) > 0
    for column, state in enumerate(level.states(batch)):
        if column < max(cut, 1) or column == batch.mask_UT.shape[1]:
            continue
        ready = np.flatnonzero(batch.mask_UT[:, column] & started_UT[:, column - 1])
        mean_UK = state.mean_UK[ready] * level.rho_K
        means_UD = level.centre_D + mean_UK.astype(np.float32) @ level.basis_DK.T
        total += float(((batch.vec_UTD[ready, column] - means_UD) ** 2).sum())
        count += means_UD.size
    return total / max(count, 1)


def _moments(batch: TrajectoryBatch, centre_D: F32, count_power: float) -> _Moments:
    less_UT = np.where(batch.mask_UT, np.maximum(batch.count_UT, 1) ** count_power, 0.0)
    centred_UTD = (batch.vec_UTD - centre_D) * batch.mask_UT[:, :, None]
    weighted_UTD = (centred_UTD * less_UT[:, :, None]).astype(np.float32)
    periods, width = batch.mask_UT.shape[1], len(centre_D)
    lagged, pairs, lags = [], [], [k for k in LAGS if k <= periods // 2]
    for lag in lags:
        early = weighted_UTD[:, :-lag].reshape(-1, width)
        late = weighted_UTD[:, lag:].reshape(-1, width)
        weight = float((less_UT[:, :-lag] * less_UT[:, lag:]).sum())
        moment_DD = (early.T @ late).astype(np.float64) / max(weight, 1.0)
        lagged.append((moment_DD + moment_DD.T) / 2.0)
        pairs.append(max(int((batch.mask_UT[:, :-lag] & batch.mask_UT[:, lag:]).sum()), 1))
    lag_L, pairs_L = np.asarray(lags, np.float64), np.asarray(pairs, np.float64)
    seen_PD, less_P = centred_UTD[batch.mask_UT].astype(np.float64), less_UT[batch.mask_UT]
    total_DD = (seen_PD * less_P[:, None]).T @ seen_PD / len(seen_PD)
    return _Moments(
        lag_L=lag_L,
        pairs_L=pairs_L,
        lagged_LDD=np.stack(lagged),
        total_DD=total_DD,
        less=float(less_P.mean()),
    )


def _coordinates(signal_DD: F64, noise_DD: F64) -> tuple[F64, F64]:
    """Return basis and inverse in which both are diagonal, the noise of unit size."""
    size_D, axes_DD = np.linalg.eigh(noise_DD)
    size_D = np.maximum(size_D, 1e-2 * max(size_D.mean(), 1e-9))
    root_DD = axes_DD * np.sqrt(size_D) @ axes_DD.T
    unroot_DD = axes_DD / np.sqrt(size_D) @ axes_DD.T
    _, turn_DK = np.linalg.eigh(unroot_DD @ signal_DD @ unroot_DD)
    return root_DD @ turn_DK, turn_DK.T @ unroot_DD


def _in_coordinates(moment_DD: F64, inverse_KD: F64) -> F64:
    diagonal_K: F64 = np.einsum("kd,de,ke->k", inverse_KD, moment_DD, inverse_KD, optimize=True)
    return diagonal_K


def _off_diagonal_times(moment_DD: F64, share: float) -> F64:
    return moment_DD * share + np.diag(np.diag(moment_DD)) * (1.0 - share)
