"""The steps of tuning: AdamW, a warm start, clipping, early stopping on a part kept from training."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from services.core.progress import Progress
from services.store.heads import Head
from services.training.tuning.config import TuneConfig
from services.training.tuning.network import Network
from services.training.tuning.outcomes import Outcome

# Of the steps; the rate rises to its full height in them, and falls to zero in the others.
WARM_SHARE = 0.1


class Task(Protocol):
    """One objective."""

    # The figure of `outcome` that the objective is judged by.
    metric: str
    # The head's best is found at once, so head mode takes no steps.
    is_head_exact: bool

    def parameters(self) -> list[nn.Parameter]:
        """Return the head's weights."""
        ...

    def prepare(self, network: Network, on_progress: Progress) -> None:
        """Fit the head to the backbone as it is, so that what tuning adds is seen apart."""
        ...

    def start(self) -> None:
        """Make ready for the steps that are measured against what `prepare` reached."""
        ...

    def loss(self, network: Network, rng: np.random.Generator) -> Tensor:
        """Return the loss of one step's texts."""
        ...

    def stop_loss(self, network: Network) -> float:
        """Return the loss on the stopping part, lower is better."""
        ...

    def baseline(self) -> Outcome:
        """Return the figures of what one says without reading a text."""
        ...

    def outcome(self, network: Network) -> Outcome:
        """Return the figures on the held-out part."""
        ...

    def head(self) -> Head | None:
        """Return what is kept beside the backbone."""
        ...

    def notes(self) -> dict[str, float]:
        """Return what else a reader wants to see: sizes, what was chosen."""
        ...


@dataclass(slots=True, kw_only=True)
class Curves:
    """What the loop saw."""

    # Every step's.
    loss: list[float] = field(default_factory=list)
    # (step, loss on the stopping part), step 0 before any.
    stop: list[tuple[int, float]] = field(default_factory=list)
    # Whose weights were kept.
    best_step: int = 0


def run_steps(
    task: Task,
    network: Network,
    moving: list[nn.Parameter],
    config: TuneConfig,
    *,
    steps: int,
    on_progress: Progress,
    stage: str = "tune",
) -> Curves:
    """Take steps; leave the weights as they were at the best look at the stopping part.

    Args:
        task: gives the losses.
        network: the model.
        moving: the backbone's weights that move; none for a head alone.
        config: rates, clipping, patience.
        steps: at most.
        on_progress: called with stage, done, total.
        stage: its name.
    """
    heads = task.parameters()
    every = [*moving, *heads]
    optimizer = torch.optim.AdamW(
        [
            {"params": moving, "lr": config.backbone_rate, "weight_decay": config.weight_decay},
            {"params": heads, "lr": config.head_rate, "weight_decay": 0.0},
        ]
    )
    warm = max(1, round(WARM_SHARE * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda done: min((done + 1) / warm, max(0.0, (steps - done) / max(1, steps - warm))),
    )
    rng = np.random.default_rng(config.seed)
    look_every = max(1, steps // config.checks)
    curves = Curves(stop=[(0, task.stop_loss(network))])
    best, kept = curves.stop[0][1], [parameter.detach().clone() for parameter in every]
    for step in range(1, steps + 1):
        loss = task.loss(network, rng)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(every, config.clip)
        optimizer.step()
        schedule.step()
        network.weights_moved()
        curves.loss.append(float(loss.detach()))
        on_progress(stage, step, steps)
        if step % look_every and step != steps:
            continue
        curves.stop.append((step, task.stop_loss(network)))
        if curves.stop[-1][1] < best:
            best, curves.best_step = curves.stop[-1][1], step
            kept = [parameter.detach().clone() for parameter in every]
        if step - curves.best_step >= config.patience * look_every:
            break
    if steps:
        on_progress(stage, steps, steps)
    with torch.no_grad():
        for parameter, value in zip(every, kept, strict=True):
            parameter.copy_(value)
    network.weights_moved()
    return curves
