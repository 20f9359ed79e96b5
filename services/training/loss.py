"""What the ranker learns from: how likely it made what users did next.

Shape suffixes: B = users of a batch, N = items, V = backbone width, C = items that a step scores,
R = (user, item) repeats of a batch, T = (user, item) truths of a batch.
"""

import torch
from torch import Tensor

from services.training.batches import Batch
from services.training.ranker import RankerModule, columns_of_repeats


def loss_of(
    module: RankerModule,
    batch: Batch,
    text_NV: Tensor,
    *,
    share: float = 1.0,
    new_share: float = 1.0,
) -> Tensor:
    """Return -sum w log P(item | user) in nats, and with its weight the same among new items.

    P is by softmax over the whole catalogue, or over a sample that stands for it. Of a part of a
    step's users (batches.Part), the shares make it what the part adds to the step's loss.
    """
    config = module.config
    column_C, log_kept_C = None, None
    if module.training and 0 < config.sampled_items < len(text_NV):
        column_C, log_kept_C = sample_columns(batch, config.sampled_items)
    items_ND = module.items(text_NV, batch.age_N)
    score_BC, discovery_BC = module(batch, items_ND, column_C)
    truth_T = batch.truth_item_T
    if column_C is None or log_kept_C is None:
        log_kept_C = score_BC.new_zeros(score_BC.shape[1])
    else:
        truth_T = torch.searchsorted(column_C, truth_T)
    kept_R, at_R = columns_of_repeats(batch, column_C)
    had = (batch.repeat_user_R[kept_R], at_R)
    loss = share * _nats(score_BC, log_kept_C, batch.truth_user_T, truth_T, batch.truth_weight_T)
    if not config.new_weight:
        return loss
    is_had_BC = torch.zeros_like(discovery_BC, dtype=torch.bool).index_put(
        had, torch.ones((), dtype=torch.bool, device=discovery_BC.device)
    )
    new_T = torch.nonzero(~is_had_BC[batch.truth_user_T, truth_T])[:, 0]
    if not len(new_T):
        return loss
    among_new = _nats(
        discovery_BC.masked_fill(is_had_BC, -1e9), log_kept_C, batch.truth_user_T[new_T],
        truth_T[new_T], batch.truth_weight_T[new_T],
    )  # fmt: skip
    weight = new_share * config.new_weight
    return loss + weight * among_new / batch.truth_weight_T[new_T].sum()


def sample_columns(batch: Batch, size: int) -> tuple[Tensor, Tensor]:
    """Draw items to score, about `size` of them and every truth; and log P(drawn) of each.

    exp(score) / P(drawn), summed over what was drawn, is on average the sum over all items.
    """
    weight_N = (batch.share_NW[:, -1] + 1.0 / len(batch.share_NW)) ** 0.75
    kept_N = (size * weight_N / weight_N.sum()).clamp_max(1.0)
    kept_N[batch.truth_item_T] = 1.0
    column_C = torch.nonzero(torch.rand(len(kept_N), device=kept_N.device) < kept_N)[:, 0]
    return column_C, torch.log(kept_N[column_C])


def _nats(
    score_BC: Tensor, log_kept_C: Tensor, user_T: Tensor, item_T: Tensor, weight_T: Tensor
) -> Tensor:
    log_p_T = score_BC[user_T, item_T] - (score_BC - log_kept_C).logsumexp(1)[user_T]
    loss: Tensor = -(weight_T * log_p_T).sum()
    return loss
