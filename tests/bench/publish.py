"""`python -m tests.bench.publish`: 100,000 users' vectors to Redis.

Ours as the write path publishes them, two buckets at a time; the peer is Feast's `write_to_online_store`
in one call, its pandas frame made beforehand. Writes build/bench/publish.json.
"""

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from services.core import schema as names
from services.core.periods import closed_before
from services.core.schema import DEFAULT_TENANT, Granularity, interest_view
from services.core.views import view_named
from services.pipeline.refresh import PARALLEL_CALLS
from services.store.feast_config import FeastConfig
from services.store.features import FeastFeatures
from services.store.frames import by_period_frame, conform, newest_period_frame
from services.store.layout import Layout
from tests.bench.page import write_page
from tests.bench.pairs import OUT, Bench, Goal, line, write
from tests.bench.store import WIDTH, redis_server
from tests.bench.work import Work, compared, timed
from tests.feast_rows import as_pandas

SPACE = "bench_00000001"
VIEW = interest_view(Granularity.WEEK, SPACE)
BUCKETS = 16
# Keys whose stored bytes both sides are compared by.
LOOK_AT = 50


@dataclass(kw_only=True)
class Publisher:
    """Rows, and both ways to write them into one Redis that is empty before each run."""

    features: FeastFeatures
    rows: pl.DataFrame
    client: Any
    seen: dict[str, dict[bytes, dict[bytes, bytes]]]

    def ours(self) -> Work:
        """Write the buckets, some at a time."""
        bounds = np.linspace(0, len(self.rows), BUCKETS + 1).astype(int)
        buckets = [self.rows[a:b] for a, b in pairwise(bounds)]

        def run() -> None:
            with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
                list(
                    pool.map(lambda b: self.features.write_online(DEFAULT_TENANT, VIEW, b), buckets)
                )

        return self._run("ours", run)

    def peer(self) -> Work:
        """Write all rows by Feast's writer in one call."""
        store = self.features._store(DEFAULT_TENANT)
        frame = as_pandas(_stamped(self.rows))
        return self._run(
            "peer",
            lambda: store.write_to_online_store(VIEW, df=frame, allow_registry_cache=True),
        )

    def _run(self, side: str, run: Any) -> Work:
        self.client.flushdb()
        work = timed(len(self.rows), run)
        assert self.client.dbsize() == len(self.rows)
        keys = sorted(self.client.scan_iter(count=10_000))[:LOOK_AT]
        self.seen[side] = {key: self.client.hgetall(key) for key in keys}
        return work


def vectors(users: int, width: int = WIDTH) -> pl.DataFrame:
    """Return a row of interest_week for each of so many users."""
    now = datetime.now(UTC)
    vec_UD = np.random.default_rng(0).normal(size=(users, width)).astype(np.float32)
    vec_UD /= np.linalg.norm(vec_UD, axis=1, keepdims=True)
    week = closed_before(Granularity.WEEK, now).ordinal
    return newest_period_frame(
        by_period_frame(
            Granularity.WEEK, [f"user-{n}" for n in range(users)], np.full(users, week), vec_UD,
            np.arange(users) % 40 + 1, model_version="m1", known_times=[now] * users, computed_time=now,
        )
    )  # fmt: skip


def _stamped(rows: pl.DataFrame) -> pl.DataFrame:
    stamp = pl.col(names.COMPUTED_TIME).alias(names.KNOWN_TIME)
    return conform(view_named(VIEW), rows.with_columns(stamp))


def measure(users: int, pairs: int, folder: Path) -> dict[str, Any]:
    """Return the bench's result."""
    import redis

    with redis_server() as url, redis.Redis.from_url(url) as client:
        features = FeastFeatures(
            Layout(folder, BUCKETS), FeastConfig(online_store="redis", redis_url=url)
        )
        features.apply(DEFAULT_TENANT, SPACE)
        publisher = Publisher(features=features, rows=vectors(users), client=client, seen={})
        bench = Bench(
            name="publish",
            what=f"{users} vectors of width {WIDTH} to Redis",
            peer_name="Feast's write_to_online_store, one call, pandas",
            # At 1.5x Feast's own writer would have stayed; a raw one has to pay 3x.
            goals=(Goal(figure="per_s", at_least=3.0), Goal(figure="per_cpu_s", at_least=1.5)),
            notes=(
                f"ours: {BUCKETS} buckets, {PARALLEL_CALLS} at a time in threads of one process; the peer's "
                "pandas frame is made before, not timed; Redis is empty before each run",
                "the issue asks for 1.5x, and 3x of a raw writer; this is one. CPU is the writer's, not Redis's",
            ),
        )
        found = compared(bench, publisher.ours, publisher.peer, pairs)
        assert publisher.seen["ours"] == publisher.seen["peer"]
    return found


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.users, args.pairs, Path(folder))
    write(found, args.out)
    print(line(found), *found["notes"], sep="\n  ")
    print(write_page(args.out))


if __name__ == "__main__":
    main()
