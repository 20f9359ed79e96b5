"""The repeat of core/repeats.py in torch: how a user's own past speaks for an item.

Shape suffixes: N = items, D = width, H = half-lives, F = item features, P = what the net reads of
an item's vector, C = items that a step scores, R = (user, item) repeats of a batch.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from services.core.ranker import LOG_SCALE, Ranker, repeat_inputs
from services.core.records import F32
from services.core.repeats import SLOW_DAYS
from services.training.batches import Batch

# The bias must be able to go far in few steps.
FAR = 10.0
# Trained at the rate of matrices; the rest at that of scalars.
MATRICES = ("item_DH", "recent_item_D")
# How large the random start of the projection is.
_START = 0.1


class RepeatTerm(nn.Module):
    """A rate, how it differs soon after, and a net that bends both."""

    def __init__(
        self, *, width: int, half_lives: int, windows: int, recent_half_life_days: float,
        projected: int, hidden: int, tail: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.recent_half_life_days, self.tail = recent_half_life_days, tail
        self.log_weight_H = nn.Parameter(torch.zeros(half_lives))
        self.log_prior_H = nn.Parameter(torch.zeros(half_lives))
        self.item_DH = nn.Parameter(torch.zeros(width, half_lives))
        self.recent = nn.Parameter(torch.zeros(()))
        self.recent_item_D = nn.Parameter(torch.zeros(width))
        self.interest = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(()))
        self.activity = nn.Parameter(torch.zeros(()))
        self.project_DP = nn.Parameter(_START * torch.randn(width, projected))
        self.net_in = nn.Linear(repeat_inputs(half_lives, windows, projected), hidden)
        self.net_out = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.net_out.weight)

    def forward(
        self, batch: Batch, items_ND: Tensor, interest_R: Tensor, kept_R: Tensor
    ) -> Tensor:  # fmt: skip
        """Return the score of the batch's repeats that `kept_R` names."""
        user_R, item_R = batch.repeat_user_R[kept_R], batch.repeat_item_R[kept_R]
        counts_RH, age_days_R = batch.repeat_counts_RH[kept_R], batch.repeat_age_days_R[kept_R]
        weight_NH = torch.exp(self.log_weight_H + items_ND @ self.item_DH)
        active_BH = batch.activity_BH + self.log_prior_H.exp()
        rate_R = (weight_NH[item_R] * counts_RH / active_BH[user_R]).sum(1)
        recent_R = torch.exp2(-age_days_R / self.recent_half_life_days)
        gate_B = FAR * self.bias + self.activity * torch.log1p(batch.activity_BH[:, -1])
        of_item_NP = torch.cat([batch.features_NF, items_ND @ self.project_DP], 1)
        # As in core/repeats.py: the item's inputs come first.
        inputs = [
            of_item_NP[item_R],
            torch.log1p(counts_RH),
            logs(batch.activity_BH)[user_R],
            torch.log((counts_RH + 0.1) / (batch.activity_BH[user_R] + 1.0)),
            logs(age_days_R)[:, None],
            recent_R[:, None],
            torch.exp2(-age_days_R / SLOW_DAYS)[:, None],
        ]
        net_R: Tensor = self.net_out(torch.tanh(self.net_in(torch.cat(inputs, 1))))[:, 0]
        # Not learned: what is learned would undo it.
        tail = 0.0 if self.training else self.tail
        return (
            torch.log(rate_R.clamp_min(1e-30))
            + (self.recent + items_ND @ self.recent_item_D)[item_R] * recent_R
            + self.interest * interest_R
            + gate_B[user_R]
            + net_R
            - tail * LOG_SCALE * batch.features_NF[item_R, -2]
        )

    def export(self) -> dict[str, Any]:
        """Return what was learned under the names of core.ranker.Ranker."""
        return {
            "repeat_weight_H": to_numpy(self.log_weight_H.exp()),
            "repeat_prior_H": to_numpy(self.log_prior_H.exp()),
            "repeat_item_DH": to_numpy(self.item_DH),
            "repeat_recent_weight": float(self.recent.detach()),
            "repeat_recent_item_D": to_numpy(self.recent_item_D),
            "repeat_recent_half_life_days": self.recent_half_life_days,
            "repeat_interest_weight": float(self.interest.detach()),
            "repeat_bias": FAR * float(self.bias.detach()),
            "repeat_activity_weight": float(self.activity.detach()),
            "repeat_project_DP": to_numpy(self.project_DP),
            "repeat_in_YK": to_numpy(self.net_in.weight.T),
            "repeat_hidden_K": to_numpy(self.net_in.bias),
            "repeat_out_K": to_numpy(self.net_out.weight[0]),
            "repeat_tail_weight": self.tail,
        }

    @staticmethod
    def state_of(ranker: Ranker) -> dict[str, np.ndarray | float]:
        """Return the parameters that export() made a ranker of, by name."""
        return {
            "log_weight_H": np.log(ranker.repeat_weight_H),
            "log_prior_H": np.log(ranker.repeat_prior_H),
            "item_DH": ranker.repeat_item_DH,
            "recent": ranker.repeat_recent_weight,
            "recent_item_D": ranker.repeat_recent_item_D,
            "interest": ranker.repeat_interest_weight,
            "bias": ranker.repeat_bias / FAR,
            "activity": ranker.repeat_activity_weight,
            "project_DP": ranker.repeat_project_DP,
            "net_in.weight": ranker.repeat_in_YK.T,
            "net_in.bias": ranker.repeat_hidden_K,
            "net_out.weight": ranker.repeat_out_K[None],
        }


def logs(values: Tensor) -> Tensor:
    """Return log(1 + values), brought near one in size: core.repeats.logs in torch."""
    return torch.log1p(values) / LOG_SCALE


def to_numpy(tensor: Tensor) -> F32:
    """Return a copy of a parameter's values."""
    return np.asarray(tensor.detach().cpu().numpy(), np.float32).copy()
