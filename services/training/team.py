"""Who shares a training's steps: this process alone, or several workers."""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn


class Team(Protocol):
    """The workers that share each step's users; all of them run the same loop."""

    @property
    def rank(self) -> int:
        """Of this worker, from 0; 0 keeps the states."""
        ...

    @property
    def size(self) -> int:
        """How many workers there are."""
        ...

    @property
    def device(self) -> torch.device:
        """Where this worker computes."""
        ...

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module such that backward averages gradients over the workers."""
        ...

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of a value over the workers."""
        ...

    def ended_epoch(self, figures: dict[str, float]) -> None:
        """Be told of an epoch's figures; every worker calls it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """A team of one."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def wrap(self, module: nn.Module) -> nn.Module:
        """See Team."""
        return module

    def total(self, value: Tensor) -> Tensor:
        """See Team."""
        return value

    def ended_epoch(self, figures: dict[str, float]) -> None:
        """See Team."""


ALONE = Alone()
