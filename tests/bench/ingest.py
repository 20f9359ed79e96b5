"""`python -m tests.bench.ingest`: RecordEvents, 500 events a call, each answered after its commit.

Eight clients in closed loops against 1, 2 and 4 gateway processes; the peer appends the same batches with
`write_deltalake` in a loop, in one process. Writes build/bench/ingest.json, ingest-2.json, ingest-4.json.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import polars as pl
from deltalake import write_deltalake
from driftline.v1 import event_pb2
from driftline.v1 import event_service_pb2 as pb

from services.core.schema import DEFAULT_TENANT
from services.gateway.answers import Instants
from services.gateway.translate.events import events_from_pb
from services.store import delta
from services.store.event_frames import stamp
from services.store.layout import Layout
from tests.bench.page import write_page
from tests.bench.pairs import OUT, PACKAGES, Bench, Goal, in_pairs, line, report, versions, write
from tests.bench.servers import Server
from tests.bench.work import MORE_PACKAGES, also
from tests.gateway.process import gateway

METHOD = "/driftline.v1.EventService/RecordEvents"
EVENTS_A_CALL, CLIENTS, REQUESTS = 500, 8, 32
PROCESSES = (1, 2, 4)
# Of our slowest calls to one commit of the peer.
SLOWEST = 4.0


@dataclass(frozen=True, kw_only=True)
class Appends:
    """One run of one side."""

    rows_per_s: float
    # From a call, or an append, to its acknowledgement.
    p50_ms: float
    p99_ms: float
    # Of the processes that write.
    rows_per_cpu_s: float


@dataclass(kw_only=True)
class Gateways:
    """Gateway processes on one data folder, and what clients were told that is committed."""

    layout: Layout
    servers: list[Server]
    requests: Sequence[bytes]
    seconds: float
    acknowledged: int = 0
    failures: list[str] = field(default_factory=list)

    def run(self) -> Appends:
        """Send from eight clients for some seconds."""
        latencies: list[list[float]] = [[] for _ in range(CLIENTS)]
        cpu_s, started = self._cpu_s(), time.perf_counter()
        until = started + self.seconds
        clients = [
            threading.Thread(target=self._client, args=(number, latencies[number], until))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        wall_s, cpu_s = time.perf_counter() - started, self._cpu_s() - cpu_s
        calls = np.concatenate(latencies)
        self.acknowledged += len(calls) * EVENTS_A_CALL
        return appends(calls, wall_s, cpu_s)

    def _client(self, number: int, latencies_s: list[float], until: float) -> None:
        server = self.servers[number % len(self.servers)]
        own = (("grpc.use_local_subchannel_pool", 1),)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=own) as channel:
            call = channel.unary_unary(METHOD)
            for request in islice(cycle(self.requests), number, None):
                before = time.perf_counter()
                if before >= until:
                    return
                try:
                    call(request, timeout=30)
                except grpc.RpcError as error:
                    self.failures.append(str(error.code()))
                    continue
                latencies_s.append(time.perf_counter() - before)

    def committed(self) -> int:
        """Return the rows in all processes' logs."""
        writers = [f"gateway-{n}" for n in range(len(self.servers))]
        logs = [self.layout.inbox_dir(DEFAULT_TENANT, writer) / "events" for writer in writers]
        return sum(rows for log in logs for rows, _ in delta.files(log).values())

    def _cpu_s(self) -> float:
        return sum(server.cpu_s() for server in self.servers)


def appends(latencies_s: np.ndarray, wall_s: float, cpu_s: float) -> Appends:
    """Return the figures of calls of 500 rows each."""
    rows = len(latencies_s) * EVENTS_A_CALL
    p50, p99 = np.percentile(latencies_s, [50, 99]) * 1e3
    return Appends(
        rows_per_s=rows / wall_s, p50_ms=p50, p99_ms=p99, rows_per_cpu_s=rows / cpu_s
    )  # fmt: skip


@contextmanager
def gateways(folder: Path, processes: int, seconds: float) -> Iterator[Gateways]:
    """Run so many gateways, each with its own inbox log, on one data folder."""
    data = folder / "data"
    data.mkdir()
    with ExitStack() as stack:
        servers = []
        for number in range(processes):
            # Each keeps its port file beside its own way to the folder.
            way = folder / f"process-{number}"
            way.mkdir()
            (way / "data").symlink_to(data, target_is_directory=True)
            process = stack.enter_context(
                gateway(way / "data", writer=f"gateway-{number}", metrics_port=0)
            )
            servers.append(Server(pid=process.process.pid, port=process.port))
        yield Gateways(
            layout=Layout(data, 8), servers=servers, requests=requests(), seconds=seconds
        )


def requests() -> list[bytes]:
    """Return calls of 500 events each, no event twice."""
    rng, now = np.random.default_rng(0), datetime.now(UTC)
    made = []
    for call in range(REQUESTS):
        request = pb.RecordEventsRequest()
        for row in range(EVENTS_A_CALL):
            event = request.events.add(
                event_id=f"bench-{call:04}-{row:04}",
                user_id=f"user-{rng.integers(2_000)}",
                item_id=f"product-{rng.integers(3_400)}",
                kind=event_pb2.EVENT_KIND_PURCHASE,
                value=float(rng.integers(1, 5)),
            )
            event.event_time.FromDatetime(now - timedelta(seconds=int(rng.integers(1, 500_000))))
        made.append(request.SerializeToString())
    return made


def frames(given: Sequence[bytes]) -> list[pl.DataFrame]:
    """Return the rows that the gateway makes of calls, with their ingest time."""
    now = datetime.now(UTC)
    instants = Instants(event_time=now, ingest_time=now)
    parsed = [pb.RecordEventsRequest.FromString(each) for each in given]
    return [stamp("events", events_from_pb(each, instants), now) for each in parsed]


def write_in_a_loop(batches: Sequence[pl.DataFrame], table: Path, seconds: float) -> Appends:
    """Append batch after batch with write_deltalake; the table is made before."""
    write_deltalake(str(table), batches[0].head(0))
    latencies_s: list[float] = []
    cpu_s, started = time.process_time(), time.perf_counter()
    for batch in cycle(batches):
        before = time.perf_counter()
        if before >= started + seconds:
            break
        write_deltalake(str(table), batch, mode="append")
        latencies_s.append(time.perf_counter() - before)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
    return appends(np.array(latencies_s), wall_s, cpu_s)


def measure(folder: Path, processes: int, pairs: int, seconds: float) -> dict[str, Any]:
    """Return the result for so many gateway processes."""
    batches = frames(requests())
    tables = (folder / f"peer-{n}" for n in range(10**6))
    bench = Bench(
        name="ingest" if processes == 1 else f"ingest-{processes}",
        what=f"RecordEvents, {EVENTS_A_CALL} a call, {CLIENTS} clients, {processes} gateway process(es)",
        peer_name="write_deltalake, the same batches in a loop, one process",
        goals=(Goal(figure="rows_per_s", at_least=0.8),),
        notes=(
            "ours is durable before it answers (file and log are synced); write_deltalake syncs nothing",
            "clients run on the same cores as the gateways; CPU is the gateways' and the loop's",
        ),
    )
    with gateways(folder, processes, seconds) as running:
        running.run()  # connections, first commits
        found = report(
            bench,
            *in_pairs(running.run, lambda: write_in_a_loop(batches, next(tables), seconds), pairs),
        )
        committed, acknowledged = running.committed(), running.acknowledged
        failures = running.failures
    found["versions"] = versions(PACKAGES + MORE_PACKAGES)
    found |= {"committed_rows": committed, "acknowledged_rows": acknowledged, "failures": failures}
    slowest = found["ours"]["p99_ms"] / found["peer"]["p50_ms"]
    found["p99_in_commits"] = slowest
    found = also(
        found, reached=slowest < SLOWEST, goal=f"p99 {slowest:.2f} of one commit < {SLOWEST:g}"
    )
    return also(
        found,
        reached=not failures and committed == acknowledged,
        goal=f"no failed call ({len(failures)}), {acknowledged} rows acknowledged, {committed} there",
    )


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    for processes in PROCESSES:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), processes, args.pairs, args.seconds)
        write(found, args.out)
        print(line(found), *found["notes"], sep="\n  ")
    print(write_page(args.out))


if __name__ == "__main__":
    main()
