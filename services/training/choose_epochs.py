"""How long to train: what ranks the newest origins best when it has not learned from them.

Dense histories with repeats gain from several passes, sparse ones are worse after the second; no
constant fits both, and the data say which it is.

Shape suffixes: U = users, B = users of a batch, N = items, V = backbone width, K = positions.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from services.core.metrics import rank_figures
from services.core.pooling import F64
from services.core.progress import Progress
from services.core.records import F32
from services.core.top import top_rows
from services.training.batches import make_batch
from services.training.checkpoints import Checkpoints
from services.training.examples import Origin
from services.training.fit_ranker import FittedRanker, shared_batches, train_ranker
from services.training.ranker import RankerConfig, RankerModule
from services.training.workers import ALONE, Workers, sum_arrays

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
    workers: Workers = ALONE,
    checkpoints: Checkpoints | None = None,
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
        workers: who takes part; each calls this with the same arguments and returns the same.
        checkpoints: where states of the trials are kept and taken up; unset means nowhere.
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
            learned, text_NV, item_ids, half_lives_days, replace(config, epochs=epochs), report,
            workers=workers, checkpoints=checkpoints.part(f"try-{epochs}") if checkpoints else None,
        )  # fmt: skip
        ndcg = ranking_quality(fitted, held, text_NV, item_ids, half_lives_days, config, workers)
        if not qualities:
            first = np.maximum(ndcg, 1e-9)
        qualities[epochs] = float((ndcg / first).sum())
        if epochs != config.epoch_choices[0] and qualities[epochs] < max(qualities.values()):
            break
    return max(qualities, key=lambda epochs: qualities[epochs]), qualities


def ranking_quality(
    fitted: FittedRanker, origins: Sequence[Origin], text_NV: F32, item_ids: Sequence[str],
    half_lives_days: tuple[float, ...], config: RankerConfig, workers: Workers = ALONE,
) -> F64:  # fmt: skip
    """Return NDCG@10 among all items, and among those that are new to their user."""
    module = RankerModule(config, half_lives_days, fitted.tower, item_ids).to(workers.device)
    module.load(fitted.tower, fitted.ranker)
    module.eval()
    totals, counts = np.zeros(2), np.zeros(2)
    with torch.no_grad():
        items_ND = module.items(torch.from_numpy(text_NV).to(workers.device))
        for origin, users_B in shared_batches(origins, config.batch_users, workers, at_most=_USERS):
            batch = make_batch(origin, users_B)
            score_BN = module(batch.to(workers.device), items_ND)[0].cpu().numpy().copy()
            truth_BN = np.zeros(score_BN.shape, bool)
            truth_BN[batch.truth_user_T.numpy(), batch.truth_item_T.numpy()] = True
            had = batch.repeat_user_R.numpy(), batch.repeat_item_R.numpy()
            for part in range(2):
                if part == 1:
                    score_BN[had], truth_BN[had] = -np.inf, False
                ndcg = _ndcg(score_BN, truth_BN)
                totals[part] += ndcg.sum()
                counts[part] += len(ndcg)
    sum_arrays(workers, totals, counts)
    return totals / np.maximum(counts, 1.0)


def _ndcg(score_BN: F32, truth_BN: np.ndarray) -> F64:
    asked = np.flatnonzero(truth_BN.any(axis=1))
    top_BK = top_rows(score_BN[asked], _POSITIONS)
    hit_BK = np.take_along_axis(truth_BN[asked], top_BK, axis=1)
    figures = rank_figures(hit_BK, truth_BN[asked].sum(axis=1), (_POSITIONS,))
    return figures[f"ndcg_at_{_POSITIONS}"]
