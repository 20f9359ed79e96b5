"""What a training takes, for its card: seconds by stage, CPU seconds, and the machine in words."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.core.card import CardCost


def _cpu_s() -> float:
    return sum(os.times()[:4])


@dataclass(slots=True, kw_only=True)
class Stopwatch:
    """Runs from when it is made."""

    seconds: dict[str, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.perf_counter)
    _cpu_before: float = field(default_factory=_cpu_s)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; the same name again adds up."""
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + passed

    def cost(self, workers: int = 1, of_workers_s: float = 0.0) -> CardCost:
        """Return what was taken until now, and what workers took that are no children of this process."""
        seconds = {**self.seconds, "total": time.perf_counter() - self._started}
        return CardCost(
            seconds={name: round(value, 3) for name, value in seconds.items()},
            cpu_seconds=round(_cpu_s() - self._cpu_before + of_workers_s, 3),
            workers=workers,
            machine=machine(),
        )


def machine() -> str:
    """Return the machine in words, without any name of it."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {platform.machine()}, {gib:.0f} GiB, {_gpus()}"


def _gpus() -> str:
    import torch

    if not torch.cuda.is_available():
        return "no GPU"
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
