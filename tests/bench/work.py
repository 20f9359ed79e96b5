"""Figures of batch work, and a bench with one or more peers on the same parts of the work.

Both sides do the same parts, one a pair, and never see a part twice: nothing is warm but the code.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.bench.pairs import PACKAGES, Bench, in_pairs, report, versions

Part = TypeVar("Part")
MORE_PACKAGES = (
    "deltalake", "polars", "pyarrow", "sentence-transformers", "statsforecast", "torch", "transformers",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Work:
    """One run of one side; of both figures more is better."""

    # Units of work done, by the clock and by CPU (user and system, this process and its threads).
    per_s: float
    per_cpu_s: float


def timed(units: float, run: Callable[[], object]) -> Work:
    """Return what a run of so many units took."""
    cpu_s, started = time.process_time(), time.perf_counter()
    run()
    wall_s = time.perf_counter() - started
    return Work(per_s=units / wall_s, per_cpu_s=units / (time.process_time() - cpu_s))


def each_part(run: Callable[[Part], Work], parts: Sequence[Part]) -> Callable[[], Work]:
    """Return a call that takes the next part each time."""
    left = iter(parts)
    return lambda: run(next(left))


def compared(
    bench: Bench,
    ours: Callable[[], Work],
    peer: Callable[[], Work],
    pairs: int,
    **more: Callable[[], Any],
) -> dict[str, Any]:
    """Run a bench in pairs; return what NAME.json holds.

    Args:
        bench: its name, peer and goals.
        ours: one run of ours.
        peer: one run of the peer.
        pairs: runs of each.
        more: further keys, asked for when all runs are done: what the runs proved on the way.
    """
    found = report(bench, *in_pairs(ours, peer, pairs))
    found["versions"] = versions(PACKAGES + MORE_PACKAGES)
    return found | {key: told() for key, told in more.items()}


def also(found: dict[str, Any], *, reached: bool, goal: str) -> dict[str, Any]:
    """Hold a bench to a further goal that is no ratio, such as an equal error."""
    verdict = "reached" if reached else "NOT reached"
    return found | {
        "reached": found["reached"] and reached,
        "notes": [*found["notes"], f"{goal}: {verdict}"],
    }
