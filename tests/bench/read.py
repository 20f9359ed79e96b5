"""`python -m tests.bench.read`: what GetInterest costs through the whole gateway, against the floor.

The gateway reads rows that Feast wrote into SQLite. The floor is a plain grpc.aio server that
returns an equally long constant. Both are processes of their own, called in turns by one client:
pairs of runs, the order swapped each time. Writes build/bench/read.json.
"""

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

# Feast's SQLite store follows the zone.
os.environ["TZ"] = "UTC"
time.tzset()

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import psutil  # noqa: E402
from driftline.v1 import interest_service_pb2 as pb  # noqa: E402
from driftline.v1 import interest_service_pb2_grpc as pb_grpc  # noqa: E402

from services.core.periods import closed_before  # noqa: E402
from services.core.ranking import ItemStats, neutral_ranker  # noqa: E402
from services.core.records import InterestVector  # noqa: E402
from services.core.schema import DEFAULT_TENANT, Granularity, interest_view  # noqa: E402
from services.store.feast_config import FeastConfig  # noqa: E402
from services.store.features import FeastFeatures  # noqa: E402
from services.store.frames import rows_frame  # noqa: E402
from services.store.layout import Layout  # noqa: E402
from services.store.ports import Catalogue  # noqa: E402
from services.store.rows import features_of_interest  # noqa: E402
from tests.gateway.process import gateway, publish  # noqa: E402

USERS, WIDTH = 2000, 128
PACKAGES = ("driftline-services", "grpcio", "protobuf", "protovalidate", "numpy", "feast")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One server's figures: of one run, or the medians of many."""

    # One call at a time, milliseconds.
    p50_ms: float
    p99_ms: float
    # Calls a second with 16 at once.
    calls_per_s: float
    # CPU seconds of the server process for 1,000 calls, 16 at once.
    cpu_s_per_1000: float


def fill(folder: Path) -> None:
    """Make a data folder: a live model, a small index, a newest vector per user."""
    layout, rng = Layout(folder, 8), np.random.default_rng(7)
    unit_NB = rng.normal(size=(USERS, WIDTH)).astype(np.float32)
    unit_NB /= np.linalg.norm(unit_NB, axis=1, keepdims=True)
    index = Catalogue(
        space_id="",
        model_version="m1",
        generation="g1",
        item_ids=("a", "b"),
        titles=("A", "B"),
        categories=((), ()),
        items_ND=unit_NB[:2],
        stats=ItemStats(share_NW=np.full((2, 2), 0.5, np.float32), first_time_N=np.zeros(2)),
    )
    ranker = neutral_ranker((21.0, 84.0, 420.0), (7.0, 28.0), WIDTH)
    space_id = publish(layout, index, ranker)
    now = datetime.now(UTC)
    features = [
        features_of_interest(
            InterestVector(
                vec_D=vec_D,
                period=closed_before(Granularity.WEEK, now),
                event_count=3,
                model_version="m1",
                known_time=now,
                computed_time=now,
            )
        )
        for vec_D in unit_NB
    ]
    view = interest_view(Granularity.WEEK, space_id)
    store = FeastFeatures(layout, FeastConfig())
    store.apply(DEFAULT_TENANT, space_id)
    users = [f"user-{i}" for i in range(USERS)]
    store.write_online(DEFAULT_TENANT, view, rows_frame(view, users, features, computed_time=now))


@contextlib.contextmanager
def floor(reply: bytes) -> Iterator[tuple[int, int]]:
    """Run the constant server; yields its pid and port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.constant_server", reply.hex()],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


async def measure(pid: int, port: int, calls: int) -> Figures:
    """Call a server: one at a time for latency, then 16 at once for throughput and CPU."""
    server = psutil.Process(pid)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = pb_grpc.InterestServiceStub(channel)

        async def one(i: int) -> None:
            await stub.GetInterest(pb.GetInterestRequest(user_id=f"user-{i % USERS}"), timeout=10)

        for i in range(100):
            await one(i)
        times = []
        for i in range(calls):
            started = time.perf_counter()
            await one(i * 7)
            times.append(time.perf_counter() - started)

        async def client(first: int) -> None:
            for i in range(first, calls, 16):
                await one(i * 7)

        before, started = server.cpu_times(), time.perf_counter()
        await asyncio.gather(*(client(first) for first in range(16)))
        took, after = time.perf_counter() - started, server.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    return Figures(
        p50_ms=1e3 * float(np.quantile(times, 0.5)),
        p99_ms=1e3 * float(np.quantile(times, 0.99)),
        calls_per_s=calls / took,
        cpu_s_per_1000=1e3 * cpu_s / calls,
    )


def medians(runs: list[Figures]) -> Figures:
    """Return the median of each figure."""
    rows = [asdict(run) for run in runs]
    return Figures(**{name: statistics.median(row[name] for row in rows) for name in rows[0]})


def report(ours: list[Figures], peer: list[Figures]) -> dict[str, object]:
    """Return what read.json holds. A ratio is the median of the pairs' ratios, ours to the floor's."""
    ratios = {
        name: statistics.median(
            asdict(a)[name] / asdict(b)[name] for a, b in zip(ours, peer, strict=True)
        )
        for name in asdict(ours[0])
    }
    return {
        "name": "read",
        "what": "GetInterest, newest week, 128 floats, SQLite rows written by Feast",
        "peer_name": "grpc.aio server that returns an equally long constant",
        "ours": asdict(medians(ours)),
        "peer": asdict(medians(peer)),
        "ratio": ratios["p50_ms"],
        "ratios": ratios,
        "pairs": len(ours),
        "runs": {"ours": [asdict(run) for run in ours], "peer": [asdict(run) for run in peer]},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "python": platform.python_version(),
            "load_before": os.getloadavg()[0],
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def compare(pairs: int, calls: int) -> dict[str, object]:
    """Measure both servers in turns."""
    ours: list[Figures] = []
    peer: list[Figures] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        fill(folder)
        with gateway(folder, metrics_port=0) as running:
            target = f"127.0.0.1:{running.port}"
            with grpc.insecure_channel(target) as channel:
                request = pb.GetInterestRequest(user_id="user-0")
                reply = pb_grpc.InterestServiceStub(channel).GetInterest(request)
            with floor(reply.SerializeToString()) as (pid, port):
                for pair in range(pairs):
                    turns = [(running.process.pid, running.port, ours), (pid, port, peer)]
                    for server_pid, server_port, into in turns if pair % 2 else turns[::-1]:
                        into.append(asyncio.run(measure(server_pid, server_port, calls)))
    return report(ours, peer)


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--calls", type=int, default=1000, help="per run and kind")
    parser.add_argument("--out", type=Path, default=Path("build/bench/read.json"))
    args = parser.parse_args()
    found = compare(args.pairs, args.calls)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: found[name] for name in ("ours", "peer", "ratios")}, indent=1))


if __name__ == "__main__":
    main()
