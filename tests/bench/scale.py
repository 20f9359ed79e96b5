"""`python -m tests.bench.scale`: the whole write path on 1, 4, 16 and 64 times 80 households of Complete Journey.

Households are copied under new names and their events jittered by up to three days; what that costs is not
counted. Each size is a process of its own on a store of its own, with buckets in proportion: inbox, events,
items, interests, forecasts, everything published. CPU against events, on logarithms, must have a slope of at
most 1.05, and the largest size's peak memory must be at most twice that of 4 times. Writes build/bench/scale.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from services.core.records import F32
from services.core.schema import EVENT_ID, EVENT_TIME, USER_ID
from services.core.tower import BackboneSpec
from services.pipeline.complete_journey import complete_journey_events
from services.runtime.settings import Settings
from services.store.backbone import load_backbone
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from services.store.ports import TextEncoder
from tests.bench.page import write_page
from tests.bench.pairs import OUT, PACKAGES, machine, versions, write
from tests.bench.refresh_delta import WritePath, households, prepare
from tests.bench.work import MORE_PACKAGES

SIZES, SHORT_SIZES = (1, 4, 16, 64), (1, 4, 16)
SLOPE, MEMORY = 1.05, 2.0
BUCKETS = 8
JITTER_S = 3 * 86_400


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one size took."""

    size: int
    events: int
    cpu_s: float
    wall_s: float
    # Of the process, from its start.
    peak_mib: float
    vectors: int
    forecasts: int
    cpu_s_by_step: dict[str, float]


class NothingToEncode:
    """Stands for the backbone, whose weights would hide what the write path itself needs of memory."""

    @property
    def spec(self) -> BackboneSpec:
        """Nobody asks."""
        raise NotImplementedError

    def encode(self, texts: Sequence[str], on_progress: Any = None) -> F32:
        """Refuse: every text was encoded beforehand."""
        raise AssertionError(f"{len(texts)} texts have no vector")


class Remembered:
    """A backbone that encodes each text once for all sizes."""

    def __init__(self, inner: TextEncoder) -> None:
        self.spec = inner.spec
        self._inner = inner
        self._vec_of: dict[str, F32] = {}

    def encode(self, texts: Sequence[str], on_progress: Any = None) -> F32:
        """Return one row per text."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._vec_of]
        if missing:
            self._vec_of |= dict(zip(missing, self._inner.encode(missing), strict=True))
        return np.stack([self._vec_of[text] for text in texts])


def copy_of(events: pl.DataFrame, number: int) -> pl.DataFrame:
    """Return the events under other names, jittered; copy 0 too, so that all are alike."""
    rng = np.random.default_rng(number)
    shift = pl.Series(rng.integers(-JITTER_S, JITTER_S, len(events))) * 1_000_000
    last = events[EVENT_TIME].max()
    return events.with_columns(
        pl.format("c{}-{}", pl.lit(number), USER_ID).alias(USER_ID),
        pl.format("c{}-{}", pl.lit(number), EVENT_ID).alias(EVENT_ID),
        pl.min_horizontal(pl.col(EVENT_TIME) + shift.cast(pl.Duration("us")), pl.lit(last)).alias(
            EVENT_TIME
        ),
    ).sort(EVENT_TIME, EVENT_ID)


def run_size(folder: Path, copies: list[Path], size: int) -> Cost:
    """Take copies from files all the way to published features."""
    meta = json.loads((folder / "meta.json").read_text())
    settings = Settings(
        data_dir=folder / "data",
        now=datetime.fromisoformat(meta["now"]),
        bucket_count=BUCKETS * size,
    )
    path = WritePath(
        settings=settings,
        backbone=NothingToEncode(),
        now=settings.clock(),
        recent=pl.DataFrame(),
        users=[],
    )
    layout = Layout(settings.data_dir, settings.bucket_count)
    inbox = InboxWriter(layout, "bench")
    # Imports, and the registry: what every process pays once would hide the slope of small sizes.
    path.refresh(is_full=False)
    steps: dict[str, float] = {}
    events = 0
    started, wall = time.process_time(), time.perf_counter()

    def step(name: str) -> None:
        done = sum(steps.values())
        steps[name] = steps.get(name, 0.0) + time.process_time() - started - done

    for copy in copies:
        rows = pl.read_parquet(copy)
        events += len(rows)
        inbox.append("events", rows)
        step("inbox")
    # Full, so that popularity is counted too: what is not made yet is made either way.
    vectors, forecasts = path.refresh(is_full=True, on_step=step)
    return Cost(
        size=size,
        events=events,
        cpu_s=time.process_time() - started,
        wall_s=time.perf_counter() - wall,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        vectors=vectors,
        forecasts=forecasts,
        cpu_s_by_step=steps,
    )


def slope_of(costs: list[Cost]) -> float:
    """Return the slope of CPU over events, both as logarithms."""
    x, y = (np.log([getattr(cost, name) for cost in costs]) for name in ("events", "cpu_s"))
    return float(np.polyfit(x, y, 1)[0])


def result(costs: list[Cost], count: int) -> dict[str, Any]:
    """Return what scale.json holds."""
    slope = slope_of(costs)
    by_size = {cost.size: cost for cost in costs}
    base = by_size.get(4, costs[0])
    memory = costs[-1].peak_mib / base.peak_mib
    # What is fixed weighs most in the smallest.
    large = [cost for cost in costs if cost.size >= base.size]
    return {
        "name": "scale",
        "what": f"the whole write path on {', '.join(str(c.size) for c in costs)} times {count} households",
        "costs": [
            {name: getattr(cost, name) for name in cost.__dataclass_fields__} for cost in costs
        ],
        "slope": slope,
        "slope_from_base": slope_of(large) if len(large) > 1 else None,
        "memory_ratio": memory,
        "goal": {"slope": SLOPE, "memory_ratio": MEMORY},
        "reached": slope <= SLOPE and memory <= MEMORY,
        "notes": [
            f"CPU over events, slope {slope:.3f} of at most {SLOPE}"
            + (f"; from {base.size}x on {slope_of(large):.3f}" if len(large) > 1 else ""),
            f"peak memory at {costs[-1].size}x is {memory:.2f} times that at {base.size}x, of at most {MEMORY:g}",
            "one process, one thread, SQLite online store; texts are encoded beforehand",
        ],
        "machine": machine(),
        "versions": versions(PACKAGES + MORE_PACKAGES),
    }


def measure(
    folder: Path, events: pl.DataFrame, sizes: tuple[int, ...], inner: TextEncoder
) -> list[Cost]:
    """Run every size in a process of its own."""
    last = events[EVENT_TIME].max()
    assert isinstance(last, datetime)
    now, rows, backbone = (
        last + timedelta(days=1),
        events.drop("text", "categories"),
        Remembered(inner),
    )
    costs = []
    for size in sizes:
        place = folder / f"size-{size}"
        settings = Settings(data_dir=place / "data", now=now, bucket_count=BUCKETS * size)
        layout = Layout(settings.data_dir, settings.bucket_count)
        prepare(layout, place / "model", events, backbone, now)
        WritePath(
            settings=settings, backbone=backbone, now=now, recent=pl.DataFrame(), users=[]
        ).refresh(is_full=False)
        (place / "meta.json").write_text(json.dumps({"now": now.isoformat()}))
        for number in range(size):
            copy_of(rows, number).write_parquet(place / f"copy-{number}.parquet")
        command = [
            sys.executable,
            "-m",
            "tests.bench.scale",
            "--one",
            str(place),
            "--size",
            str(size),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-4000:])
        costs.append(Cost(**json.loads(done.stdout.splitlines()[-1])))
        print(
            f"{size}x: {costs[-1].events} events, {costs[-1].cpu_s:.1f} CPU s, {costs[-1].peak_mib:.0f} MiB",
            flush=True,
        )
    return costs


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--households", type=int, default=80, help="of one times; all there are: 2,467"
    )
    parser.add_argument("--short", action="store_true", help="without 64 times")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        copies = sorted(args.one.glob("copy-*.parquet"))
        cost = run_size(args.one, copies, args.size)
        print(json.dumps({name: getattr(cost, name) for name in cost.__dataclass_fields__}))
        return
    events = households(complete_journey_events(), args.households)
    with tempfile.TemporaryDirectory() as folder:
        costs = measure(
            Path(folder), events, SHORT_SIZES if args.short else SIZES, load_backbone(is_bf16=True)
        )
    found = result(costs, events[USER_ID].n_unique())
    write(found, args.out)
    print(*found["notes"], f"reached: {found['reached']}", sep="\n  ")
    print(write_page(args.out))


if __name__ == "__main__":
    main()
