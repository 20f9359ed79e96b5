"""The steps over buckets on several processes of this machine, as Ray tasks.

A child process (ray_process.py) is Ray's driver and starts the workers; nothing of ray is imported here, so the
caller stays small, and stops all of it by the child's pid. Results are those of one process, whatever the number
of workers: a bucket is made by one task, and a task whose process was killed is tried anew by Ray.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from driftline.v1 import encoder_service_pb2, forecaster_service_pb2

from services.backfill.here import InThisProcess
from services.backfill.tasks import ANSWERS, FORECASTS, INTERESTS
from services.core.errors import DependencyUnavailable
from services.core.tower import BackboneSpec
from services.runtime.ray_variables import private_cluster
from services.runtime.scratch import short_temp_dir
from services.runtime.settings import Settings
from services.store.ports import TextEncoder

STOP_LIMIT_S = 30.0
LOG = "workers.log"


class OnWorkers(InThisProcess):
    """See the port Compute: items and bursts of everyone here, the steps over buckets on workers."""

    def __init__(
        self,
        child: "Child",
        settings: Settings,
        tenant: str,
        load_encoder: Callable[[BackboneSpec], TextEncoder] | None = None,
    ) -> None:
        super().__init__(settings, tenant, load_encoder)
        self._child = child

    @property
    def pid(self) -> int:
        """The process that is Ray's driver."""
        return self._child.pid

    def refresh_interests(
        self, buckets: Sequence[int], *, is_full: bool = False, model_version: str = ""
    ) -> encoder_service_pb2.RefreshInterestsResponse:
        """See InThisProcess. Raises DependencyUnavailable: the task failed, or Ray is gone."""
        answer = self._ask(INTERESTS, buckets, is_full, model_version)
        return encoder_service_pb2.RefreshInterestsResponse.FromString(answer)

    def refresh_forecasts(
        self, buckets: Sequence[int], *, is_full: bool = False, model_version: str = ""
    ) -> forecaster_service_pb2.RefreshForecastsResponse:
        """See InThisProcess. Raises DependencyUnavailable: the task failed, or Ray is gone."""
        answer = self._ask(FORECASTS, buckets, is_full, model_version)
        return forecaster_service_pb2.RefreshForecastsResponse.FromString(answer)

    def _ask(self, step: str, buckets: Sequence[int], is_full: bool, model_version: str) -> bytes:
        assert step in ANSWERS
        by = {"buckets": list(buckets), "is_full": is_full, "model_version": model_version}
        return self._child.ask({"tenant": self._tenant, "step": step, "by": by}).result()


class Child:
    """Ray's driver, asked by many threads at once."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process, self._log = process, log
        self._asked: dict[int, Future[bytes]] = {}
        self._count, self._is_over, self._lock = 0, False, threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, asked: dict[str, Any]) -> "Future[bytes]":
        """Return what will be a response's bytes."""
        future: Future[bytes] = Future()
        with self._lock:
            self._count += 1
            number, self._asked[self._count] = self._count, future
            try:
                pipe = _pipe(self._process.stdin)
                pipe.write(json.dumps({"number": number, **asked}) + "\n")
                pipe.flush()
            except (OSError, ValueError):
                self._is_over = True
            is_over = self._is_over
        if is_over:
            self._give_up()
        return future

    def stop(self) -> None:
        """End the process and all that it started."""
        try:
            _pipe(self._process.stdin).close()
            self._process.wait(STOP_LIMIT_S)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        for line in _pipe(self._process.stdout):
            told = json.loads(line)
            with self._lock:
                future = self._asked.pop(told["number"])
            if "answer" in told:
                future.set_result(bytes.fromhex(told["answer"]))
            else:
                future.set_exception(self._problem(told["problem"]))
        with self._lock:
            self._is_over = True
        self._give_up()

    def _give_up(self) -> None:
        with self._lock:
            left, self._asked = list(self._asked.values()), {}
        for future in left:
            future.set_exception(self._problem("the process that starts workers is gone"))

    def _problem(self, what: str) -> DependencyUnavailable:
        return DependencyUnavailable("Ray tasks", f"{what}; run it again (log: {self._log})")


@contextmanager
def open_workers(
    settings: Settings,
    tenant: str,
    count: int,
    load_encoder: Callable[[BackboneSpec], TextEncoder] | None = None,
) -> Iterator[OnWorkers]:
    """Start workers; stop them all on the way out, whatever happened.

    Args:
        settings: of the store.
        tenant: whose data.
        count: worker processes; those of torch, numpy and Polars are one thread each.
        load_encoder: as InThisProcess takes it; texts are encoded here.
    """
    chosen = settings.model_copy(update={"data_dir": settings.data_dir.resolve()})
    scratch, log = short_temp_dir(), chosen.data_dir / "logs" / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = chosen.environment() | private_cluster() | {"POLARS_MAX_THREADS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.backfill.ray_process", str(count), str(scratch)],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            # Ctrl-C is for the caller, who stops the workers in order.
            start_new_session=True,
        )
    child = Child(process, log)
    try:
        yield OnWorkers(child, chosen, tenant, load_encoder)
    finally:
        child.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
