"""Everything on one machine: Ray Serve with both applications, and a gateway, each a process of its own.

`driftline up`, the demo and the end-to-end tests start the same processes that k8s starts.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.core.errors import DependencyUnavailable
from services.runtime.cluster import Cluster, start_cluster
from services.runtime.ports import free_port
from services.runtime.settings import Settings

START_LIMIT_S = 60.0
STOP_LIMIT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayProcess:
    """A running gateway."""

    process: "subprocess.Popen[bytes]"
    # host:port of its gRPC server.
    target: str
    metrics_url: str
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStack:
    """A running stack; `settings` has the ports that were chosen."""

    settings: Settings
    cluster: Cluster
    gateway: GatewayProcess
    # That share its port.
    others: tuple[GatewayProcess, ...] = ()


@contextmanager
def local_stack(settings: Settings, log_dir: Path, gateways: int = 1) -> Iterator[LocalStack]:
    """Start encoder, forecaster and gateways; stop them all on the way out, whatever happened.

    Raises:
        DependencyUnavailable: a process did not come up; the message names its log.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    cluster = start_cluster(settings, log_dir)
    try:
        with gateway_processes(cluster.settings, log_dir, gateways) as (gateway, *others):
            yield LocalStack(
                settings=cluster.settings, cluster=cluster, gateway=gateway, others=tuple(others)
            )
    finally:
        cluster.stop()


@contextmanager
def gateway_process(settings: Settings, log_dir: Path) -> Iterator[GatewayProcess]:
    """Run one gateway process; port 0 picks a free one. SIGTERM drains it on the way out."""
    log_path = log_dir / f"{settings.writer}.log"
    with tempfile.TemporaryDirectory() as scratch, log_path.open("wb") as log:
        port_file = Path(scratch) / "port"
        chosen = settings.model_copy(
            update={
                "port_file": port_file,
                "metrics_port": free_port(settings.host, settings.metrics_port),
            }
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "services.gateway.main"],
            env={**_inherited(), **chosen.environment()},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            port, metrics_port = _wait_for_ports(process, port_file, log_path)
            yield GatewayProcess(
                process=process,
                target=f"{settings.host}:{port}",
                metrics_url=f"http://{settings.host}:{metrics_port}/metrics",
                log=log_path,
            )
        finally:
            _stop(process)


@contextmanager
def gateway_processes(
    settings: Settings, log_dir: Path, count: int
) -> Iterator[tuple[GatewayProcess, ...]]:
    """Run gateways that share one port (SO_REUSEPORT): the kernel deals connections out to them.

    Each has an inbox log and a port for metrics of its own. Limits and quotas are each process's.
    """
    with ExitStack() as stack:
        shared = settings if count == 1 else settings.model_copy(update={"reuse_port": True})
        running = [stack.enter_context(gateway_process(shared, log_dir))]
        for number in range(1, count):
            own = {
                "port": int(running[0].target.rpartition(":")[2]),
                "metrics_port": settings.metrics_port and settings.metrics_port + number,
                "writer": f"{settings.writer.removesuffix('-0')}-{number}",
            }
            running.append(
                stack.enter_context(gateway_process(shared.model_copy(update=own), log_dir))
            )
        yield tuple(running)


def _inherited() -> dict[str, str]:
    """Return this process's environment without what Feast adds when it is imported.

    It turns prometheus_client to files that all processes share; the gateway counts its own calls.
    """
    variables = {**os.environ}
    for name in ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR"):
        variables.pop(name, None)
    return variables


def _wait_for_ports(
    process: "subprocess.Popen[bytes]", port_file: Path, log_path: Path
) -> tuple[int, int]:
    give_up = time.monotonic() + START_LIMIT_S
    while time.monotonic() < give_up and process.poll() is None:
        if port_file.exists() and (text := port_file.read_text().strip()):
            port, _, metrics_port = text.partition(" ")
            return int(port), int(metrics_port or 0)
        time.sleep(0.05)
    raise DependencyUnavailable("gateway", f"did not start; see {log_path}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
