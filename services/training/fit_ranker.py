"""The loop that trains item tower and ranker (ranker.py) on the origins of examples.py.

Shape suffixes: B = users of a batch, N = items, V = backbone width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from services.core.errors import InvalidArgument
from services.core.pooling import I64
from services.core.ranking import Ranker
from services.core.records import F32
from services.core.tower import ItemTower
from services.training.examples import Origin
from services.training.ranker import RankerConfig, RankerModule, loss_of, make_batch, start_tower


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedRanker:
    """What training gives; losses in nats per truth, means over the first and the last epoch."""

    tower: ItemTower
    ranker: Ranker
    first_loss: float
    last_loss: float


def train_ranker(
    origins: list[Origin],
    text_NV: F32,
    half_lives_days: tuple[float, ...],
    config: RankerConfig,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> FittedRanker:
    """Maximise the likelihood of what users did next; every origin once an epoch, users shuffled.

    Args:
        origins: examples, all before the end of the training data.
        text_NV: text vectors of all items.
        half_lives_days: of the rank states that the origins hold.
        config: what is trained.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: no user did anything in any of the origins' periods.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    text = torch.from_numpy(text_NV)
    module = RankerModule(config, half_lives_days, start_tower(text_NV, config.width))
    matrices = [p for p in module.parameters() if p.ndim >= 2 or p.shape == (config.width,)]
    scalars = [p for p in module.parameters() if not (p.ndim >= 2 or p.shape == (config.width,))]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "lr": config.matrix_rate, "weight_decay": config.weight_decay},
            {"params": scalars, "lr": config.scalar_rate, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.99),
    )
    steps = [batch for _ in range(config.epochs) for batch in _epoch(origins, config, rng)]
    if not steps:
        raise InvalidArgument("events", "no user has events in two periods; import more")
    losses = []
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [config.matrix_rate, config.scalar_rate],
        total_steps=max(len(steps), 2),
        pct_start=0.1,
    )
    for done, (origin, users_B) in enumerate(steps):
        loss = loss_of(module, make_batch(origins[origin], users_B, config.user_power), text)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        on_progress("train ranker", done + 1, len(steps))
    tower, ranker = module.export()
    few = max(len(steps) // config.epochs, 1)
    return FittedRanker(
        tower=tower,
        ranker=ranker,
        first_loss=float(np.mean(losses[:few])),
        last_loss=float(np.mean(losses[-few:])),
    )


def _epoch(
    origins: list[Origin], config: RankerConfig, rng: np.random.Generator
) -> list[tuple[int, I64]]:
    steps = []
    for index, origin in enumerate(origins):
        active = np.flatnonzero(np.diff(origin.truth_ptr))
        rng.shuffle(active)
        steps += [
            (index, np.sort(active[start : start + config.batch_users]))
            for start in range(0, len(active), config.batch_users)
        ]
    return [steps[i] for i in rng.permutation(len(steps))]
