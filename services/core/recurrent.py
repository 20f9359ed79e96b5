"""GRU and LSTM that correct local_level: the article's P(y_t | y_<t), by Gaussian likelihood.

One step per *active* period, its input the period's coordinates (core/local_level.py), the level
believed after it, how many events made it and how many periods were empty before it; so a gap is a
gap, and empty columns change nothing. At any close the head reads the last hidden state and how
long ago that was:

    mean_h      = local_level's mean_h + a_h basis (spread W hidden)
    log scale_h = log local_level's scale_h + s_h + v_h . hidden + softplus(b_h) log(1 + gap)

`spread` is the share of each coordinate that is level, not noise: where nothing persists, nothing
is corrected.

Shape suffixes: U = users, T = periods, A = active periods, D = width, K = coordinates,
F = input features, N = hidden, H = horizons, S = (user, close) samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from services.core.forecasts import ForecastBatch
from services.core.local_level import LocalLevel
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch

Cell = Literal["gru", "lstm"]
CELLS: tuple[Cell, ...] = ("gru", "lstm")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentConfig:
    """Sizes, and how it is trained."""

    hidden: int = 96
    # Of the hidden state.
    dropout: float = 0.4
    epochs: int = 6
    batch_users: int = 128
    rate: float = 2e-3
    weight_decay: float = 1e-2
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePath:
    """What the base knew at every close."""

    z_UTK: Tensor
    level_UTK: Tensor
    variance_UTK: Tensor
    # Noise of one of the user's typical periods.
    noise_UK: Tensor
    mask_UT: Tensor
    count_UT: Tensor


class RecurrentModel(nn.Module):
    """Corrections to a base forecast for horizons 1..H."""

    def __init__(
        self, cell: Cell, coordinates: int, horizons: int, hidden: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.cell = kind(2 * coordinates + 2, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.mean = nn.Linear(hidden, coordinates, bias=False)
        self.mean_H = nn.Parameter(torch.ones(horizons))
        self.scale = nn.Linear(hidden, horizons)
        self.gap_H = nn.Parameter(torch.full((horizons,), -3.0))
        # Starts as the base itself.
        for weight in (self.mean.weight, self.scale.weight, self.scale.bias):
            nn.init.zeros_(weight)

    def hidden_states(self, path: BasePath) -> Tensor:
        """Return the hidden state at every close [U, T, N]; zero before the first vector."""
        order_UT = torch.argsort((~path.mask_UT).to(torch.int8), dim=1, stable=True)
        longest = max(int(path.mask_UT.sum(1).max()), 1)
        order_UA = order_UT[:, :longest]
        before_UA = torch.cat([order_UA[:, :1], order_UA[:, :-1]], dim=1)
        gap_UA = (order_UA - before_UA - 1).clamp_min(0).float()
        count_UA = path.count_UT.gather(1, order_UA).float().clamp_min(0)
        features = torch.stack([torch.log1p(gap_UA), torch.log1p(count_UA) / 4.0], dim=2)
        z_UAK, level_UAK = _at(path.z_UTK, order_UA), _at(path.level_UTK, order_UA)
        hidden_UAN, _ = self.cell(torch.cat([z_UAK, level_UAK, features], dim=2))
        last_UT = path.mask_UT.long().cumsum(1) - 1
        known_UTN: Tensor = _at(hidden_UAN, last_UT.clamp_min(0)) * (last_UT >= 0)[:, :, None]
        return known_UTN

    def forward(self, hidden_SN: Tensor, gap_S: Tensor) -> tuple[Tensor, Tensor]:
        """Return additions to the coordinates [S, K], times mean_H, and to the log scales [S, H]."""
        hidden_SN = self.dropout(hidden_SN)
        widening_SH = nn.functional.softplus(self.gap_H) * torch.log1p(gap_S)[:, None]
        return self.mean(hidden_SN), self.scale(hidden_SN) + widening_SH


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentForecaster:
    """The trained net on its base."""

    cell: Cell
    model: RecurrentModel
    base: LocalLevel

    @property
    def name(self) -> str:
        """The cell's."""
        return self.cell

    @staticmethod
    def from_arrays(cell: Cell, arrays: dict[str, F32], base: LocalLevel) -> "RecurrentForecaster":
        """Rebuild from a spec's arrays, named gru.* or lstm.*; sizes are those of the arrays."""
        start = f"{cell}."
        weights = {
            name[len(start) :]: torch.from_numpy(np.array(array))
            for name, array in arrays.items()
            if name.startswith(start)
        }
        hidden, horizons = weights["scale.weight"].shape[1], len(weights["gap_H"])
        model = RecurrentModel(cell, len(base.rho_K), horizons, hidden)
        model.load_state_dict(weights)
        return RecurrentForecaster(cell=cell, model=model.eval(), base=base)

    def arrays(self) -> dict[str, F32]:
        """Return the weights under their names in a spec."""
        state = self.model.state_dict()
        return {f"{self.cell}.{name}": v.detach().numpy().copy() for name, v in state.items()}

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """See Forecaster. Horizons past the trained ones use the last trained one's correction."""
        base = self.base.forecast(batch, horizons)
        row_H = np.minimum(horizons, len(self.model.gap_H)) - 1
        # A user without vectors has no gap: the base's own spread says that nothing is known.
        gap_U = np.where(batch.mask_UT.any(axis=1), batch.gap_U(), 0)
        with torch.inference_mode():
            hidden_UN = self.model.hidden_states(base_path(self.base, batch))[:, -1]
            shift_UK, log_UH = self.model(hidden_UN, torch.from_numpy(gap_U).float())
            shift_UD = shift_UK.numpy() @ correction_basis(self.base).T
            share_H = self.model.mean_H.numpy()[row_H]
        scale_UH1 = np.exp(log_UH.numpy()[:, row_H])[:, :, None]
        return ForecastBatch(
            means_UHD=base.means_UHD + shift_UD[:, None] * share_H[:, None],
            scales_UHD=(base.scales_UHD * scale_UH1).astype(np.float32),
        )


def correction_basis(base: LocalLevel) -> F32:
    """Return the base's coordinates, each times the share of it that persists [D, K]."""
    spread_K = np.sqrt(base.variance_K / (base.variance_K + base.noise_K))
    basis_DK: F32 = (base.basis_DK * spread_K).astype(np.float32)
    return basis_DK


def base_path(base: LocalLevel, batch: TrajectoryBatch) -> BasePath:
    """Filter once, and keep what was believed at every close. Coordinates are in units of noise."""
    unit_K = np.sqrt(base.noise_K)
    shape = (*batch.mask_UT.shape, len(unit_K))
    level_UTK, variance_UTK = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for t, state in enumerate(base.states(batch), start=-1):
        if t >= 0:
            level_UTK[:, t] = state.mean_UK / unit_K
            variance_UTK[:, t] = state.variance_UK / unit_K**2
    noise_UK = np.repeat(state.count_U[:, None] ** -base.count_power, len(unit_K), axis=1)
    return BasePath(
        z_UTK=torch.from_numpy((base.coordinates(batch) / unit_K).astype(np.float32)),
        level_UTK=torch.from_numpy(level_UTK),
        variance_UTK=torch.from_numpy(variance_UTK),
        noise_UK=torch.from_numpy(noise_UK.astype(np.float32)),
        mask_UT=torch.from_numpy(np.ascontiguousarray(batch.mask_UT)),
        count_UT=torch.from_numpy(np.ascontiguousarray(batch.count_UT)),
    )


def gaps(mask_UT: Tensor) -> Tensor:
    """Return periods since the last active one at the close of every period [U, T]."""
    ordinal_T = torch.arange(mask_UT.shape[1])
    last_UT = torch.where(mask_UT, ordinal_T, -1).cummax(1).values
    return (ordinal_T - last_UT).float()


def _at(value_UTK: Tensor, column_UA: Tensor) -> Tensor:
    return value_UTK.gather(1, column_UA[:, :, None].expand(-1, -1, value_UTK.shape[2]))
