"""The peers as processes of their own, and the CPU that a server's processes took."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from services.runtime.ports import free_port

START_LIMIT_S = 90.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers."""

    pid: int
    port: int

    def cpu_s(self) -> float:
        """Return CPU seconds of the process and of its children so far."""
        first = psutil.Process(self.pid)
        return sum(
            times.user + times.system
            for times in (p.cpu_times() for p in (first, *first.children(recursive=True)))
        )


def clean_environment() -> dict[str, str]:
    """Return the environment less what importing Feast left in it.

    It makes prometheus_client share its values through files, in every child too.
    """
    return {k: v for k, v in os.environ.items() if not k.upper().startswith("PROMETHEUS_")}


@contextmanager
def floor(reply: bytes) -> Iterator[Server]:
    """Run a plain grpc.aio server that answers everything with the same bytes."""
    command = [sys.executable, "-m", "tests.bench.constant_server", reply.hex()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment())
    try:
        assert process.stdout is not None
        yield Server(pid=process.pid, port=int(process.stdout.readline()))
    finally:
        stop(process)


@contextmanager
def feast_serve(repo: Path, log: Path) -> Iterator[Server]:
    """Run `feast serve`: one worker that is never restarted, no access log."""
    port = free_port("127.0.0.1")
    arguments = ["serve", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with _feast(repo, [*arguments, "--max-requests", "0", "--no-access-log"], log) as process:

        def answers() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    return True
            except (urllib.error.URLError, OSError):
                return False

        _wait(answers, process, log)
        yield Server(pid=process.pid, port=port)


@contextmanager
def feast_listen(repo: Path, log: Path, workers: int) -> Iterator[Server]:
    """Run `feast listen` with a pool of `workers` threads."""
    port = free_port("127.0.0.1")
    arguments = ["listen", "--address", f"127.0.0.1:{port}", "--max_workers", str(workers)]
    # Its registry is refreshed every 5 s unless told otherwise; a minute is what ours takes.
    with _feast(repo, [*arguments, "--registry_ttl_sec", "60"], log) as process:

        def answers() -> bool:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                try:
                    grpc.channel_ready_future(channel).result(timeout=1)
                except grpc.FutureTimeoutError:
                    return False
                return True

        _wait(answers, process, log)
        yield Server(pid=process.pid, port=port)


@contextmanager
def _feast(repo: Path, arguments: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [str(Path(sys.executable).with_name("feast")), "-c", str(repo), *arguments]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=clean_environment()
        )
    try:
        yield process
    finally:
        stop(process)


def _wait(answers: object, process: "subprocess.Popen[bytes]", log: Path) -> None:
    assert callable(answers)
    give_up = time.monotonic() + START_LIMIT_S
    while not answers():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.1)


def stop(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def feast_body(users: Sequence[str], features: Sequence[str]) -> bytes:
    """Return the JSON that `feast serve` is asked with."""
    return json.dumps({"features": list(features), "entities": {"user_id": list(users)}}).encode()
