"""Some users at one origin, as tensors: what the ranker takes a step on.

Shape suffixes: U = users, B = users of a batch, N = items, H = half-lives, W = popularity windows,
F = item features, R = (user, item) repeats of a batch, T = (user, item) truths of a batch.
"""

from dataclasses import dataclass

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
    seen_N: Tensor
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
        features_NF=_f(origin.features_NF),
        seen_N=torch.from_numpy(origin.seen_N),
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
