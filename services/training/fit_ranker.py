"""The loop that trains item tower and ranker (ranker.py) on the origins of examples.py.

Every step is decided beforehand: which users of which origin, which learning rate, which seed. So
a state is a module, an optimizer and how many steps are done, and a training that goes on from one
ends bit for bit where an uninterrupted one does.

Shape suffixes: B = users of a batch, N = items, V = backbone width.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from services.core.errors import InvalidArgument
from services.core.pooling import I64
from services.core.progress import Progress
from services.core.ranker import Ranker
from services.core.records import F32
from services.core.tower import ItemTower
from services.training.batches import make_batch, part_of
from services.training.checkpoints import Checkpoints
from services.training.examples import Origin
from services.training.fit_state import Fit
from services.training.loss import loss_of
from services.training.ranker import RankerConfig, RankerModule
from services.training.start import start_tower, with_known_items
from services.training.workers import ALONE, Workers, sum_arrays, sum_gradients, take_firsts

Curve = list[tuple[float, float]]
# (row of the origin, users), in the order they are learned from.
Steps = list[tuple[int, I64]]

STATE = "ranker"
# Steps of one seed; no training has more.
_MAX_STEPS = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedRanker:
    """What training gives; losses in nats per truth, means over the first and the last epoch."""

    tower: ItemTower
    ranker: Ranker
    epochs: int
    first_loss: float
    last_loss: float
    # "ranker": mean training loss of each epoch; "ranker validation": after it.
    curves: dict[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """Weights to go on from; the tower stays as it is, and so does the space."""

    tower: ItemTower
    ranker: Ranker


def train_ranker(
    origins: Sequence[Origin],
    text_NV: F32,
    item_ids: Sequence[str],
    half_lives_days: tuple[float, ...],
    config: RankerConfig,
    on_progress: Progress = lambda stage, done, total: None,
    *,
    validation: Sequence[Origin] = (),
    learned: Learned | None = None,
    checkpoints: Checkpoints | None = None,
    workers: Workers = ALONE,
) -> FittedRanker:
    """Maximise the likelihood of what users did next; every origin once an epoch, users shuffled.

    Args:
        origins: examples, all before the end of the training data.
        text_NV: text vectors of all items.
        item_ids: of all items.
        half_lives_days: of the rank states that the origins hold.
        config: what is trained; `epochs` at least 1.
        on_progress: called with stage, done, total.
        validation: origins that are not learned from; their loss after each epoch is kept.
        learned: go on from these weights, tower frozen; unset means from the start.
        checkpoints: where states are kept and taken up; unset means nowhere.
        workers: who takes part; each calls this with the same arguments and returns the same.

    Raises:
        InvalidArgument: no user did anything in any of the origins' periods.
    """
    torch.manual_seed(config.seed)
    steps = plan(origins, config)
    text = torch.from_numpy(text_NV).to(workers.device)
    if learned is not None:
        tower = learned.tower
    else:
        tower = start_tower(text_NV, config.width)
        if config.has_ids:
            tower = with_known_items(tower, origins[-1], item_ids)
    module = RankerModule(config, half_lives_days, tower, item_ids).to(workers.device)
    if learned is not None:
        module.load(learned.tower, learned.ranker)
        freeze_tower(module, text)
    fit = Fit.start(module, len(steps))
    if checkpoints is not None:
        fit.take_up(checkpoints.read(STATE))
    parameters = list(module.parameters())
    take_firsts(workers, [*parameters, module.mean_V])
    per_epoch, kept = len(steps) // config.epochs, time.monotonic()
    for step in range(fit.done, len(steps)):
        origin, users_B = origins[steps[step][0]], steps[step][1]
        torch.manual_seed(seed_of(config, step, workers.rank))
        fit.optimizer.zero_grad()
        loss = backward(module, origin, users_B, text, workers)
        total = sum_gradients(workers, parameters, loss)
        fit.optimizer.step()
        fit.schedule.step()
        fit.losses.append(total)
        if validation and fit.done % per_epoch == 0:
            fit.validation.append(validation_loss(module, validation, text, config, workers))
        if workers.rank:
            continue
        is_due = time.monotonic() - kept >= checkpoints.every_s if checkpoints else False
        if checkpoints and (is_due or fit.done == len(steps)):
            checkpoints.write(STATE, fit.state())
            kept = time.monotonic()
        on_progress("train ranker", fit.done, len(steps))
    return _fitted(module, fit, per_epoch, learned)


def backward(
    module: RankerModule, origin: Origin, users_B: I64, text_NV: Tensor, workers: Workers
) -> Tensor:
    """Give the module the gradients of a worker's part of a step, and return its part of the loss.

    Args:
        module: has no gradients.
        origin: of the step.
        users_B: of the whole step.
        text_NV: text vectors of all items.
        workers: whose part.
    """
    power = module.config.user_power
    part = part_of(origin, users_B, workers.rank, workers.size, power)
    if not len(part.users_B):
        # Fewer users than workers.
        return torch.zeros((), device=workers.device)
    batch = make_batch(origin, part.users_B, power).to(workers.device)
    loss = loss_of(module, batch, text_NV, share=part.share, new_share=part.new_share)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss


def seed_of(config: RankerConfig, step: int, rank: int) -> int:
    """Return what a worker's dropout and samples of a step are drawn from."""
    alone = config.seed * _MAX_STEPS + step
    return int(np.random.SeedSequence((alone, rank)).generate_state(1)[0]) if rank else alone


def plan(origins: Sequence[Origin], config: RankerConfig) -> Steps:
    """Return every step of a training: each epoch anew, all origins' active users in batches.

    Raises:
        InvalidArgument: no user did anything in any of the origins' periods.
    """
    rng = np.random.default_rng(config.seed)
    steps = [step for _ in range(config.epochs) for step in _epoch(origins, config, rng)]
    if not steps:
        raise InvalidArgument("events", "no user has events in two periods; import more")
    return steps


def validation_loss(
    module: RankerModule, origins: Sequence[Origin], text_NV: Tensor, config: RankerConfig,
    workers: Workers = ALONE,
) -> float:  # fmt: skip
    """Return the loss over all active users of some origins, weighted as in training."""
    total, weight = np.zeros(1), np.zeros(1)
    module.eval()
    with torch.no_grad():
        for origin, users_B in shared_batches(origins, config.batch_users, workers):
            batch = make_batch(origin, users_B, config.user_power).to(workers.device)
            part = _weight(origin, users_B, config)
            total += float(loss_of(module, batch, text_NV)) * part
            weight += part
    module.train()
    sum_arrays(workers, total, weight)
    return float(total[0] / max(weight[0], 1e-12))


def shared_batches(
    origins: Sequence[Origin], batch_users: int, workers: Workers, at_most: int = 0
) -> Iterator[tuple[Origin, I64]]:
    """Yield a worker's share of the batches that hold the active users of some origins.

    Args:
        origins: of these.
        batch_users: users of a batch.
        workers: whose share.
        at_most: about so many users of each origin; 0: all.
    """

    def batches() -> Iterator[tuple[Origin, I64]]:
        for origin in origins:
            active = np.flatnonzero(np.diff(origin.truth_ptr))
            chosen = active[:: max(len(active) // at_most, 1)] if at_most else active
            for start in range(0, len(chosen), batch_users):
                yield origin, chosen[start : start + batch_users]

    return itertools.islice(batches(), workers.rank, None, workers.size)


def freeze_tower(module: RankerModule, text_NV: Tensor) -> None:
    """Keep every parameter that an item vector depends on from being trained."""
    parameters = list(module.parameters())
    reached = torch.autograd.grad(module.items(text_NV).sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, reached, strict=True):
        parameter.requires_grad_(gradient is None)


def _fitted(
    module: RankerModule, fit: Fit, per_epoch: int, learned: Learned | None
) -> FittedRanker:
    tower, ranker = module.export()
    epochs = np.asarray(fit.losses).reshape(-1, per_epoch).mean(axis=1).tolist()
    curves = {STATE: epochs, f"{STATE} validation": fit.validation}
    return FittedRanker(
        # The very arrays: a logarithm and back could move a bit of a space.
        tower=learned.tower if learned else tower,
        ranker=ranker,
        epochs=len(epochs),
        first_loss=epochs[0],
        last_loss=epochs[-1],
        curves={
            name: [(float(i + 1), value) for i, value in enumerate(values)]
            for name, values in curves.items()
            if values
        },
    )


def _epoch(origins: Sequence[Origin], config: RankerConfig, rng: np.random.Generator) -> Steps:
    steps = []
    for index, origin in enumerate(origins):
        active = np.flatnonzero(np.diff(origin.truth_ptr))
        rng.shuffle(active)
        steps += [
            (index, np.sort(active[start : start + config.batch_users]))
            for start in range(0, len(active), config.batch_users)
        ]
    return [steps[i] for i in rng.permutation(len(steps))]


def _weight(origin: Origin, users_B: I64, config: RankerConfig) -> float:
    """Return what users' truths weigh together, as make_batch weighs them before it normalises."""
    return float((np.diff(origin.truth_ptr)[users_B] ** config.user_power).sum())
