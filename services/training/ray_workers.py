"""Several workers on this machine: a child process (ray_process.py) has Ray Train start them.

Nothing of ray is imported here: the caller stays small, and stops all of it by the child's pid.
Examples reach the workers as files that all of them map: one copy in memory however many they are,
and none in the caller, who lets go of each origin once it is written. (Ray's object store would be
a second copy, in shared memory, of which a container often has little.) States are kept by the first
worker where a training in one process keeps them, so whatever dies, the same command goes on from
the last of them, also with another number of workers.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from services.core.errors import DependencyUnavailable, InvalidArgument
from services.core.progress import Progress
from services.runtime.ray_variables import private_cluster
from services.runtime.scratch import short_temp_dir
from services.training import handover
from services.training.examples import Origin
from services.training.fit_ranker import FittedRanker
from services.training.ranker_job import RankerJob
from services.training.workers import ComputeConfig

# Times that lost workers are started anew; they go on from the last state.
MAX_FAILURES = 2
# How often a process looks for what the others have done, and Ray whether its workers live.
LOOK_S = 0.2
STOP_LIMIT_S = 30.0
# What is handed over lies in FOLDER; the log beside it, where it stays for whoever asks why.
JOB, ORIGINS, PROGRESS, FITTED, REFUSED, LOG = (
    "job", "origins", "progress.jsonl", "fitted", "refused", "ray.log"
)  # fmt: skip
FOLDER = "handed-over"


@dataclass(frozen=True, slots=True, kw_only=True)
class RanOnWorkers:
    """What workers give back."""

    fitted: FittedRanker
    # Of all workers.
    cpu_seconds: float


def run_on_workers(
    job: RankerJob, origins: Iterable[Origin], compute: ComputeConfig, on_progress: Progress
) -> RanOnWorkers:
    """Run a job on several workers.

    Args:
        job: what. Examples are written beside its states, where whoever comes next clears them.
        origins: as run_ranker_job takes them.
        compute: how many workers; check_compute found it possible.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: no user did anything in any of the origins' periods.
        DependencyUnavailable: workers died more than MAX_FAILURES times, or never came up.
    """
    if job.checkpoints is not None:
        # A worker's working folder is its own.
        states = job.checkpoints.folder.resolve()
        job = replace(job, checkpoints=replace(job.checkpoints, folder=states))
    with _folder(job) as folder:
        handover.write(folder / JOB, job)
        for number, origin in enumerate(origins):
            handover.write(folder / ORIGINS / f"{number:06}", origin)
        log = folder.with_name(LOG) if job.checkpoints else folder / LOG
        with _child(folder, compute, log) as child:
            _follow(child, folder / PROGRESS, on_progress)
        if handover.is_written(folder / REFUSED):
            raise InvalidArgument(*handover.read(folder / REFUSED))
        if child.returncode or not handover.is_written(folder / FITTED):
            raise DependencyUnavailable("Ray Train", f"gave up ({_last_line(log)}); see {log}")
        fitted, cpu_seconds = handover.read(folder / FITTED)
        return RanOnWorkers(fitted=fitted, cpu_seconds=cpu_seconds)


@contextmanager
def _folder(job: RankerJob) -> Iterator[Path]:
    root = job.checkpoints.folder.parent if job.checkpoints else None
    if root is not None:
        root.mkdir(parents=True, exist_ok=True)
    folder = root / FOLDER if root else Path(tempfile.mkdtemp(prefix="dl-"))
    # What a killed training left.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _child(folder: Path, compute: ComputeConfig, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the child, and stop it where it still runs at the end."""
    scratch = short_temp_dir()
    count, use_gpu, own = str(compute.workers), str(int(compute.gpu)), str(os.getpid())
    arguments = (str(folder), count, use_gpu, str(scratch), own)
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "services.training.ray_process", *arguments],
            env={**os.environ, **_variables()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for the caller, who stops the workers in order.
            start_new_session=True,
        )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
        try:
            child.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def _variables() -> dict[str, str]:
    """Return Ray's own variables, which all its processes inherit."""
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    return {
        **private_cluster(),
        "RAY_TRAIN_METRICS_ENABLED": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(LOOK_S),
    } | ({"GLOO_SOCKET_IFNAME": loopback[0]} if loopback else {})


def _follow(child: "subprocess.Popen[bytes]", told: Path, on_progress: Progress) -> None:
    """Pass on what the first worker tells, until the child ends."""
    read, rest, is_over = 0, b"", False
    while not is_over:
        try:
            child.wait(LOOK_S)
            is_over = True
        except subprocess.TimeoutExpired:
            pass
        if not told.exists():
            continue
        with told.open("rb") as file:
            file.seek(read)
            new = file.read()
        read += len(new)
        *lines, rest = (rest + new).split(b"\n")
        for line in lines:
            on_progress(*json.loads(line))


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:100] if lines else "it said nothing"
