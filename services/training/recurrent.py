"""Trains the recurrent nets by the article's objective: -1/m sum log P(y_j | y_<j).

Shape suffixes: U = users, D = width, K = coordinates, S = (user, close) samples.
"""

import numpy as np
import torch
from torch import Tensor

from services.core.local_level import LocalLevel
from services.core.progress import Progress
from services.core.recurrent import (
    BasePath,
    Cell,
    RecurrentConfig,
    RecurrentModel,
    base_path,
    correction_basis,
    gaps,
)
from services.core.trajectories import TrajectoryBatch

Curve = list[tuple[float, float]]
# Pairs of a close and a target that one horizon of one step learns from; more are sampled.
PAIRS_A_STEP = 1024


def train_recurrent(
    cell: Cell,
    batch: TrajectoryBatch,
    base: LocalLevel,
    horizons: int,
    config: RecurrentConfig,
    on_progress: Progress = lambda stage, done, total: None,
) -> tuple[RecurrentModel, Curve]:
    """Maximise the Gaussian likelihood of each vector within the horizons, from every close.

    Returns:
        The model, and (epoch, mean loss) pairs: nats per component.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    users = len(batch.mask_UT)
    model = RecurrentModel(cell, len(base.rho_K), horizons, config.hidden, config.dropout)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.rate, weight_decay=config.weight_decay
    )
    starts = list(range(0, users, config.batch_users))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.rate, total_steps=max(config.epochs * len(starts), 2)
    )
    step, curve = 0, list[tuple[float, float]]()
    for epoch in range(1, config.epochs + 1):
        losses = []
        order_U = rng.permutation(users)
        for start in starts:
            part = batch.users(np.sort(order_U[start : start + config.batch_users]))
            loss = _loss(model, part, base, horizons)
            if loss is None:
                continue
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            step += 1
            on_progress(f"train {cell}", step, config.epochs * len(starts))
        if losses:
            curve.append((float(epoch), float(np.mean(losses))))
    return model.eval(), curve


def _loss(
    model: RecurrentModel, batch: TrajectoryBatch, base: LocalLevel, horizons: int
) -> Tensor | None:
    path = base_path(base, batch)
    hidden_UTN = model.hidden_states(path)
    started_UT, gap_UT = path.mask_UT.cumsum(1) > 0, gaps(path.mask_UT)
    centred_UTD = torch.from_numpy((batch.vec_UTD - base.centre_D).astype(np.float32))
    # Coordinates of the path are in units of noise.
    basis_DK = torch.from_numpy((base.basis_DK * np.sqrt(base.noise_K)).astype(np.float32))
    corrected_DK = torch.from_numpy(correction_basis(base))
    losses, terms = [], 0
    for h in range(1, min(horizons, path.mask_UT.shape[1] - 1) + 1):
        pairs_S2 = torch.nonzero(started_UT[:, :-h] & path.mask_UT[:, h:])
        pairs_S2 = pairs_S2[torch.randperm(len(pairs_S2))[:PAIRS_A_STEP]]
        user_S, close_S = pairs_S2[:, 0], pairs_S2[:, 1]
        shift_SK, log_SH = model(hidden_UTN[user_S, close_S], gap_UT[user_S, close_S])
        level_SK, variance_SK = _ahead(base, path, user_S, close_S, h)
        mean_SD = level_SK @ basis_DK.T + model.mean_H[h - 1] * (shift_SK @ corrected_DK.T)
        variance_SD = variance_SK @ (basis_DK.T**2)
        log_scale_SD = 0.5 * torch.log(variance_SD) + log_SH[:, h - 1 : h]
        error_SD = centred_UTD[user_S, close_S + h] - mean_SD
        losses.append((0.5 * (error_SD * torch.exp(-log_scale_SD)) ** 2 + log_scale_SD).sum())
        terms += error_SD.numel()
    if not terms:
        return None
    total: Tensor = torch.stack(losses).sum() / terms
    return total


def _ahead(
    base: LocalLevel, path: BasePath, user_S: Tensor, close_S: Tensor, h: int
) -> tuple[Tensor, Tensor]:
    """Return the base's mean and variance `h` periods after a close, in units of noise."""
    rho_K = torch.from_numpy(base.rho_K) ** h
    stationary_K = torch.from_numpy(base.variance_K / base.noise_K)
    level_SK = path.level_UTK[user_S, close_S] * rho_K
    level_var_SK = path.variance_UTK[user_S, close_S] - stationary_K
    variance_SK = stationary_K + rho_K**2 * level_var_SK + path.noise_UK[user_S]
    return level_SK, variance_SK
