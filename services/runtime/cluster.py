"""Encoder and forecaster on one machine: Ray and Serve in a child process, for demo and tests.

It runs the very file that k8s runs (k8s/base/serve.yaml), with other ports and on loopback.
Nothing of ray is imported here: the caller stays small, and stops the cluster by the child's pid.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from services.core.errors import DependencyUnavailable, NotReady
from services.runtime.compute_token import keep_token
from services.runtime.ports import free_port, hold_port, is_free
from services.runtime.scratch import short_temp_dir
from services.runtime.serve_probe import APPLICATIONS
from services.runtime.settings import Settings

START_LIMIT_S = 240.0
STOP_LIMIT_S = 40.0
# services/runtime/serve_process.py makes it; that file imports ray, this one must not.
READY = "ready"
# Ports kept for the replicas of one cluster, of each protocol; the last of HTTP's marks the block.
# All lie below 32768: above it the system gives ports to whoever connects, and Serve takes any for
# the gRPC between deployments.
REPLICA_PORTS = 20
REPLICA_HTTP_BASE = 30_000
REPLICA_GRPC_BASE = 31_000
# CPUs are what Ray's books say; replicas share the real ones.
LOGICAL_CPUS = 16
OBJECT_STORE_BYTES = 80_000_000
# Inherited by every process of the cluster, so that none is forgotten.
MARK = "DRIFTLINE_CLUSTER_DIR"

# Ray's prefix of a replica's line, and our line of one call.
_CALL = re.compile(r'\(ServeReplica:(\w+):\w+ pid=(\d+)\)[^{\n]*\{[^\n]*"event": "rpc"')


@dataclass(slots=True, kw_only=True)
class Cluster:
    """A running cluster. `stop` it; it stops by itself when the caller's process ends."""

    # As given, with the ports that were chosen.
    settings: Settings
    pid: int
    log: Path
    # HAProxy's Prometheus endpoint.
    metrics_url: str
    _process: "subprocess.Popen[bytes]"
    # Gone after `stop`.
    temp_dir: Path
    # Keeps the replicas' ports from other clusters.
    _ports: socket.socket
    _is_stopped: bool = field(default=False, init=False)

    def request_counts(self) -> dict[str, int]:
        """Return calls that replicas have answered so far, by application: their own log lines.

        (HAProxy's counters start anew with each of its reloads.) The last second may be missing.
        """
        calls = Counter(application for application, _ in _CALL.findall(self._logged()))
        return {application: calls[application] for application in APPLICATIONS}

    def replica_pids(self) -> dict[str, list[int]]:
        """Return the processes that have answered calls so far, by application."""
        calls = set(_CALL.findall(self._logged()))
        return {
            application: sorted(int(pid) for name, pid in calls if name == application)
            for application in APPLICATIONS
        }

    def _logged(self) -> str:
        return self.log.read_text(errors="replace")

    def processes(self) -> list[int]:
        """Return the ids of the cluster's processes that run now, the child's included."""
        return _marked(self.temp_dir)

    def stop(self) -> None:
        """Drain and stop everything; no process and no temporary file stays. Idempotent."""
        if self._is_stopped:
            return
        self._is_stopped = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _end(self.temp_dir)
        self._ports.close()
        shutil.rmtree(self.temp_dir, ignore_errors=True)


def start_cluster(settings: Settings, log_dir: Path) -> Cluster:
    """Start both applications and wait until each answers a real call.

    The ports in the settings are used where they are free, others where they are not or are 0.

    Raises:
        DependencyUnavailable: an application did not come up; the message names the log.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    host = settings.serve_host
    chosen = settings.model_copy(
        update={
            "data_dir": settings.data_dir.resolve(),
            "serve_grpc_port": free_port(host, settings.serve_grpc_port),
            "serve_http_port": free_port(host, settings.serve_http_port),
            # Replicas listen on all interfaces; whoever has not this cannot call them.
            "compute_token": settings.compute_token or secrets.token_hex(32),
        }
    )
    scratch, log, metrics_port = short_temp_dir(), log_dir / "serve.log", free_port(host)
    config = scratch / "serve.yaml"
    config.write_text(yaml.safe_dump(_config(chosen)))
    keep_token(chosen.data_dir, chosen.compute_token)
    offset, ports = _replica_ports()
    process = _start(
        [str(config), str(LOGICAL_CPUS), str(OBJECT_STORE_BYTES), str(scratch / "ray")],
        chosen.environment() | _serve_environment(scratch, offset, metrics_port, free_port(host))
        | _fallback_environment(host) | _compute_environment(chosen),
        log,
    )  # fmt: skip
    cluster = Cluster(
        settings=chosen,
        pid=process.pid,
        log=log,
        metrics_url=f"http://{host}:{metrics_port}/metrics",
        _process=process,
        temp_dir=scratch,
        _ports=ports,
    )
    try:
        _wait_until_answering(cluster, process)
    except BaseException:
        _keep_logs(scratch, log_dir)
        cluster.stop()
        raise
    return cluster


def _start(arguments: list[str], variables: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "services.runtime.serve_process", *arguments],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for the caller, who stops the cluster in order.
            start_new_session=True,
        )


def _config(settings: Settings) -> dict[str, object]:
    """Return the Serve config, its ports replaced."""
    path = settings.serve_config or Path(__file__).resolve().parents[2] / "k8s/base/serve.yaml"
    try:
        config: dict[str, object] = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise NotReady(
            "Serve config", f"{path} is absent; set DRIFTLINE_SERVE_CONFIG to a copy of serve.yaml"
        ) from None
    for name, port in (
        ("http_options", settings.serve_http_port), ("grpc_options", settings.serve_grpc_port),
    ):  # fmt: skip
        options = config.setdefault(name, {})
        assert isinstance(options, dict)
        options["port"] = port
    config["http_options"] |= {"host": settings.serve_host}  # type: ignore[operator]
    return config


def _serve_environment(
    scratch: Path, offset: int, metrics_port: int, stats_port: int
) -> dict[str, str]:
    """Return Ray's and Serve's own variables: HAProxy in a folder and on ports of this cluster."""
    haproxy = scratch / "haproxy"
    haproxy.mkdir()
    return {
        MARK: str(scratch),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Else Serve waits 30 s for balancers to notice before a replica ends.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(REPLICA_HTTP_BASE + offset),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(REPLICA_GRPC_BASE + offset),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        # Decided, not left to the version: only who has this token may talk to the cluster.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # On one machine: Ray's own servers then listen on loopback alone, as they do on other systems.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Every line of a replica reaches the log, whole.
        "RAY_DEDUP_LOGS": "0",
        "RAY_COLOR_PREFIX": "0",
        "TMPDIR": str(scratch),
    }


def _fallback_environment(host: str) -> dict[str, str]:
    """Return ports of this cluster alone for Serve's own proxy, which HAProxy falls back on."""
    return {
        f"RAY_SERVE_FALLBACK_PROXY_{kind}_PORT": str(free_port(host)) for kind in ("HTTP", "GRPC")
    }


def _replica_ports() -> tuple[int, socket.socket]:
    """Return where this cluster's replicas listen, and what keeps others away while it is open.

    gRPC servers share ports: one cluster's HAProxy would send calls to another's replicas. That a
    port is free now says nothing of a cluster that starts at the same time and listens later, so
    the last port of a block is taken: whoever has it has the block.
    """
    offsets = list(range(0, 900, REPLICA_PORTS))
    secrets.SystemRandom().shuffle(offsets)
    bases = (REPLICA_HTTP_BASE, REPLICA_GRPC_BASE)
    for offset in offsets:
        held = hold_port(REPLICA_HTTP_BASE + offset + REPLICA_PORTS - 1)
        if held is None:
            continue
        ports = range(offset, offset + REPLICA_PORTS - 1)
        if all(is_free("", base + port) for base in bases for port in ports):
            return offset, held
        held.close()
    raise DependencyUnavailable("Ray Serve", "finds no free ports in 30000-30900 and 31000-31900")


def _compute_environment(settings: Settings) -> dict[str, str]:
    # Ray would set one thread per logical CPU of a replica.
    threads = settings.compute_threads or os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "TZ": "UTC"}


def _wait_until_answering(cluster: Cluster, process: "subprocess.Popen[bytes]") -> None:
    """Have both applications asked until their own code answers: Serve names them before they are up.

    A child asks, for what HAProxy answers at first may kill whoever asks; see serve_probe.py.
    """
    give_up = time.monotonic() + START_LIMIT_S
    ready = cluster.temp_dir / READY
    while not ready.exists() and time.monotonic() < give_up and process.poll() is None:
        time.sleep(0.1)
    target = f"{cluster.settings.serve_host}:{cluster.settings.serve_grpc_port}"
    silent = "applications that answer"
    while ready.exists() and time.monotonic() < give_up and process.poll() is None:
        probe = subprocess.run(
            [sys.executable, "-m", "services.runtime.serve_probe", target],
            capture_output=True,
            text=True,
            check=False,
        )
        if probe.returncode == 0:
            return
        silent = ", ".join(probe.stdout.split()) or silent
        time.sleep(0.25)
    raise DependencyUnavailable("Ray Serve", f"did not bring up {silent}; see {cluster.log}")


def _marked(scratch: Path) -> list[int]:
    """Return ids of processes that inherited this cluster's mark (Linux; elsewhere none)."""
    mark = f"{MARK}={scratch}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return sorted(found)


def _end(scratch: Path) -> None:
    """End processes that outlived an orderly stop, and wait for those that are ending."""
    give_up = time.monotonic() + 5
    while (left := _marked(scratch)) and time.monotonic() < give_up:
        time.sleep(0.1)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _keep_logs(scratch: Path, log_dir: Path) -> None:
    """Keep what replicas logged: it says why they did not come up."""
    for folder in (scratch / "ray").glob("session_2*/logs"):
        shutil.copytree(folder, log_dir / "ray", dirs_exist_ok=True, symlinks=True)
