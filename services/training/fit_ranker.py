"""The loop that trains item tower and ranker (ranker.py) on the origins of examples.py.

Every step is decided beforehand: which users of which origin, which learning rate, which seed. So
a state is a module, an optimizer and how many steps are done, and a training that goes on from one
ends bit for bit where an uninterrupted one does.

Shape suffixes: B = users of a batch, N = items, V = backbone width.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from services.core.errors import InvalidArgument
from services.core.pooling import I64
from services.core.ranking import Ranker
from services.core.records import F32
from services.core.tower import ItemTower
from services.training.batches import Batch, make_batch
from services.training.checkpoints import Checkpoints
from services.training.examples import Origin
from services.training.fit_state import Fit
from services.training.loss import loss_of
from services.training.ranker import RankerConfig, RankerModule
from services.training.start import start_tower, with_known_items
from services.training.team import ALONE, Team

Progress = Callable[[str, int, int], None]
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
    team: Team = ALONE,
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
        team: the workers to share the steps with.

    Raises:
        InvalidArgument: no user did anything in any of the origins' periods.
    """
    torch.manual_seed(config.seed)
    steps = plan(origins, config)
    text = torch.from_numpy(text_NV).to(team.device)
    if learned is not None:
        tower = learned.tower
    else:
        tower = start_tower(text_NV, config.width)
        if config.has_ids:
            tower = with_known_items(tower, origins[-1], item_ids)
    module = RankerModule(config, half_lives_days, tower, item_ids)
    if learned is not None:
        module.load(learned.tower, learned.ranker)
        freeze_tower(module, text.cpu())
    fit = Fit.start(module.to(team.device), len(steps))
    if checkpoints is not None:
        fit.take_up(checkpoints.read(STATE))
    together = team.wrap(_Loss(module))
    per_epoch, kept = len(steps) // config.epochs, time.monotonic()
    for step in range(fit.done, len(steps)):
        origin, users_B = origins[steps[step][0]], steps[step][1]
        torch.manual_seed((config.seed * _MAX_STEPS + step) * team.size + team.rank)
        mine_B, share = _mine(origin, users_B, config, team)
        batch = moved(make_batch(origin, mine_B, config.user_power), team.device)
        loss = together(batch, text) * share
        fit.optimizer.zero_grad()
        # Workers' gradients are averaged: times their number, they add up.
        (loss * team.size).backward()
        fit.optimizer.step()
        fit.schedule.step()
        fit.losses.append(float(team.total(loss.detach())))
        if fit.done % per_epoch == 0:
            if validation:
                fit.validation.append(validation_loss(module, validation, text, config))
            team.ended_epoch({"loss": float(np.mean(fit.losses[-per_epoch:]))})
        is_due = time.monotonic() - kept >= checkpoints.every_s if checkpoints else False
        if checkpoints and team.rank == 0 and (is_due or fit.done == len(steps)):
            checkpoints.write(STATE, fit.state())
            kept = time.monotonic()
        on_progress("train ranker", fit.done, len(steps))
    return _fitted(module.cpu(), fit, per_epoch, learned)


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
    module: RankerModule, origins: Sequence[Origin], text_NV: Tensor, config: RankerConfig
) -> float:
    """Return the loss over all active users of some origins, weighted as in training."""
    total = weight = 0.0
    module.eval()
    with torch.no_grad():
        for origin in origins:
            active = np.flatnonzero(np.diff(origin.truth_ptr))
            for start in range(0, len(active), config.batch_users):
                users_B = active[start : start + config.batch_users]
                batch = moved(make_batch(origin, users_B, config.user_power), text_NV.device)
                part = _weight(origin, users_B, config)
                total += float(loss_of(module, batch, text_NV)) * part
                weight += part
    module.train()
    return total / max(weight, 1e-12)


def freeze_tower(module: RankerModule, text_NV: Tensor) -> None:
    """Keep every parameter that an item vector depends on from being trained."""
    parameters = list(module.parameters())
    reached = torch.autograd.grad(module.items(text_NV).sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, reached, strict=True):
        parameter.requires_grad_(gradient is None)


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device."""

    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        return tuple(map(move, value)) if isinstance(value, tuple) else value

    return replace(batch, **{f.name: move(getattr(batch, f.name)) for f in fields(batch)})


class _Loss(nn.Module):
    """The loss as a module, so that what wraps it sees one forward pass a step."""

    def __init__(self, ranker: RankerModule) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, batch: Batch, text_NV: Tensor) -> Tensor:
        return loss_of(self.ranker, batch, text_NV)


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


def _mine(origin: Origin, users_B: I64, config: RankerConfig, team: Team) -> tuple[I64, float]:
    """Return a worker's users of a step, and their share of the step's weight."""
    if team.size == 1:
        return users_B, 1.0
    mine_B = users_B[team.rank :: team.size]
    if not len(mine_B):
        # Fewer users than workers: one more learns nothing, but takes part in the averaging.
        return users_B[:1], 0.0
    return mine_B, _weight(origin, mine_B, config) / _weight(origin, users_B, config)


def _weight(origin: Origin, users_B: I64, config: RankerConfig) -> float:
    """Return what users' truths weigh together, as make_batch weighs them before it normalises."""
    return float((np.diff(origin.truth_ptr)[users_B] ** config.user_power).sum())
