"""Who takes part in a training: one process, or several that add up what each has of a step.

The loop of fit_ranker.py is the same for all. Every worker holds the whole module and the same plan;
of each step it takes its part of the users (batches.part_of), and gradients are summed, so that all
workers change their weights alike.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, distributed

from services.core.errors import InvalidArgument

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeConfig:
    """What a training runs on; of the result it decides the rounding and the dropout alone."""

    # Processes that share every step; 1: the caller's own, without Ray.
    workers: int = 1
    # A GPU for each of them.
    gpu: bool = False


class Workers(Protocol):
    """One worker's place among all of them."""

    @property
    def rank(self) -> int:
        """From 0, which also keeps the states and tells the progress."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def device(self) -> torch.device:
        """Where this one computes."""

    def add_up(self, values: Tensor) -> None:
        """Replace values by their sum over all workers, the same bits on each; all must call it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """One process."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    def add_up(self, values: Tensor) -> None:
        """Leave them: one worker's are all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The processes of torch.distributed's default group: gloo on CPUs, nccl on GPUs."""

    rank: int
    size: int
    device: torch.device = _CPU

    def add_up(self, values: Tensor) -> None:
        """Sum over the group."""
        distributed.all_reduce(values)


ALONE = Alone()


def sum_gradients(workers: Workers, parameters: Sequence[Tensor], loss: Tensor) -> float:
    """Replace gradients by the step's and return its loss.

    Args:
        workers: each has called backward() on its part's share of the loss.
        parameters: in the same order on every worker. One that nobody has a gradient of keeps none:
            an optimizer passes it by, as in one process.
        loss: of this part.
    """
    if workers.size == 1:
        return float(loss.detach())
    has_P = torch.tensor([float(p.grad is not None) for p in parameters], device=loss.device)
    flat = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
    summed = torch.cat([*flat, has_P, loss.detach().reshape(1)])
    # One call: what it takes to meet is more than what it takes to add.
    workers.add_up(summed)
    sizes = [p.numel() for p in parameters]
    *gradients, has_P, total = torch.split(summed, [*sizes, len(sizes), 1])
    for parameter, gradient, has in zip(parameters, gradients, has_P.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if has else None
    return float(total)


def take_firsts(workers: Workers, tensors: Iterable[Tensor]) -> None:
    """Give every worker the values of the first one: other processors may have rounded otherwise."""
    if workers.size == 1:
        return
    with torch.no_grad():
        for tensor in tensors:
            if workers.rank:
                tensor.zero_()
            workers.add_up(tensor)


def sum_arrays(workers: Workers, *arrays: np.ndarray) -> None:
    """Replace float64 arrays by their sums over all workers."""
    if workers.size == 1:
        return
    for array in arrays:
        values = torch.tensor(array, device=workers.device)
        workers.add_up(values)
        array[...] = values.cpu().numpy()


def check_compute(compute: ComputeConfig) -> None:
    """Hold what is asked for against what this machine has.

    Raises:
        InvalidArgument: it has fewer CPUs or GPUs.
    """
    if compute.workers < 1:
        raise InvalidArgument("workers", f"{compute.workers} is too few; ask for 1 or more")
    cpus = cpu_count()
    if compute.workers > cpus:
        raise InvalidArgument(
            "workers", f"{compute.workers} are more than this machine's {cpus} CPUs; ask for fewer"
        )
    if not compute.gpu:
        return
    gpus = torch.cuda.device_count()
    if gpus == 0:
        raise InvalidArgument(
            "gpu", "torch finds no GPU; leave the option out, or install a torch with CUDA"
        )
    if compute.workers > gpus:
        raise InvalidArgument(
            "workers", f"{compute.workers} are more than this machine's {gpus} GPUs; ask for fewer"
        )


def cpu_count() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
