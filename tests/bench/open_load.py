"""Open-loop load: calls go out by the clock, whether the answers before have come or not.

An answer's time is counted from the instant at which its call was due, so that a generator that is late hides
nothing. A call that ends without a message was refused.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.bench.load import GrpcConnection, Loop

# The clock is looked at this often; calls that are due by then go out together.
TICK_S = 0.001


@dataclass(kw_only=True)
class Phase:
    """What came of calls at one rate. Instants are of one clock."""

    rate: float
    started: float = 0.0
    seconds: float = 0.0
    sent: int = 0
    # Of each answer that came before the phase ended: when it was due, and how long it took.
    due: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    refused_due: list[float] = field(default_factory=list)

    @property
    def offered_per_s(self) -> float:
        """Return the rate at which calls really went out."""
        return self.sent / self.seconds

    @property
    def answered_per_s(self) -> float:
        """Return good answers a second."""
        return len(self.took_s) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """Return a quantile of the answers' times."""
        return 1e3 * float(np.quantile(self.took_s, share))


class PacedLoop(Loop):
    """Takes answers into the phase that is on."""

    phase: Phase

    def give(self, number: int, started: float, message: bytes | None) -> None:
        """Take in an answer; None where the server refused the call."""
        phase = self.phase
        # Of a phase before.
        if started < phase.started:
            return
        if message is None:
            phase.refused_due.append(started)
            return
        phase.due.append(started)
        phase.took_s.append(time.perf_counter() - started)
        if len(message) < self._smallest:
            self.fault = ValueError(f"an answer of {len(message)} bytes")


class PacedConnection(GrpcConnection):
    """A connection that calls when it is told to."""

    def __init__(self, loop: Loop, path: str, deadline: str = "5S") -> None:
        super().__init__(loop, 0, path, deadline)

    def call_at(self, due: Sequence[float]) -> None:
        """Send a call for each instant at which one was due."""
        self._transport.write(b"".join(map(self._call, due)))

    def _after_answer(self) -> bytes:
        return b""


class Generator:
    """Connections to one server. Used within one event loop."""

    def __init__(self, requests: Sequence[bytes], smallest_answer: int) -> None:
        self._loop = PacedLoop(requests, smallest_answer)
        self._connections: list[PacedConnection] = []
        self._transports: list[asyncio.BaseTransport] = []

    async def connect(self, port: int, path: str, connections: int) -> None:
        """Connect to a server on this machine."""
        self._loop.phase = Phase(rate=0.0)
        for _ in range(connections):
            made = PacedConnection(self._loop, path)
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda made=made: made, "127.0.0.1", port
            )
            self._connections.append(made)
            self._transports.append(transport)

    async def run(self, rate: float, seconds: float) -> Phase:
        """Offer calls at a rate and return what came of them.

        Raises:
            ConnectionError, ValueError: the server closed a connection, or answered something else.
        """
        phase = self._loop.phase = Phase(rate=rate)
        count = len(self._connections)
        phase.started = started = time.perf_counter()
        while (now := time.perf_counter()) < started + seconds:
            phase.seconds = now - started
            due_by_now = int(phase.seconds * rate)
            due = [started + number / rate for number in range(phase.sent, due_by_now)]
            phase.sent = max(phase.sent, due_by_now)
            for at, connection in enumerate(self._connections):
                if mine := due[at::count]:
                    connection.call_at(mine)
            await asyncio.sleep(TICK_S)
            if self._loop.fault is not None:
                raise self._loop.fault
        # Answers that come later are of no phase.
        self._loop.phase = Phase(rate=0.0, started=float("inf"))
        return phase

    def close(self) -> None:
        """Leave."""
        self._loop.is_over = True
        for transport in self._transports:
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
