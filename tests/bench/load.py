"""Closed-loop load: so many calls in flight, each answer followed by the next call.

grpc.aio's own client costs as much CPU as a server and would measure itself. These two clients
build each request once and read just enough of the answers: gRPC over HTTP/2, and JSON over
HTTP/1.1. Every answer's size is checked, and a sample is kept for whoever checks the content.
"""

import asyncio
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Answers kept whole in each run.
SAMPLED = 8
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_WINDOW_MAX = 2**31 - 1


@dataclass(slots=True)
class Load:
    """What one run did. Answers that are not OK count as refused and give no latency."""

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    # (number of the request, the answer's message)
    samples: list[tuple[int, bytes]] = field(default_factory=list)


class Loop:
    """Hands out requests in turn and takes answers in, until a run ends."""

    def __init__(self, requests: Sequence[bytes], smallest_answer: int) -> None:
        self._requests, self._smallest = requests, smallest_answer
        self._next = 0
        self.load = Load()
        self.is_over = False
        self.fault: Exception | None = None

    def take(self) -> tuple[int, bytes]:
        number = self._next % len(self._requests)
        self._next += 1
        return number, self._requests[number]

    def give(self, number: int, started: float, message: bytes | None) -> None:
        """Take in an answer; None where the server refused the call."""
        if message is None:
            self.load.refused += 1
            return
        self.load.latencies_s.append(time.perf_counter() - started)
        if len(message) < self._smallest:
            self.fault = ValueError(f"an answer of {len(message)} bytes: {message[:300]!r}")
        if len(self.load.samples) < SAMPLED:
            self.load.samples.append((number, bytes(message)))


class GrpcConnection(asyncio.Protocol):
    """One HTTP/2 connection with `in_flight` calls of one method."""

    def __init__(self, loop: Loop, in_flight: int, path: str, deadline: str = "10S") -> None:
        self._loop, self._in_flight = loop, in_flight
        self._headers = _header_block(path, deadline)
        self._buffer = bytearray()
        self._stream = 1
        # Stream -> (number of the request, when it went out, the answer's bytes so far).
        self._open: dict[int, tuple[int, float, bytearray]] = {}
        # Bytes that we may send, and that we took and did not yet give back.
        self._window, self._taken = 65_535, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = struct.pack(">HIHI", 2, 0, 4, _WINDOW_MAX)  # no push; streams' windows
        transport.write(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, settings)
            + _frame(_WINDOW, 0, 0, struct.pack(">I", _WINDOW_MAX - 65_535))
            + b"".join(self._call() for _ in range(self._in_flight))
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._loop.is_over:
            self._loop.fault = exc or ConnectionError("the server closed the connection")

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at, out = 0, bytearray()
        while len(buffer) - at >= 9:
            size = int.from_bytes(buffer[at : at + 3])
            if len(buffer) - at - 9 < size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9])
            out += self._on_frame(kind, flags, stream, buffer[at + 9 : at + 9 + size])
            at += 9 + size
        del buffer[:at]
        if self._taken > 1 << 20:
            out += _frame(_WINDOW, 0, 0, struct.pack(">I", self._taken))
            self._taken = 0
        if out:
            self._transport.write(bytes(out))

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytearray) -> bytes:
        if kind == _DATA:
            self._open[stream][2].extend(payload)
            self._taken += len(payload)
        elif kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, bytes(payload))
        elif kind == _WINDOW and stream == 0:
            self._window += int.from_bytes(payload)
        elif kind == _GOAWAY:
            self._loop.fault = ConnectionError(f"GOAWAY {bytes(payload)!r}")
        if kind == _RESET or (kind in {_DATA, _HEADERS} and flags & _END_STREAM):
            if stream not in self._open:
                return b""  # a reset after the end
            number, started, answer = self._open.pop(stream)
            # A call that fails ends in trailers without a message.
            is_whole = len(answer) >= 5 and len(answer) - 5 == int.from_bytes(answer[1:5])
            self._loop.give(number, started, bytes(answer[5:]) if is_whole else None)
            if not self._loop.is_over:
                return self._after_answer()
        return b""

    def _after_answer(self) -> bytes:
        """Return what to send when an answer is in: the next call."""
        return self._call()

    def _call(self, started: float | None = None) -> bytes:
        number, request = self._loop.take()
        stream, self._stream = self._stream, self._stream + 2
        self._open[stream] = (number, started or time.perf_counter(), bytearray())
        message = struct.pack(">BI", 0, len(request)) + request
        self._window -= len(message)
        assert self._window > 0, "the server gives no room to send"
        return _frame(_HEADERS, _END_HEADERS, stream, self._headers) + _frame(
            _DATA, _END_STREAM, stream, message
        )


class HttpConnection(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection, one POST of JSON at a time."""

    def __init__(self, loop: Loop, path: str) -> None:
        self._loop, self._path = loop, path
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._call()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._loop.is_over:
            self._loop.fault = exc or ConnectionError("the server closed the connection")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        size = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(self._buffer) - end - 4 < size:
            return
        is_ok = head.startswith(b"http/1.1 200")
        body = bytes(self._buffer[end + 4 : end + 4 + size])
        if not is_ok:
            self._loop.fault = ValueError(f"not OK: {body[:300]!r}")
        self._loop.give(self._number, self._started, body if is_ok else None)
        self._buffer.clear()
        if not self._loop.is_over:
            self._call()

    def _call(self) -> None:
        self._number, request = self._loop.take()
        self._started = time.perf_counter()
        self._transport.write(
            b"POST %b HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % (self._path.encode(), len(request)) + request
        )


async def run(
    connect: Callable[[Loop], Sequence[asyncio.Protocol]],
    port: int,
    requests: Sequence[bytes],
    *,
    seconds: float,
    smallest_answer: int,
    on_start: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
) -> Load:
    """Load a server and return what it did in `seconds`, after a tenth of that to warm up.

    Args:
        connect: makes the connections of a loop.
        port: of the server on 127.0.0.1.
        requests: messages or bodies, sent in turns.
        seconds: how long to measure.
        smallest_answer: bytes; a shorter answer is a fault.
        on_start: called when measuring starts, as `on_end` when it ends: reads CPU clocks.
        on_end: see `on_start`.

    Raises:
        ConnectionError, ValueError: the server closed a connection, or answered something else.
    """
    state, event_loop = Loop(requests, smallest_answer), asyncio.get_running_loop()
    transports = [
        (await event_loop.create_connection(lambda made=made: made, "127.0.0.1", port))[0]
        for made in connect(state)
    ]
    await asyncio.sleep(seconds / 10)
    state.load = Load()
    on_start()
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    on_end()
    load = state.load
    load.seconds = time.perf_counter() - started
    state.is_over, state.load = True, Load()
    for transport in transports:
        transport.abort()
    if state.fault is not None:
        raise state.fault
    return load


def grpc_connections(
    path: str, count: int, in_flight: int
) -> Callable[[Loop], list[asyncio.Protocol]]:
    """Return what makes `count` connections with `in_flight` calls of a method on each."""
    return lambda loop: [GrpcConnection(loop, in_flight, path) for _ in range(count)]


def http_connections(path: str, count: int) -> Callable[[Loop], list[asyncio.Protocol]]:
    """Return what makes `count` connections, one call on each."""
    return lambda loop: [HttpConnection(loop, path) for _ in range(count)]


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _header_block(path: str, deadline: str) -> bytes:
    """Return HPACK: two fields of the static table, then literals that are not indexed."""

    def text(value: str) -> bytes:
        assert len(value) < 127
        return bytes([len(value)]) + value.encode()

    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + text(path),
            b"\x01" + text("bench"),  # :authority
            b"\x0f\x10" + text("application/grpc"),  # content-type
            b"\x00" + text("te") + text("trailers"),
            b"\x00" + text("grpc-timeout") + text(deadline),
        )
    )
