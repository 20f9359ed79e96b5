"""`python -m tests.bench.encode_serve`: small requests of distinct titles to the encoder's Ray Serve deployment.

16 clients, each with a channel and one call of 4 to 8 titles at a time, against sentence-transformers behind a
plain grpc.aio server. Each turn both sides answer the same calls, and no title is asked of a side twice.
Writes build/bench/encode-serve.json.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import grpc
import numpy as np
import psutil
from driftline.v1 import encoder_service_pb2 as pb
from driftline.v1 import encoder_service_pb2_grpc
from driftline.v1.event_pb2 import Item

from services.core.model import Model
from services.core.pooling import PoolingConfig
from services.core.ranker import neutral_ranker
from services.core.records import F32
from services.core.schema import DEFAULT_TENANT
from services.core.tower import BackboneSpec, ItemTower, space_id_of
from services.runtime.cluster import start_cluster
from services.runtime.compute_token import call_metadata
from services.runtime.settings import Settings
from services.store.backbone import load_backbone
from services.store.layout import Layout
from services.store.model_folder import save_model
from services.store.models import FolderRegistry
from tests.bench.encode import least_cosines, titles
from tests.bench.page import write_page
from tests.bench.pairs import (
    OUT,
    PACKAGES,
    Bench,
    Figures,
    Goal,
    in_pairs,
    line,
    report,
    versions,
    write,
)
from tests.bench.processes import Servers
from tests.bench.servers import Server, clean_environment, stop
from tests.bench.work import MORE_PACKAGES, also

CLIENTS = 16
FEWEST, MOST = 4, 8
# Threads that the peer may encode with; the faster is taken.
POOLS = (1, 2)
# Calls that a side answers before it is measured, and by which the peer's threads are chosen.
WARM_CALLS = 48
Precision = Literal["float32", "bf16", "int8"]
LEAST_COSINE = {"float32": 0.9999, "bf16": 0.999, "int8": 0.99}
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the clients saw of some calls."""

    seconds: float
    latency_s: list[float]
    # By call, in the order asked.
    vectors: list[F32]


@dataclass(kw_only=True)
class Side:
    """A server, and what it answered by part."""

    server: Server
    metadata: Metadata = ()
    made: dict[int, F32] = field(default_factory=dict)

    def run(self, part: tuple[int, Sequence[pb.EncodeItemsRequest]]) -> Figures:
        """Have a part answered."""
        number, calls = part
        cpu_s = self.server.cpu_s()
        found = asyncio.run(ask(self.server.port, calls, self.metadata))
        cpu_s = self.server.cpu_s() - cpu_s
        self.made[number] = np.concatenate(found.vectors)
        p50, p99 = np.percentile(found.latency_s, (50, 99)) * 1e3
        return Figures(
            calls_per_s=len(calls) / found.seconds,
            cpu_ms_per_call=1e3 * cpu_s / len(calls),
            p50_ms=float(p50),
            p99_ms=float(p99),
        )


async def ask(port: int, calls: Sequence[pb.EncodeItemsRequest], metadata: Metadata) -> Answers:
    """Have calls answered by 16 clients; each takes the next call when its last is answered."""
    vectors: list[F32] = [np.empty((0, 0), np.float32)] * len(calls)
    latency_s: list[float] = []
    left = iter(enumerate(calls))

    async def client(stub: Any) -> None:
        for number, call in left:
            started = time.perf_counter()
            answer = await stub.EncodeItems(call, timeout=60, metadata=metadata)
            latency_s.append(time.perf_counter() - started)
            made = np.frombuffer(answer.vectors.values, "<f4")
            vectors[number] = made.reshape(-1, answer.vectors.width)

    async with Channels(port) as stubs:
        started = time.perf_counter()
        await asyncio.gather(*(client(stub) for stub in stubs))
        seconds = time.perf_counter() - started
    assert [len(made) for made in vectors] == [len(call.items) for call in calls]
    return Answers(seconds=seconds, latency_s=latency_s, vectors=vectors)


class Channels:
    """A connected channel and stub for each client; gRPC would share one connection otherwise."""

    def __init__(self, port: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(CLIENTS)
        ]

    async def __aenter__(self) -> list[Any]:
        await asyncio.gather(*(channel.channel_ready() for channel in self._channels))
        return [encoder_service_pb2_grpc.EncoderServiceStub(each) for each in self._channels]

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))


def calls_of(texts: Sequence[str], seed: int = 0) -> list[pb.EncodeItemsRequest]:
    """Return calls of 4 to 8 titles, each title once; what is left over is in none."""
    rng, calls, at = np.random.default_rng(seed), [], 0
    while len(texts) - at >= MOST:
        size = int(rng.integers(FEWEST, MOST + 1))
        items = [Item(item_id=str(at + n), title=texts[at + n]) for n in range(size)]
        calls.append(pb.EncodeItemsRequest(items=items))
        at += size
    return calls


def parts_of(
    texts: Sequence[str], pairs: int
) -> tuple[list[pb.EncodeItemsRequest], list[tuple[int, list[pb.EncodeItemsRequest]]]]:
    """Return calls to warm up with, and the numbered parts; no title is in two of them."""
    calls = calls_of(texts)
    warm, rest = calls[:WARM_CALLS], calls[WARM_CALLS:]
    size = len(rest) // pairs
    return warm, [(n, rest[n * size : (n + 1) * size]) for n in range(pairs)]


@contextmanager
def plain_server(threads: int) -> Iterator[Server]:
    """Run the peer."""
    command = [sys.executable, "-m", "tests.bench.encode_server", str(threads)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment())
    try:
        assert process.stdout is not None
        yield Server(pid=process.pid, port=int(process.stdout.readline()))
    finally:
        stop(process)


def model_of(spec: BackboneSpec) -> Model:
    """Return a model whose item vectors are the backbone's own: both sides then answer the same."""
    tower = ItemTower(
        mean_B=np.zeros(spec.width, np.float32), projection_BD=np.eye(spec.width, dtype=np.float32)
    )
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return Model(
        model_version="m1",
        space_id=space_id_of(spec, tower),
        backbone=spec,
        tower=tower,
        pooling=PoolingConfig(),
        ranker=neutral_ranker((21.0, 84.0, 420.0), (7.0, 28.0), spec.width),
        trained_time=when,
        trained_until=when,
        data_sha256="1" * 64,
        metrics={},
    )


@dataclass(frozen=True, kw_only=True)
class ClusterServer(Servers):
    """A cluster's processes; knows what each kind of them took."""

    def cpu_s_by_name(self) -> dict[str, float]:
        """Return CPU seconds so far, by the process's name."""
        found: dict[str, float] = {}
        for pid in self.pids:
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                times = process.cpu_times()
                name = process.name()
                found[name] = found.get(name, 0.0) + times.user + times.system
        return found

    def cpu_s(self) -> float:
        """Return CPU seconds of all of them so far."""
        return sum(self.cpu_s_by_name().values())


@contextmanager
def deployment(folder: Path, precision: Precision) -> Iterator[Side]:
    """Run the deployment as `driftline up` does, one torch thread a replica."""
    settings = Settings(
        data_dir=folder / "data", serve_grpc_port=0, serve_http_port=0, compute_threads=1,
        encoder_bf16=precision == "bf16",
    )  # fmt: skip
    model = model_of(load_backbone(is_int8=precision == "int8").spec)
    registry = FolderRegistry(Layout(settings.data_dir, settings.bucket_count))
    registry.add(DEFAULT_TENANT, str(folder / "model"), save_model(folder / "model", model))
    registry.promote(DEFAULT_TENANT, model.model_version)
    cluster = start_cluster(settings, folder / "logs")
    try:
        server = ClusterServer(
            pid=cluster.pid, port=cluster.settings.serve_grpc_port, pids=tuple(cluster.processes())
        )
        yield Side(server=server, metadata=call_metadata("encoder", cluster.settings.compute_token))
    finally:
        cluster.stop()


def fastest(sides: dict[int, Side], warm: Sequence[pb.EncodeItemsRequest]) -> int:
    """Warm the peers up, and return the number of threads that answers most calls a second."""
    for side in sides.values():
        side.run((-1, warm[: CLIENTS + 1]))
    rates = {threads: side.run((-1, warm)).calls_per_s for threads, side in sides.items()}
    return max(rates, key=lambda threads: rates[threads])


def measure(
    texts: Sequence[str], source: str, pairs: int, precision: Precision, pools: Sequence[int]
) -> dict[str, Any]:
    """Return the result."""
    warm, parts = parts_of(texts, pairs)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ours = stack.enter_context(deployment(Path(folder), precision))
        ours.run((-1, warm))
        with ExitStack() as peers:
            tried = {n: Side(server=peers.enter_context(plain_server(n))) for n in pools}
            threads = fastest(tried, warm)
        peer = Side(server=stack.enter_context(plain_server(threads)))
        peer.run((-1, warm))
        turns = {id(side): iter(parts) for side in (ours, peer)}
        before = ours.server.cpu_s_by_name()
        runs = in_pairs(
            lambda: ours.run(next(turns[id(ours)])), lambda: peer.run(next(turns[id(peer)])), pairs
        )
        after = ours.server.cpu_s_by_name()
    found = judged(ours, peer, runs, precision, (threads, tuple(pools)), f"distinct {source}")
    # While the peer ran too: what idles is in it.
    return found | {"cluster_cpu_s": {name: after[name] - before.get(name, 0.0) for name in after}}


def judged(
    ours: Side,
    peer: Side,
    runs: tuple[list[Figures], list[Figures]],
    precision: Precision,
    threads: tuple[int, Sequence[int]],
    source: str,
) -> dict[str, Any]:
    """Return the result of runs, held to the peer's vectors too."""
    for side in (ours, peer):
        side.made.pop(-1, None)
    near = least_cosines(ours.made, peer.made)
    bench = Bench(
        name="encode-serve",
        what=f"{CLIENTS} clients, {FEWEST} to {MOST} distinct titles a call, cold cache, CPU, {precision}",
        peer_name=f"sentence-transformers behind grpc.aio, no batching, {threads[0]} threads (best of {threads[1]})",
        goals=(Goal(figure="calls_per_s", at_least=3.0),),
        notes=(
            f"{near['texts']} {source}, each asked once of each side, in {len(runs[0])} parts",
            "one torch thread a call that is encoded; the deployment's CPU is that of the whole cluster",
            "float32 is the deployment's default; bf16 is DRIFTLINE_ENCODER_BF16; the peer's default is float32",
        ),
    )
    found = report(bench, *runs)
    found |= {"cosine_to_float32": near, "versions": versions(PACKAGES + MORE_PACKAGES)}
    least = LEAST_COSINE[precision]
    said = f"least cosine to the peer's float32 {near['least']:.4f} >= {least}"
    return also(found, reached=near["least"] >= least, goal=said)


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--texts", type=int, default=6_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--precision", choices=tuple(LEAST_COSINE), default="bf16")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    texts, source = titles(args.texts)
    found = measure(texts, source, args.pairs, args.precision, POOLS)
    write(found, args.out)
    print(line(found), *found["notes"], sep="\n  ")
    for name in ("ours", "peer"):
        side = found[name]
        print(
            f"  {name}: {side['calls_per_s']:.1f} calls/s, p50 {side['p50_ms']:.0f}, p99 {side['p99_ms']:.0f} ms,"
            f" {side['cpu_ms_per_call']:.1f} CPU ms a call"
        )
    busiest = sorted(found["cluster_cpu_s"].items(), key=lambda item: -item[1])[:6]
    print("  cluster, CPU s: " + ", ".join(f"{name} {cpu_s:.1f}" for name, cpu_s in busiest))
    print(write_page(args.out))


if __name__ == "__main__":
    main()
