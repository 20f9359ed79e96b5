"""Some users at one origin, as tensors: what the ranker takes a step on.

Shape suffixes: U = users, B = users of a batch, N = items, H = half-lives, W = popularity windows,
F = item features, R = (user, item) repeats of a batch, T = (user, item) truths of a batch.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from services.core.pooling import I64
from services.training.examples import Origin, rows_between


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some users at one origin, as tensors. `truth_weight_T` sums to 1 over the batch."""

    size: int
    # Per half-life: item rows, where each user's begin (and the end), decayed weights.
    histories_H: tuple[tuple[Tensor, Tensor, Tensor], ...]
    weights_BH: Tensor
    activity_BH: Tensor
    share_NW: Tensor
    features_NF: Tensor
    age_N: Tensor
    repeat_user_R: Tensor
    repeat_item_R: Tensor
    repeat_counts_RH: Tensor
    repeat_age_days_R: Tensor
    truth_user_T: Tensor
    truth_item_T: Tensor
    truth_weight_T: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return it on a device; itself where it is there."""
        if device.type == self.weights_BH.device.type:
            return self
        moved = {field.name: getattr(self, field.name) for field in fields(self)}
        moved |= {name: v.to(device) for name, v in moved.items() if isinstance(v, Tensor)}
        moved["histories_H"] = tuple(
            tuple(part.to(device) for part in history) for history in self.histories_H
        )
        return Batch(**moved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One worker's users of a step, and what they weigh of all the step's users."""

    users_B: I64
    # Of the weight of all truths, and of those that are new to their user; sums over parts are 1.
    share: float = 1.0
    new_share: float = 1.0


def part_of(origin: Origin, users_B: I64, rank: int, size: int, user_power: float = 0.5) -> Part:
    """Return one of `size` parts of a step's users, every size-th.

    make_batch's weights of a part, times its share, are those of the step.
    """
    if size == 1:
        return Part(users_B=users_B)
    truth_rows, owner = rows_between(origin.truth_ptr, users_B)
    repeat_rows, repeat_owner = rows_between(origin.repeat_ptr, users_B)
    # Both ascend: rows of one user stand together, by item.
    width = len(origin.age_N)
    had = repeat_owner * width + origin.repeat_item_ix_R[repeat_rows]
    truth = owner * width + origin.truth_item_ix_T[truth_rows]
    is_new_T = np.searchsorted(had, truth, side="right") == np.searchsorted(had, truth)
    count_B = np.bincount(owner, minlength=len(users_B))
    each_T = count_B[owner] ** (user_power - 1.0)
    weight_B = np.bincount(owner, each_T, len(users_B))
    new_B = np.bincount(owner, each_T * is_new_T, len(users_B))
    mine = slice(rank, None, size)
    return Part(
        users_B=users_B[mine],
        share=float(weight_B[mine].sum() / weight_B.sum()),
        new_share=float(new_B[mine].sum() / max(new_B.sum(), 1e-300)),
    )


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
        features_NF=_f(origin.features_NF),
        age_N=_i(origin.age_N),
        repeat_user_R=_i(repeat_owner),
        repeat_item_R=_i(origin.repeat_item_ix_R[repeat_rows]),
        repeat_counts_RH=_f(origin.repeat_counts_RH[repeat_rows]),
        repeat_age_days_R=_f(origin.repeat_age_days_R[repeat_rows]),
        truth_user_T=_i(truth_owner),
        truth_item_T=_i(origin.truth_item_ix_T[truth_rows]),
        truth_weight_T=_f(weight_T / weight_T.sum()),
    )


def _f(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _i(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.int64))
