"""Runs Ray and Serve on this machine until SIGTERM: the child process of runtime/cluster.py.

    python -m services.runtime.serve_process CONFIG.yaml LOGICAL_CPUS OBJECT_STORE_BYTES TEMP_DIR

What Serve reads from the environment (HAProxy mode, ports, auth) the parent has set. Ray's own
processes inherit all of it.
"""

import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import serve
from ray.serve import context
from ray.serve._private import api
from ray.serve.config import gRPCOptions
from ray.serve.schema import ServeDeploySchema

# Made beside the config once Serve says that every application runs.
READY = "ready"
# How often a child looks whether its applications failed, and whether its parent still lives.
LOOK_S = 0.5


def main(config_path: str, logical_cpus: str, object_store_bytes: str, temp_dir: str) -> int:
    """Serve until SIGTERM or until the parent is gone; returns the exit status."""
    stopped = threading.Event()
    _stop_on_signals(stopped)
    parent = os.getppid()
    config = ServeDeploySchema.model_validate(yaml.safe_load(Path(config_path).read_text()))
    ray.init(
        address="local",
        num_cpus=int(logical_cpus),
        object_store_memory=int(object_store_bytes),
        include_dashboard=False,
        namespace="serve",
        _temp_dir=temp_dir,
    )
    # ray.init sets handlers of its own.
    _stop_on_signals(stopped)
    try:
        api.serve_start(
            http_options=config.http_options.model_dump(),
            grpc_options=gRPCOptions(**config.grpc_options.model_dump()),
            proxy_location=config.proxy_location,
        )
        context._get_global_client().deploy_apps(config)
        ready = Path(config_path).with_name(READY)
        while not stopped.wait(LOOK_S) and os.getppid() == parent:
            status = serve.status()
            if failed := failures(status):
                sys.stderr.write(f"applications failed: {failed}\n")
                return 1
            if not ready.exists() and are_running(status):
                ready.touch()
        return 0
    finally:
        serve.shutdown()
        ray.shutdown()
        if os.getppid() != parent:
            # Nobody is left to do it.
            shutil.rmtree(Path(temp_dir).parent, ignore_errors=True)


def _stop_on_signals(stopped: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())


def failures(status: Any) -> dict[str, str]:
    """Return the applications that cannot start, and why."""
    return {
        name: application.message
        for name, application in status.applications.items()
        if application.status == "DEPLOY_FAILED"
    }


def are_running(status: Any) -> bool:
    """Tell whether every application, at least one, runs."""
    states = [application.status for application in status.applications.values()]
    return bool(states) and all(state == "RUNNING" for state in states)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
