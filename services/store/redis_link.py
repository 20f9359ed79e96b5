"""One connection to Redis that every call of an event loop shares.

Commands of one turn of the loop leave in one packet, and answers come back in order, so a read
costs a future and no connection of its own: a fifth of the CPU of redis-py's own asyncio client
(`tests/bench/reads.py`). redis-py still reads the URL and makes the TLS context.

A server that was found silent or away is tried again by one call at a time, now and then; the
others are told at once, so that no caller waits where nobody answers.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import hiredis
from redis.asyncio.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection


class RedisLinkError(Exception):
    """The server cannot be reached, does not answer in time, or refuses a command."""


class RedisRefusal(RedisLinkError):
    """The server answers, and refuses a command."""


@dataclass(slots=True)
class _Pending:
    """Commands that went out together."""

    count: int
    # In the loop's time.
    deadline: float
    future: "asyncio.Future[list[Any]]"
    answers: list[Any] = field(default_factory=list)


class RedisLink:
    """Connects at the first call, and again at the next call after the connection broke."""

    def __init__(self, redis_url: str, *, timeout_s: float, retry_s: float = 0.5) -> None:
        """Open nothing yet.

        Args:
            redis_url: as redis-py reads it (redis://, rediss://, unix://).
            timeout_s: the longest a connection may take, and an answer.
            retry_s: how long a server that did not answer is left alone.
        """
        pool: Any = ConnectionPool.from_url(redis_url)
        # Never connected: it holds what the URL says.
        self._target = pool.make_connection()
        self._timeout_s, self._retry_s = timeout_s, retry_s
        self._wire: _Wire | None = None
        # What connects now; every call that needs it waits for the same one.
        self._attempt: asyncio.Task[_Wire] | None = None
        # Why the last attempt failed, or the connection was left; empty where it was not.
        self._why = ""
        # In the loop's time.
        self._retry_at = 0.0

    async def call(self, commands: bytes, count: int) -> list[Any]:
        """Send `count` packed commands and return their answers in order.

        Raises:
            RedisLinkError: see the class. What was sent may have been carried out.
        """
        wire = self._wire
        if wire is None or not wire.is_open:
            wire = await self._connected()
        return await wire.send(commands, count)

    async def close(self) -> None:
        """Close the connection; calls under way fail."""
        if self._attempt is not None:
            self._attempt.cancel()
        if self._wire is not None:
            self._wire.close("was closed")

    async def _connected(self) -> "_Wire":
        if self._attempt is None:
            loop = asyncio.get_running_loop()
            if self._why and loop.time() < self._retry_at:
                raise RedisLinkError(self._why)
            self._attempt = loop.create_task(self._try())
            self._attempt.add_done_callback(self._tried)
        elif self._why:
            raise RedisLinkError(self._why)
        # One caller that goes away must not take the connection from the others.
        return await asyncio.shield(self._attempt)

    async def _try(self) -> "_Wire":
        try:
            async with asyncio.timeout(self._timeout_s):
                self._wire = await self._connect()
        except TimeoutError:
            raise RedisLinkError(f"no connection in {self._timeout_s:g} s") from None
        except OSError as error:
            raise RedisLinkError(str(error)) from error
        return self._wire

    def _tried(self, attempt: "asyncio.Task[_Wire]") -> None:
        self._attempt = None
        if attempt.cancelled():
            return
        error = attempt.exception()
        if error is None:
            self._why = ""
        else:
            self._leave_alone(str(error))

    def _leave_alone(self, why: str) -> None:
        self._why = why
        self._retry_at = asyncio.get_running_loop().time() + self._retry_s

    async def _connect(self) -> "_Wire":
        loop, target = asyncio.get_running_loop(), self._target
        wire = _Wire(loop, self._timeout_s, self._leave_alone)
        if isinstance(target, UnixDomainSocketConnection):
            await loop.create_unix_connection(lambda: wire, target.path)
        else:
            context = target.ssl_context.get() if isinstance(target, SSLConnection) else None
            await loop.create_connection(lambda: wire, target.host, target.port, ssl=context)
        try:
            if target.password:
                who = [target.username] if target.username else []
                await wire.send(packed("AUTH", *who, target.password), 1)
            if target.db:
                await wire.send(packed("SELECT", str(target.db)), 1)
            # The system accepts connections for a server that is stopped. Any answer will do: it
            # may not allow us this command.
            with suppress(RedisRefusal):
                await wire.send(packed("PING"), 1)
        except BaseException:
            wire.close("was not let in")
            raise
        return wire


class _Wire(asyncio.Protocol):
    """One connection. Its answers come in the order of its commands."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout_s: float, overdue: Callable[[str], None]
    ) -> None:
        self._loop, self._timeout_s, self._overdue = loop, timeout_s, overdue
        self._transport: asyncio.WriteTransport | None = None
        self._reader = hiredis.Reader()
        self._pending: deque[_Pending] = deque()
        self._out: list[bytes] = []
        self._watch: asyncio.TimerHandle | None = None
        self.is_open = False

    def connection_made(self, transport: Any) -> None:
        self._transport, self.is_open = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(str(exc) if exc else "the connection broke")

    def send(self, commands: bytes, count: int) -> "asyncio.Future[list[Any]]":
        """Send commands with the others of this turn of the loop."""
        future = self._loop.create_future()
        if not self.is_open:
            future.set_exception(RedisLinkError("the connection broke"))
            return future
        if count == 0:
            future.set_result([])
            return future
        deadline = self._loop.time() + self._timeout_s
        self._pending.append(_Pending(count, deadline, future))
        if self._watch is None:
            self._watch = self._loop.call_at(deadline, self._look)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(commands)
        return future

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            # False means that the rest has not come yet.
            while (answer := self._reader.gets()) is not False:
                self._take(answer)
        except hiredis.ProtocolError as error:
            self.close(f"broke the protocol ({error})")

    def close(self, why: str) -> None:
        """Fail every call under way."""
        self.is_open = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._transport is not None:
            self._transport.abort()
        while self._pending:
            future = self._pending.popleft().future
            if not future.done():
                future.set_exception(RedisLinkError(why))

    def _take(self, answer: Any) -> None:
        if not self._pending:
            self.close("answered what was not asked")
            return
        first = self._pending[0]
        first.answers.append(answer)
        if len(first.answers) < first.count:
            return
        self._pending.popleft()
        # Whoever asked may have gone away.
        if first.future.done():
            return
        refusal = next((a for a in first.answers if isinstance(a, hiredis.ReplyError)), None)
        if refusal is not None:
            first.future.set_exception(RedisRefusal(str(refusal)))
        else:
            first.future.set_result(first.answers)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and self.is_open:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _look(self) -> None:
        """Break a connection whose oldest answer is overdue: what comes later would be misread."""
        self._watch = None
        if not self._pending:
            return
        deadline = self._pending[0].deadline
        if deadline <= self._loop.time():
            why = f"no answer in {self._timeout_s:g} s"
            self._overdue(why)
            self.close(why)
        else:
            self._watch = self._loop.call_at(deadline, self._look)


def packed(*words: str | bytes) -> bytes:
    """Return a command as it goes over the wire."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [part(word.encode() if isinstance(word, str) else word) for word in words]
    return b"".join(parts)


def part(word: bytes) -> bytes:
    """Return one word of a command."""
    return b"$%d\r\n%b\r\n" % (len(word), word)
