"""`python -m tests.bench.workers`: buckets by Ray tasks, two workers against one, and this process without Ray.

Each side has a store of its own with the same events, and its workers stay up; each turn all sides make and publish
interests and forecasts of the same buckets, which none of them had made before. At the end all stores must hold the
same. Writes build/bench/workers.json.
"""

import argparse
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from services.backfill.here import InThisProcess
from services.backfill.workers import open_workers
from services.core.schema import (
    COMPUTED_TIME,
    DEFAULT_TENANT,
    EVENT_TIME,
    KNOWN_TIME,
    USER_ID,
    Granularity,
    by_period_view,
    forecast_view,
)
from services.pipeline.complete_journey import complete_journey_events
from services.pipeline.preprocess import preprocess
from services.pipeline.stores import open_stores
from services.runtime.settings import Settings
from services.store.backbone import load_backbone
from services.store.layout import Layout
from services.store.ports import TextEncoder
from tests.bench.encode import in_turns
from tests.bench.page import write_page
from tests.bench.pairs import OUT, PACKAGES, Bench, Goal, line, report, versions, write
from tests.bench.refresh_delta import households, prepare
from tests.bench.servers import Server
from tests.bench.work import MORE_PACKAGES, Work, also, each_part

WORKERS = 2
# A turn's; calls of four each.
BUCKETS_A_TURN, BUCKETS_A_CALL = 16, 4


@dataclass(frozen=True, kw_only=True)
class Side:
    """A store, and who makes its buckets."""

    settings: Settings
    compute: InThisProcess
    workers: int
    cpu_s: Callable[[], float]

    def run(self, buckets: Sequence[int]) -> Work:
        """Make and publish some buckets; units are rows published."""
        starts = range(0, len(buckets), BUCKETS_A_CALL)
        calls = [list(buckets[start : start + BUCKETS_A_CALL]) for start in starts]
        cpu_s, started, rows = self.cpu_s(), time.perf_counter(), 0
        with ThreadPoolExecutor(self.workers) as pool:
            made = pool.map(self.compute.refresh_interests, calls)
            rows += sum(answer.vector_count for answer in made)
            ahead = pool.map(self.compute.refresh_forecasts, calls)
            rows += sum(answer.forecast_count for answer in ahead)
        wall_s = time.perf_counter() - started
        assert rows, f"nothing was published of buckets {buckets}"
        return Work(per_s=rows / wall_s, per_cpu_s=rows / (self.cpu_s() - cpu_s))

    def digest(self) -> str:
        """Return a hash of the week vectors and forecasts that are stored, but for the clock."""
        stores, found = open_stores(self.settings), hashlib.sha256()
        features, space_id = stores.features, stores.models.live(DEFAULT_TENANT).space_id
        for view in (
            by_period_view(Granularity.WEEK, space_id),
            forecast_view(Granularity.WEEK, space_id),
        ):
            rows = pl.concat(
                features.read_offline(DEFAULT_TENANT, view, bucket)
                for bucket in range(self.settings.bucket_count)
            ).drop(COMPUTED_TIME, KNOWN_TIME)
            keys = [name for name in (USER_ID, "period") if name in rows.columns]
            found.update(rows.sort(keys).write_json().encode())
        return found.hexdigest()


def filled(folder: Path, events: pl.DataFrame, encoder: TextEncoder, buckets: int) -> Settings:
    """Make a store whose events and items are taken in, and nothing of users is published."""
    last = events[EVENT_TIME].max()
    assert isinstance(last, datetime)
    settings = Settings(
        data_dir=folder / "data", now=last + timedelta(days=1), bucket_count=buckets
    )
    layout = Layout(settings.data_dir, buckets)
    inbox = prepare(layout, folder / "model", events, encoder, settings.clock())
    inbox.append("events", events.drop("text", "categories"))
    preprocess(open_stores(settings).tables, settings)
    InThisProcess(settings, DEFAULT_TENANT, lambda spec: encoder).refresh_items()
    return settings


def measure(folder: Path, events: pl.DataFrame, encoder: TextEncoder, pairs: int) -> dict[str, Any]:
    """Return the result."""
    count = BUCKETS_A_TURN * (pairs + 1)
    base = filled(folder / "base", events, encoder, count)
    turns = [list(range(n * BUCKETS_A_TURN, (n + 1) * BUCKETS_A_TURN)) for n in range(pairs + 1)]
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, workers in (("ours", WORKERS), ("peer", 1), ("here", 0)):
            shutil.copytree(base.data_dir, folder / name)
            settings = base.model_copy(update={"data_dir": folder / name})
            sides[name] = _side(stack, settings, workers)
            # Imports, the registry, the model: what a process pays once.
            sides[name].run(turns[0])
        runs = in_turns(
            {name: each_part(side.run, turns[1:]) for name, side in sides.items()}, pairs
        )
        digests = {name: side.digest() for name, side in sides.items()}
    return judged(runs, digests, events[USER_ID].n_unique())


def _side(stack: ExitStack, settings: Settings, workers: int) -> Side:
    if workers == 0:
        here = InThisProcess(settings, DEFAULT_TENANT)
        return Side(settings=settings, compute=here, workers=1, cpu_s=time.process_time)
    compute = stack.enter_context(open_workers(settings, DEFAULT_TENANT, workers))
    driver = Server(pid=compute.pid, port=0)
    return Side(settings=settings, compute=compute, workers=workers, cpu_s=driver.cpu_s)


def judged(runs: dict[str, list[Work]], digests: dict[str, str], users: int) -> dict[str, Any]:
    """Return the result of runs, held to equal stores."""
    here = sorted(run.per_s for run in runs["here"])[len(runs["here"]) // 2]
    bench = Bench(
        name="workers",
        what=f"interests and forecasts of {users} households by Ray tasks, {WORKERS} workers",
        peer_name="one worker",
        goals=(Goal(figure="per_s", at_least=1.5),),
        notes=(
            f"rows published a second; {BUCKETS_A_TURN} buckets a turn that nobody made before; workers are warm",
            "one thread a worker; SQLite online store, one writer at a time; CPU is that of all of Ray's processes",
            f"in one process without Ray: {here:.0f} rows a second",
        ),
    )
    found = report(bench, runs["ours"], runs["peer"])
    found["here"] = {"per_s": here}
    found["versions"] = versions((*PACKAGES, *MORE_PACKAGES, "ray"))
    return also(found, reached=len(set(digests.values())) == 1, goal="all stores hold the same")


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--households", type=int, default=2500, help="at most; all: 2,467")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    events = households(complete_journey_events(), args.households)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), events, load_backbone(is_bf16=True), args.pairs)
    write(found, args.out)
    print(line(found), *found["notes"], sep="\n  ")
    for name in ("ours", "peer"):
        print(
            f"  {name}: {found[name]['per_s']:.0f} rows/s, {found[name]['per_cpu_s']:.0f} a CPU s"
        )
    print(write_page(args.out))


if __name__ == "__main__":
    main()
