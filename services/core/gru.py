"""A GRU that corrects local_level: the article's P(y_t | y_<t), by Gaussian likelihood.

One step per *active* period, its input the vector, how many events made it and how many periods
were empty before it; so a gap is a gap, and empty columns change nothing. At any close the head
reads the last hidden state and how long ago that was:

    mean_h      = local_level's mean_h + W_h hidden
    log scale_h = log local_level's scale_h + s_h + v_h . hidden + softplus(a_h) log(1 + gap)

Shape suffixes: U = users, T = periods, A = active periods, D = width, K = hidden, H = horizons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from services.core.forecasters import ForecastBatch, LocalLevel, factors
from services.core.pooling import I64
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class GruConfig:
    """Sizes, and how it is trained."""

    hidden: int = 96
    # Of the hidden state.
    dropout: float = 0.3
    epochs: int = 12
    batch_users: int = 128
    rate: float = 3e-3
    weight_decay: float = 1e-2
    seed: int = 0


class GruModel(nn.Module):
    """Corrections to a base forecast for horizons 1..H."""

    def __init__(self, width: int, horizons: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.gru = nn.GRU(width + 2, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.mean = nn.Linear(hidden, horizons * width, bias=False)
        self.scale = nn.Linear(hidden, horizons)
        self.gap_H = nn.Parameter(torch.full((horizons,), -3.0))
        self.shape = (horizons, width)
        # Starts as the base itself.
        for weight in (self.mean.weight, self.scale.weight, self.scale.bias):
            nn.init.zeros_(weight)

    def hidden_states(self, vec_UTD: Tensor, mask_UT: Tensor, count_UT: Tensor) -> Tensor:
        """Return the hidden state at every close [U, T, K]; zero before the first vector."""
        order_UT = torch.argsort((~mask_UT).to(torch.int8), dim=1, stable=True)
        longest = max(int(mask_UT.sum(1).max()), 1)
        order_UA = order_UT[:, :longest]
        vec_UAD = vec_UTD.gather(1, order_UA[:, :, None].expand(-1, -1, vec_UTD.shape[2]))
        before_UA = torch.cat([order_UA[:, :1], order_UA[:, :-1]], dim=1)
        gap_UA = (order_UA - before_UA - 1).clamp_min(0).float()
        count_UA = count_UT.gather(1, order_UA).float()
        features = torch.stack([torch.log1p(gap_UA), torch.log1p(count_UA) / 4.0], dim=2)
        hidden_UAK, _ = self.gru(torch.cat([vec_UAD, features], dim=2))
        last_UT = mask_UT.long().cumsum(1) - 1
        index = last_UT.clamp_min(0)[:, :, None].expand(-1, -1, hidden_UAK.shape[2])
        known_UTK: Tensor = hidden_UAK.gather(1, index) * (last_UT >= 0)[:, :, None]
        return known_UTK

    def forward(self, hidden_SK: Tensor, gap_S: Tensor) -> tuple[Tensor, Tensor]:
        """Return additions to the means [S, H, D] and to the log scales [S, H, 1]."""
        hidden_SK = self.dropout(hidden_SK)
        mean_SHD = self.mean(hidden_SK).unflatten(1, self.shape)
        widening_SH = nn.functional.softplus(self.gap_H) * torch.log1p(gap_S)[:, None]
        return mean_SHD, (self.scale(hidden_SK) + widening_SH)[:, :, None]


def gaps(mask_UT: Tensor) -> Tensor:
    """Return periods since the last active one at the close of every period [U, T]."""
    ordinal_T = torch.arange(mask_UT.shape[1])
    last_UT = torch.where(mask_UT, ordinal_T, -1).cummax(1).values
    return (ordinal_T - last_UT).float()


@dataclass(frozen=True, slots=True, kw_only=True)
class GruForecaster:
    """The trained net on its base."""

    model: GruModel
    base: LocalLevel
    factor_H: tuple[float, ...] = (1.0,)
    name: str = "gru"

    @staticmethod
    def from_arrays(
        arrays: dict[str, F32], base: LocalLevel, factor_H: tuple[float, ...]
    ) -> "GruForecaster":
        """Rebuild from a spec's arrays, named gru.*; sizes are those of the arrays."""
        weights = {
            name[4:]: torch.from_numpy(np.array(array))
            for name, array in arrays.items()
            if name.startswith("gru.")
        }
        hidden, horizons = weights["scale.weight"].shape[1], len(weights["gap_H"])
        model = GruModel(len(base.centre_D), horizons, hidden)
        model.load_state_dict(weights)
        return GruForecaster(model=model.eval(), base=base, factor_H=factor_H)

    def arrays(self) -> dict[str, F32]:
        """Return the weights under their names in a spec."""
        return {f"gru.{k}": v.detach().numpy().copy() for k, v in self.model.state_dict().items()}

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """See Forecaster. Horizons past the trained ones use the last trained one's correction."""
        base = self.base.forecast(batch, horizons)
        trained = self.model.shape[0]
        row_H = np.minimum(horizons, trained) - 1
        with torch.inference_mode():
            hidden_UK = self.model.hidden_states(*tensors(batch, self.base.centre_D))[:, -1]
            gap_U = torch.from_numpy(_known_gap(batch)).float()
            mean_UHD, log_UH1 = (part.numpy() for part in self.model(hidden_UK, gap_U))
        scale_UH1 = np.exp(log_UH1[:, row_H]) * np.sqrt(factors(self.factor_H, horizons))
        return ForecastBatch(
            means_UHD=base.means_UHD + mean_UHD[:, row_H],
            scales_UHD=(base.scales_UHD * scale_UH1).astype(np.float32),
        )


def tensors(batch: TrajectoryBatch, centre_D: F32) -> tuple[Tensor, Tensor, Tensor]:
    """Return centred vectors (gaps zero), mask and counts as tensors."""
    centred_UTD = (batch.vec_UTD - centre_D) * batch.mask_UT[:, :, None]
    return (
        torch.from_numpy(centred_UTD.astype(np.float32)),
        torch.from_numpy(batch.mask_UT),
        torch.from_numpy(batch.count_UT),
    )


def _known_gap(batch: TrajectoryBatch) -> I64:
    # A user without vectors has no gap: the base's own spread says that nothing is known.
    return np.where(batch.mask_UT.any(axis=1), batch.gap_U(), 0)
