"""The item tower and the ranker as one module: the formula of core/ranking.py in torch.

The loop that trains it is fit_ranker.py.

Shape suffixes: B = users of a batch, N = items, V = backbone width, D = item width, H = half-lives,
W = popularity windows, R = (user, item) repeats of a batch, T = (user, item) truths of a batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from services.core.pooling import I64
from services.core.ranking import Ranker
from services.core.records import F32
from services.core.tower import ItemTower
from services.training.examples import Origin, rows_between


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerConfig:
    """How the ranker is trained; constants were chosen on the 8 weeks before the test block."""

    # D.
    width: int = 128
    # Half-lives of the popularity windows, days.
    popularity_half_lives_days: tuple[float, ...] = (7.0, 28.0, 182.0)
    popularity_floor: float = 1e-6
    repeat_recent_half_life_days: float = 7.0
    # Periods before the end of the data that serve as examples, newest first.
    origins: int = 16
    epochs: int = 8
    # Users a step.
    batch_users: int = 512
    # Of the tower and query matrices, and of the scalars: these start far from where they end.
    matrix_rate: float = 5e-3
    scalar_rate: float = 3e-2
    # Pulls the query matrices and item-dependent repeats to their start.
    weight_decay: float = 1e-2
    # A user with n truths counts n ** user_power.
    user_power: float = 0.5
    seed: int = 0


class RankerModule(nn.Module):
    """Scores every item for a batch of users."""

    def __init__(
        self, config: RankerConfig, half_lives_days: tuple[float, ...], tower: ItemTower
    ) -> None:
        super().__init__()
        half_lives, windows = len(half_lives_days), len(config.popularity_half_lives_days)
        self.config, self.half_lives_days = config, half_lives_days
        self.mean_V = nn.Buffer(torch.from_numpy(tower.mean_B))
        self.projection_VD = nn.Parameter(torch.from_numpy(tower.projection_BD.copy()))
        width = tower.width
        self.query_HDD = nn.Parameter(torch.eye(width).repeat(half_lives, 1, 1))
        self.query_bias_D = nn.Parameter(torch.zeros(width))
        self.query_log_prior_H = nn.Parameter(torch.zeros(half_lives))
        self.popularity_W = nn.Parameter(torch.full((windows,), 1.0 / windows))
        self.repeat_log_weight_H = nn.Parameter(torch.zeros(half_lives))
        self.repeat_log_prior_H = nn.Parameter(torch.zeros(half_lives))
        self.repeat_item_DH = nn.Parameter(torch.zeros(width, half_lives))
        self.recent = nn.Parameter(torch.zeros(()))
        self.recent_item_D = nn.Parameter(torch.zeros(width))
        self.interest = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(()))
        self.activity = nn.Parameter(torch.zeros(()))

    def items(self, text_NV: Tensor) -> Tensor:
        """Return item vectors [N, D]."""
        return nn.functional.normalize(
            (text_NV - self.mean_V) @ self.projection_VD, dim=1, eps=1e-12
        )

    def forward(self, batch: "Batch", items_ND: Tensor) -> Tensor:
        """Return scores [B, N]."""
        interest_BN = self._queries(batch, items_ND) @ items_ND.T
        popularity_N = torch.log(batch.share_NW + self.config.popularity_floor) @ self.popularity_W
        discovery_BN = interest_BN + popularity_N
        cell = (batch.repeat_user_R, batch.repeat_item_R)
        repeat_R = self._repeats(batch, items_ND, interest_BN[cell])
        return discovery_BN.index_put(cell, torch.logaddexp(discovery_BN[cell], repeat_R))

    def _queries(self, batch: "Batch", items_ND: Tensor) -> Tensor:
        query_BD = self.query_bias_D.expand(batch.size, -1)
        for h, (index, offset, weight) in enumerate(batch.histories_H):
            sums_BD = nn.functional.embedding_bag(
                index,
                items_ND,
                offset,
                mode="sum",
                per_sample_weights=weight,
                include_last_offset=True,
            )
            prior = self.query_log_prior_H[h].exp()
            query_BD = (
                query_BD + (sums_BD / (batch.weights_BH[:, h] + prior)[:, None]) @ self.query_HDD[h]
            )
        return query_BD

    def _repeats(self, batch: "Batch", items_ND: Tensor, interest_R: Tensor) -> Tensor:
        user_R, item_R = batch.repeat_user_R, batch.repeat_item_R
        weight_NH = torch.exp(self.repeat_log_weight_H + items_ND @ self.repeat_item_DH)
        active_BH = batch.activity_BH + self.repeat_log_prior_H.exp()
        rate_R = (weight_NH[item_R] * batch.repeat_counts_RH / active_BH[user_R]).sum(1)
        recent_R = torch.exp2(-batch.repeat_age_days_R / self.config.repeat_recent_half_life_days)
        gate_B = self.bias + self.activity * torch.log1p(batch.activity_BH[:, -1])
        return (
            torch.log(rate_R.clamp_min(1e-30))
            + (self.recent + items_ND @ self.recent_item_D)[item_R] * recent_R
            + self.interest * interest_R
            + gate_B[user_R]
        )

    def export(self) -> tuple[ItemTower, Ranker]:
        """Return what was learned as core types."""
        tower = ItemTower(mean_B=_np(self.mean_V), projection_BD=_np(self.projection_VD))
        return tower, Ranker(
            half_lives_days=self.half_lives_days,
            popularity_half_lives_days=self.config.popularity_half_lives_days,
            query_HDD=_np(self.query_HDD),
            query_prior_H=_np(self.query_log_prior_H.exp()),
            query_bias_D=_np(self.query_bias_D),
            popularity_weight_W=_np(self.popularity_W),
            popularity_floor=self.config.popularity_floor,
            repeat_weight_H=_np(self.repeat_log_weight_H.exp()),
            repeat_prior_H=_np(self.repeat_log_prior_H.exp()),
            repeat_item_DH=_np(self.repeat_item_DH),
            repeat_recent_weight=float(self.recent.detach()),
            repeat_recent_item_D=_np(self.recent_item_D),
            repeat_recent_half_life_days=self.config.repeat_recent_half_life_days,
            repeat_interest_weight=float(self.interest.detach()),
            repeat_bias=float(self.bias.detach()),
            repeat_activity_weight=float(self.activity.detach()),
        )

    def load(self, tower: ItemTower, ranker: Ranker) -> None:
        """Take what was learned before: the inverse of export(), to float32 rounding."""
        made: dict[str, np.ndarray | float] = {
            "mean_V": tower.mean_B,
            "projection_VD": tower.projection_BD,
            "query_HDD": ranker.query_HDD,
            "query_bias_D": ranker.query_bias_D,
            "query_log_prior_H": np.log(ranker.query_prior_H),
            "popularity_W": ranker.popularity_weight_W,
            "repeat_log_weight_H": np.log(ranker.repeat_weight_H),
            "repeat_log_prior_H": np.log(ranker.repeat_prior_H),
            "repeat_item_DH": ranker.repeat_item_DH,
            "recent": ranker.repeat_recent_weight,
            "recent_item_D": ranker.repeat_recent_item_D,
            "interest": ranker.repeat_interest_weight,
            "bias": ranker.repeat_bias,
            "activity": ranker.repeat_activity_weight,
        }
        self.load_state_dict({name: _f(np.asarray(value)) for name, value in made.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some users at one origin, as tensors. `truth_weight_T` sums to 1 over the batch."""

    size: int
    # Per half-life: item rows, where each user's begin (and the end), decayed weights.
    histories_H: tuple[tuple[Tensor, Tensor, Tensor], ...]
    weights_BH: Tensor
    activity_BH: Tensor
    share_NW: Tensor
    repeat_user_R: Tensor
    repeat_item_R: Tensor
    repeat_counts_RH: Tensor
    repeat_age_days_R: Tensor
    truth_user_T: Tensor
    truth_item_T: Tensor
    truth_weight_T: Tensor


def make_batch(origin: Origin, users_B: I64, user_power: float = 0.5) -> Batch:
    """Take some users of an origin."""
    repeat_rows, repeat_owner = rows_between(origin.repeat_ptr, users_B)
    truth_rows, truth_owner = rows_between(origin.truth_ptr, users_B)
    count_B = np.bincount(truth_owner, minlength=len(users_B))
    weight_T = (count_B[truth_owner] ** (user_power - 1.0)).astype(np.float32)
    histories = []
    for history in origin.histories_H:
        rows, owner = rows_between(history.indptr.astype(np.int64), users_B)
        offset = np.searchsorted(owner, np.arange(len(users_B) + 1))
        histories.append((_i(history.indices[rows]), _i(offset), _f(history.data[rows])))
    return Batch(
        size=len(users_B),
        histories_H=tuple(histories),
        weights_BH=_f(origin.weights_UH[users_B]),
        activity_BH=_f(origin.activity_UH[users_B]),
        share_NW=_f(origin.share_NW),
        repeat_user_R=_i(repeat_owner),
        repeat_item_R=_i(origin.repeat_item_ix_R[repeat_rows]),
        repeat_counts_RH=_f(origin.repeat_counts_RH[repeat_rows]),
        repeat_age_days_R=_f(origin.repeat_age_days_R[repeat_rows]),
        truth_user_T=_i(truth_owner),
        truth_item_T=_i(origin.truth_item_ix_T[truth_rows]),
        truth_weight_T=_f(weight_T / weight_T.sum()),
    )


def loss_of(module: RankerModule, batch: Batch, text_NV: Tensor) -> Tensor:
    """Return -sum w log P(item | user), P by softmax over the whole catalogue."""
    score_BN = module(batch, module.items(text_NV))
    log_p_T = (
        score_BN[batch.truth_user_T, batch.truth_item_T] - score_BN.logsumexp(1)[batch.truth_user_T]
    )
    loss: Tensor = -(batch.truth_weight_T * log_p_T).sum()
    return loss


def start_tower(text_NV: F32, width: int) -> ItemTower:
    """Return the tower to start from: the texts' principal components, brought nearer in size."""
    mean_V = text_NV.mean(axis=0)
    _, sizes, components = np.linalg.svd(text_NV - mean_V, full_matrices=False)
    kept = min(width, len(sizes))
    scale = np.sqrt(sizes[:kept] / sizes[0]) + 1e-3
    projection = np.zeros((text_NV.shape[1], width), np.float32)
    projection[:, :kept] = (components[:kept] / scale[:, None]).T
    return ItemTower(mean_B=mean_V.astype(np.float32), projection_BD=projection)


def _np(tensor: Tensor) -> F32:
    return np.asarray(tensor.detach().numpy(), np.float32).copy()


def _f(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _i(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.int64))
