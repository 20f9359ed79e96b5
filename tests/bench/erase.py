"""`python -m tests.bench.erase`: erasing users, against rewriting what their buckets hold.

Ours is all of it: the request, the intake, rows from every place, tombstones, signed receipts, the bytes
looked after. The peer reads and writes anew each file of the buckets (events and offline parts), as the
store writes them, and nothing else: no online store, no rejects, no receipts. Writes build/bench/erase-one.json
and erase-many.json.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from services.core.periods import closed_before
from services.core.schema import (
    DEFAULT_TENANT,
    PERIOD,
    USER_ID,
    Granularity,
    bucket_of,
    by_period_view,
    interest_view,
)
from services.pipeline.erasure import erase_requested, request_erasures
from services.pipeline.preprocess import preprocess
from services.pipeline.stores import open_stores
from services.runtime.settings import Settings
from services.store import delta, offline_parts
from services.store.frames import by_period_frame, newest_period_frame
from services.store.layout import Layout
from services.store.receipts import Receipts
from tests.bench.page import write_page
from tests.bench.pairs import OUT, Bench, Goal, line, write
from tests.bench.work import Work, compared, each_part, timed

TENANT, SPACE = DEFAULT_TENANT, "bench_00000001"
BUCKETS, WIDTH, WEEKS, EVENTS_A_USER = 8, 64, 12, 100
BATCH = 1000


@dataclass(kw_only=True)
class Store:
    """A filled store, and both ways to be rid of users."""

    settings: Settings
    users: list[str]

    def __post_init__(self) -> None:
        self.layout = Layout(self.settings.data_dir, BUCKETS)
        self.stores = open_stores(self.settings)

    def erase(self, users: Sequence[str]) -> Work:
        """Erase users, from the request to their receipts."""
        stores = self.stores

        def run() -> None:
            request_erasures(self.settings, TENANT, users)
            preprocess(stores.tables, self.settings)
            erase_requested(
                stores.tables, stores.features, stores.models, stores.overlays, self.settings
            )

        work = timed(1, run)
        assert stores.tables.user_events(TENANT, users).is_empty()
        assert Receipts(self.layout).list(TENANT, is_pending=True) == []
        return work

    def rewrite(self, buckets: Sequence[int]) -> Work:
        """Write every file of some buckets anew."""
        events = self.layout.events_dir(TENANT)

        def run() -> None:
            for bucket in buckets:
                theirs = {name: f for name, f in delta.files(events).items() if f[1] == bucket}
                delta.rewrite(events, theirs, lambda rows: rows, is_merge=True)
                root = self.layout.feast_dir(TENANT) / "offline"
                for path in sorted(root.glob(f"*/part-b{bucket:04}-*.parquet")):
                    offline_parts.write(path, pl.read_parquet(path, glob=False))
            delta.sweep(events, is_owner=True)

        return timed(1, run)


def filled(folder: Path, users: int) -> Store:
    """Return a store of users with events, vectors of weeks offline, and the newest online."""
    settings = Settings(data_dir=folder, bucket_count=BUCKETS)
    made = Store(settings=settings, users=[f"user-{n:06}" for n in range(users)])
    now, rng = datetime.now(UTC), np.random.default_rng(0)
    count = users * EVENTS_A_USER
    events = pl.DataFrame(
        {
            "event_id": [f"event-{n:09}" for n in range(count)],
            USER_ID: made.users * EVENTS_A_USER,
            "item_id": [f"item-{n}" for n in rng.integers(10_000, size=count)],
            "kind": "purchase",
            "value": 1.0,
            "event_time": [
                now - timedelta(minutes=int(m)) for m in rng.integers(1, 500_000, size=count)
            ],
            "ingest_time": [now] * count,
        }
    )
    made.stores.tables.append_events(TENANT, events, "fill")
    features, last = made.stores.features, closed_before(Granularity.WEEK, now).ordinal
    features.apply(TENANT, SPACE)
    for bucket in range(BUCKETS):
        theirs = [user for user in made.users if bucket_of(user, BUCKETS) == bucket]
        rows = _vectors(theirs, last, now, rng)
        features.append_offline(
            TENANT, by_period_view(Granularity.WEEK, SPACE), bucket, "fill", rows
        )
        newest = newest_period_frame(rows.sort(USER_ID, PERIOD).unique(USER_ID, keep="last"))
        features.write_online(TENANT, interest_view(Granularity.WEEK, SPACE), newest)
    return made


def _vectors(users: list[str], last: int, now: datetime, rng: Any) -> pl.DataFrame:
    count = len(users) * WEEKS
    vec_PD = rng.normal(size=(count, WIDTH)).astype(np.float32)
    vec_PD /= np.linalg.norm(vec_PD, axis=1, keepdims=True)
    return by_period_frame(
        Granularity.WEEK, np.repeat(users, WEEKS).tolist(), np.tile(np.arange(last - WEEKS + 1, last + 1), len(users)),
        vec_PD, np.ones(count, np.int64), model_version="m1", known_times=[now] * count,
        computed_time=now,
    )  # fmt: skip


def measure(users: int, batch: int, pairs: int, folder: Path) -> list[dict[str, Any]]:
    """Return both benches' results."""
    store = filled(folder, users)
    one = store.users[:pairs]
    many = [store.users[pairs + n * batch : pairs + (n + 1) * batch] for n in range(pairs)]
    assert len(many[-1]) == batch
    what = f"{users} users, {EVENTS_A_USER} events and {WEEKS} weekly vectors of width {WIDTH} each, {BUCKETS} buckets"
    notes = (
        "per_s is of whole runs; the goal is the inverse of what the issue allows: 3x and 1.5x",
        "ours also removes from the SQLite online store, vacuums it, and writes signed receipts",
    )
    single = Bench(
        name="erase-one", what=f"one user of {what}", peer_name="rewriting the user's bucket",
        goals=(Goal(figure="per_s", at_least=1 / 3),), notes=notes,
    )  # fmt: skip
    batched = Bench(
        name="erase-many", what=f"{batch} in one call, of {what}", peer_name="rewriting every bucket once",
        goals=(Goal(figure="per_s", at_least=1 / 1.5),), notes=notes,
    )  # fmt: skip
    buckets = [[bucket_of(user, BUCKETS)] for user in one]
    store.rewrite(range(BUCKETS))  # one file a bucket, as after any erasure
    return [
        compared(
            single,
            each_part(store.erase, [[user] for user in one]),
            each_part(store.rewrite, buckets),
            pairs,
        ),
        compared(
            batched,
            each_part(store.erase, many),
            each_part(store.rewrite, [range(BUCKETS)] * pairs),
            pairs,
        ),
    ]


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for found in measure(args.users, BATCH, args.pairs, Path(folder)):
            write(found, args.out)
            print(line(found), *found["notes"], sep="\n  ")
    print(write_page(args.out))


if __name__ == "__main__":
    main()
