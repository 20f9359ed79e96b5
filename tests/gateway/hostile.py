"""What hostile clients do to a gateway, and what others notice of it: memory, answers, refusals."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
from driftline.v1 import interest_service_pb2 as it
from driftline.v1 import recommendation_service_pb2 as rec
from driftline.v1 import recommendation_service_pb2_grpc as rec_grpc

from services.store.layout import Layout
from tests.gateway.process import Process, gateway, publish
from tests.gateway.world import NOW, catalogue, ranker
from tests.runtime.raw_http2 import CANCEL, PING, PREFACE, RESET, SETTINGS, Raw, frame

RECOMMEND = "/driftline.v1.RecommendationService/RecommendItems"
EXPORT = "/driftline.v1.RecommendationService/ExportRecommendations"
BATCH = "/driftline.v1.InterestService/BatchGetInterests"
# A call that takes longer has waited for the attack; with the machine's other work, a few take seconds.
PATIENCE_S = 30.0
# Unseen, where too many wait; by name, where too many are served.
REFUSALS = {grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED}


@dataclass
class Watch:
    """Others' calls and the gateway's memory while something goes on."""

    running: Process
    # MiB before anything went on, and the most since.
    before: float = 0.0
    most: float = 0.0
    answered: int = 0
    # Others' calls that were refused early; and those that failed otherwise.
    refused: int = 0
    failed: list[str] = field(default_factory=list)
    has_recovered: bool = False

    @property
    def growth(self) -> float:
        """Return how much memory was added at the most, MiB."""
        return self.most - self.before

    def losses(self, most_growth: float) -> int:
        """Return how much went wrong: a call of others that failed, or memory beyond its bound."""
        return (
            len(self.failed)
            + (self.growth > most_growth)
            + (self.running.process.poll() is not None)
        )

    def call(self) -> None:
        """Make one call as a client of good manners does: on a connection of its own."""
        target = f"127.0.0.1:{self.running.port}"
        with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                rec_grpc.RecommendationServiceStub(channel).RecommendItems(
                    rec.RecommendItemsRequest(user_id="u"), timeout=PATIENCE_S, wait_for_ready=True
                )
            except grpc.RpcError as error:
                if error.code() in REFUSALS:
                    self.refused += 1
                else:
                    self.failed.append(f"{error.code().name}: {error.details()}")
                return False
            self.answered += 1
            return True

    def recover(self) -> None:
        """Call until ten calls in a row are answered; note whether that came to pass in time."""
        in_a_row, give_up = 0, time.monotonic() + PATIENCE_S
        while in_a_row < 10 and time.monotonic() < give_up:
            in_a_row = in_a_row + 1 if self.call() else 0
        self.has_recovered = in_a_row == 10

    def rss(self) -> float:
        """Return the gateway's memory now, MiB."""
        return psutil.Process(self.running.process.pid).memory_info().rss / 2**20


@contextmanager
def served(folder: Path, **settings: object) -> Iterator[Process]:
    """Run a gateway with something to recommend."""
    publish(Layout(folder / "data", 8), catalogue(), ranker())
    with gateway(folder / "data", now=NOW, metrics_port=0, **settings) as running:
        yield running


@contextmanager
def watching(running: Process) -> Iterator[Watch]:
    """Call as others would, again and again, and look at memory, until the end of the block."""
    watch, over = Watch(running), threading.Event()
    for _ in range(20):  # whatever is made once is made now
        watch.call()
    watch.before = watch.most = watch.rss()

    def look() -> None:
        while not over.wait(0.02):
            with suppress(psutil.Error):
                watch.most = max(watch.most, watch.rss())

    def others() -> None:
        while not over.wait(0.05):
            watch.call()

    threads = [threading.Thread(target=each) for each in (look, others)]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        over.set()
        for thread in threads:
            thread.join()
        watch.recover()


def nothing_said(port: int) -> Raw:
    """Connect and say nothing."""
    return Raw(port, greets=False)


def half_a_preface(port: int) -> Raw:
    """Say half of HTTP/2's first words."""
    raw = Raw(port, greets=False)
    raw.send(PREFACE[:11])
    return raw


def half_a_header(port: int) -> Raw:
    """Begin a frame of headers and stop in the middle of it."""
    raw = Raw(port)
    raw.send(frame(1, 4, 1, b"x" * 200)[:60])
    return raw


def half_messages(port: int, calls: int = 16, size: int = 30 << 20) -> Raw:
    """Begin calls that say they bring 30 MiB, and bring what a stream's first window lets through."""
    raw = Raw(port)
    for _ in range(calls):
        raw.half_a_message(RECOMMEND, size, 3_000)
    return raw


def ping_flood(port: int, count: int) -> None:
    """Ping without end; returns when the server has had enough."""
    _until_thrown_out(port, lambda raw: raw.send(frame(PING, 0, 0, bytes(8)) * 100), count // 100)


def settings_flood(port: int, count: int) -> None:
    """Change settings without end, none of the answers read."""
    _until_thrown_out(port, lambda raw: raw.send(frame(SETTINGS, 0, 0, b"") * 100), count // 100)


def rapid_reset(port: int, count: int) -> None:
    """Begin calls and reset each at once (CVE-2023-44487)."""

    def hundred(raw: Raw) -> None:
        for _ in range(100):
            stream = raw.call(RECOMMEND)
            raw.send(frame(RESET, 0, stream, CANCEL.to_bytes(4)))

    _until_thrown_out(port, hundred, count // 100)


def _until_thrown_out(port: int, send: Callable[[Raw], None], times: int) -> None:
    raw = Raw(port)
    with suppress(OSError):
        for _ in range(times):
            send(raw)
    raw.close()


def never_reads(port: int, users: int, streams: int) -> Raw:
    """Ask for long streams and read none of them: no window is ever given back."""
    raw = Raw(port)
    request = rec.ExportRecommendationsRequest(user_ids=[f"user-{n}" for n in range(users)])
    message = request.SerializeToString()
    for _ in range(streams):
        raw.whole_message(EXPORT, message)
    return raw


def one_call(port: int, path: str, message: bytes) -> tuple[str, float]:
    """Send bytes as one call; return its status and how long that took, seconds."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        started = time.perf_counter()
        try:
            channel.unary_unary(path)(message, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code().name, time.perf_counter() - started
        return "OK", time.perf_counter() - started


def batch_of(users: int) -> bytes:
    """Return a request for the interests of so many users."""
    return it.BatchGetInterestsRequest(
        user_ids=[f"user-{n:07}" for n in range(users)]
    ).SerializeToString()


def await_closed(connections: list[Raw]) -> None:
    """Wait until the server has closed each.

    Raises:
        TimeoutError: one stays open.
    """
    for raw in connections:
        raw.frames_until_closed(PATIENCE_S)
        raw.close()
