"""How long to train: what ranks the newest origins best when it has not learned from them.

Dense histories with repeats gain from several passes, sparse ones are worse after the second; no
constant fits both, and the data say which it is.

Shape suffixes: U = users, B = users of a batch, N = items, V = backbone width, K = positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from services.core.metrics import rank_metrics
from services.core.pooling import F64, I64
from services.core.records import F32
from services.training.batches import make_batch
from services.training.examples import Origin
from services.training.fit_ranker import FittedRanker, train_ranker
from services.training.ranker import RankerConfig, RankerModule

Progress = Callable[[str, int, int], None]

# Newest origins that judge, at most, and users of each.
_JUDGES = 4
_USERS = 1000
_POSITIONS = 10


def choose_epochs(
    origins: Sequence[Origin],
    text_NV: F32,
    item_ids: Sequence[str],
    half_lives_days: tuple[float, ...],
    config: RankerConfig,
    on_progress: Progress = lambda stage, done, total: None,
) -> tuple[int, dict[int, float]]:
    """Return the best of `config.epoch_choices`, and each one's quality.

    Quality is NDCG@10 among all items plus NDCG@10 among new ones, each over that of the first
    choice: 2 for the first. Choices are tried in order until one is worse than the one before it.
    Where too few origins are left to judge, the first choice is returned untried.

    Args:
        origins: ascending; the last quarter, at most 4, judge.
        text_NV: text vectors of all items.
        item_ids: of all items.
        half_lives_days: of the rank states that the origins hold.
        config: what is trained.
        on_progress: called with stage, done, total.
    """
    judges = min(_JUDGES, len(origins) // 4)
    if judges == 0 or len(config.epoch_choices) == 1:
        return config.epoch_choices[0], {}
    learned, held = origins[:-judges], origins[-judges:]
    first, qualities = np.zeros(2), dict[int, float]()
    for epochs in config.epoch_choices:

        def report(stage: str, done: int, total: int, epochs: int = epochs) -> None:
            on_progress(f"try {epochs} epochs", done, total)

        fitted = train_ranker(
            learned, text_NV, item_ids, half_lives_days, replace(config, epochs=epochs), report
        )
        ndcg = ranking_quality(fitted, held, text_NV, item_ids, half_lives_days, config)
        if not qualities:
            first = np.maximum(ndcg, 1e-9)
        qualities[epochs] = float((ndcg / first).sum())
        if epochs != config.epoch_choices[0] and qualities[epochs] < max(qualities.values()):
            break
    return max(qualities, key=lambda epochs: qualities[epochs]), qualities


def ranking_quality(
    fitted: FittedRanker, origins: Sequence[Origin], text_NV: F32, item_ids: Sequence[str],
    half_lives_days: tuple[float, ...], config: RankerConfig,
) -> F64:  # fmt: skip
    """Return NDCG@10 among all items, and among those that are new to their user."""
    module = RankerModule(config, half_lives_days, fitted.tower, item_ids)
    module.load(fitted.tower, fitted.ranker)
    module.eval()
    totals, counts = np.zeros(2), np.zeros(2)
    with torch.no_grad():
        items_ND = module.items(torch.from_numpy(text_NV))
        for origin in origins:
            active = np.flatnonzero(np.diff(origin.truth_ptr))
            chosen = active[:: max(len(active) // _USERS, 1)]
            for start in range(0, len(chosen), config.batch_users):
                users_B = chosen[start : start + config.batch_users]
                batch = make_batch(origin, users_B)
                score_BN = module(batch, items_ND)[0].numpy().copy()
                truth_BN = np.zeros(score_BN.shape, bool)
                truth_BN[batch.truth_user_T.numpy(), batch.truth_item_T.numpy()] = True
                had = batch.repeat_user_R.numpy(), batch.repeat_item_R.numpy()
                for part in range(2):
                    if part == 1:
                        score_BN[had], truth_BN[had] = -np.inf, False
                    ndcg = _ndcg(score_BN, truth_BN)
                    totals[part] += ndcg.sum()
                    counts[part] += len(ndcg)
    return totals / np.maximum(counts, 1.0)


def _ndcg(score_BN: F32, truth_BN: np.ndarray) -> F64:
    asked = np.flatnonzero(truth_BN.any(axis=1))
    positions = min(_POSITIONS, score_BN.shape[1])
    top_BK: I64 = np.argpartition(-score_BN[asked], positions - 1, axis=1)[:, :positions]
    order = np.argsort(-np.take_along_axis(score_BN[asked], top_BK, axis=1), axis=1, kind="stable")
    top_BK = np.take_along_axis(top_BK, order, axis=1)
    hit_BK = np.take_along_axis(truth_BN[asked], top_BK, axis=1)
    return rank_metrics(hit_BK, truth_BN[asked].sum(axis=1))[1]
