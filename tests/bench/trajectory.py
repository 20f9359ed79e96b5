"""26 weeks of one user: GetTrajectory against look-ups by (user, period) through Feast's SDK.

Both sides are asked by one caller at a time, in Python, and give numpy-ready vectors. Ours goes over the
wire to a gateway; Feast's SDK reads Redis from within the caller.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from driftline import Client

from services.core import schema as names
from services.store.rows import features_of_interest
from tests.bench import servers
from tests.bench.pairs import Bench, Figures, Goal, in_pairs, medians, ratios, report
from tests.bench.store import Filled
from tests.gateway.process import gateway

USERS = 200
_VIEW = "interest_by_period"
_FEATURES = [f"{_VIEW}:{name}" for name in (names.VEC, names.EVENT_COUNT, names.MODEL_VERSION)]
BENCH = Bench(
    name="trajectory",
    what="26 weeks of one user, Redis store, one caller",
    peer_name="26 get_online_features of one (user, period) each, Feast's SDK in the caller",
    goals=(Goal(figure="calls_per_s", at_least=10.0),),
    notes=("a call is one whole trajectory; CPU is the caller's and, for ours, the gateway's",),
)


def compare(
    name: str, filled: Filled, scratch: Path, *, pairs: int, seconds: float
) -> dict[str, Any]:
    """Measure the bench; `name` is always trajectory."""
    store, users = by_period_store(filled, scratch), filled.users[:USERS]
    config = filled.config
    with (
        gateway(
            filled.folder,
            metrics_port=0,
            online_store=config.online_store,
            redis_url=config.redis_url,
        ) as running,
        Client(f"127.0.0.1:{running.port}") as client,
    ):
        server = servers.Server(pid=running.process.pid, port=running.port)

        def ours(user: str) -> tuple[np.ndarray, list[int]]:
            weeks = client.get_trajectory(user).interests
            return np.stack([w.vector.values for w in weeks]), [w.event_count for w in weeks]

        def rows_of(user: str) -> list[dict[str, str]]:
            return [
                {names.USER_ID: user, names.PERIOD: vector.period.name}
                for vector in filled.weeks_of[user]
            ]

        def each(user: str) -> tuple[np.ndarray, list[int]]:
            found = [store.get_online_features(_FEATURES, [row]).to_dict() for row in rows_of(user)]
            vecs = np.asarray([one[names.VEC][0] for one in found], np.float32)
            return vecs, [one[names.EVENT_COUNT][0] for one in found]

        def at_once(user: str) -> tuple[np.ndarray, list[int]]:
            found = store.get_online_features(_FEATURES, rows_of(user)).to_dict()
            return np.asarray(found[names.VEC], np.float32), found[names.EVENT_COUNT]

        for read in (ours, each, at_once):
            vecs_WD, counts = read(users[0])
            written = filled.weeks_of[users[0]]
            np.testing.assert_array_equal(vecs_WD, np.stack([v.vec_D for v in written]))
            assert counts == [v.event_count for v in written]

        def run(read: Callable[[str], object], pid: int | None) -> Figures:
            return timed(read, users, seconds, server.cpu_s if pid else lambda: 0.0)

        pid = server.pid
        found = in_pairs(lambda: run(ours, pid), lambda: run(each, None), pairs)
        batched = in_pairs(lambda: run(ours, pid), lambda: run(at_once, None), pairs)
    made = report(BENCH, *found)
    # Not the bench's peer, but what a careful user of Feast would write.
    made["peer_one_call_of_26"] = {
        "peer": medians(batched[1]),
        "ratios": ratios(*batched),
        "runs": {
            side: [asdict(r) for r in rs]
            for side, rs in zip(("ours", "peer"), batched, strict=True)
        },
    }
    rate = made["peer_one_call_of_26"]["ratios"]["calls_per_s"]
    made["notes"].append(
        f"against one get_online_features of 26 rows: {rate['median']:.2f}x "
        f"({rate['low']:.2f} to {rate['high']:.2f})"
    )
    return made


def timed(
    read: Callable[[str], object],
    users: tuple[str, ...],
    seconds: float,
    server_cpu_s: Callable[[], float],
) -> Figures:
    """Read user after user, one at a time, for some seconds."""
    for user in users[:3]:
        read(user)
    latencies_s: list[float] = []
    cpu_s, started = time.process_time() + server_cpu_s(), time.perf_counter()
    for user in cycle(users):
        before = time.perf_counter()
        read(user)
        now = time.perf_counter()
        latencies_s.append(now - before)
        if now - started >= seconds:
            break
    took_s = time.perf_counter() - started
    cpu_s = time.process_time() + server_cpu_s() - cpu_s
    p50_s, p99_s = np.quantile(latencies_s, (0.5, 0.99))
    return Figures(
        calls_per_s=len(latencies_s) / took_s,
        cpu_ms_per_call=1e3 * cpu_s / len(latencies_s),
        p50_ms=1e3 * float(p50_s),
        p99_ms=1e3 * float(p99_s),
    )


def by_period_store(filled: Filled, scratch: Path) -> Any:
    """Return a Feast store of its own, on the same Redis, with the users' weeks keyed by (user, period)."""
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Float32, Int64, String

    folder = scratch / "by_period"
    folder.mkdir()
    store = FeatureStore(config=filled.config.repo_config("bench", folder))
    keys = (names.USER_ID, names.PERIOD)
    entities = [Entity(name=k, join_keys=[k], value_type=ValueType.STRING) for k in keys]
    view = FeatureView(
        name=_VIEW,
        entities=entities,
        schema=[
            *(Field(name=key, dtype=String) for key in keys),
            Field(name=names.VEC, dtype=Array(Float32)),
            Field(name=names.EVENT_COUNT, dtype=Int64),
            Field(name=names.MODEL_VERSION, dtype=String),
        ],
        source=FileSource(
            name="none", path=str(folder / "none.parquet"), timestamp_field=names.KNOWN_TIME
        ),
        ttl=timedelta(0),
    )
    wanted = [
        {names.USER_ID: user, names.PERIOD: v.period.name, names.KNOWN_TIME: v.known_time}
        | {name: features_of_interest(v)[name] for name in (names.VEC, names.EVENT_COUNT)}
        | {names.MODEL_VERSION: v.model_version}
        for user in filled.users[:USERS]
        for v in filled.weeks_of[user]
    ]
    rows = pd.DataFrame(wanted)
    # Feast reads the schema of a source when it is applied.
    rows.head(0).to_parquet(folder / "none.parquet")
    store.apply([*entities, view])
    for start in range(0, len(rows), 1000):
        store.write_to_online_store(_VIEW, df=rows.iloc[start : start + 1000])
    return store
