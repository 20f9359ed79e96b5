"""Workers by Ray Train, on this machine: the child process of ray_workers.py, and what it starts.

    python -m services.training.ray_process FOLDER WORKERS USE_GPU TEMP_DIR PARENT

Only this file imports ray. It starts workers and hands over: what they compute is ranker_job.py's.
What Ray reads from the environment the parent has set.
"""

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from filelock import FileLock
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchTrainer, get_device

from services.core.errors import InvalidArgument
from services.training import handover, ray_workers
from services.training.ranker_job import RankerJob, run_ranker_job
from services.training.workers import Group, sum_arrays

# Held while workers may write states; beside them.
LOCK = "workers"


def main(folder: str, workers: str, use_gpu: str, temp_dir: str, parent: str) -> int:
    """Run the job that lies in a folder; returns the exit status. Stops when the parent is gone."""
    stopped = threading.Event()
    _stop_on_signals(stopped)
    job: RankerJob = handover.read(Path(folder) / ray_workers.JOB)
    with _states_of(job):
        ray.init(
            address="local",
            num_cpus=int(workers),
            num_gpus=None if int(use_gpu) else 0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(Path(temp_dir) / "ray"),
        )
        # ray.init sets handlers of its own.
        _stop_on_signals(stopped)
        errors: list[BaseException] = []
        thread = threading.Thread(
            target=_fit,
            args=(folder, int(workers), bool(int(use_gpu)), temp_dir, errors),
            daemon=True,
        )
        try:
            thread.start()
            while thread.is_alive() and not stopped.is_set() and os.getppid() == int(parent):
                thread.join(ray_workers.LOOK_S)
            return 1 if errors or thread.is_alive() else 0
        finally:
            ray.shutdown()
            if os.getppid() != int(parent):
                # Nobody is left to do it.
                shutil.rmtree(temp_dir, ignore_errors=True)


def _states_of(job: RankerJob) -> contextlib.AbstractContextManager[Any]:
    """Wait for workers of a training that was killed: they may still be ending."""
    if job.checkpoints is None:
        return contextlib.nullcontext()
    job.checkpoints.folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(job.checkpoints.folder.parent / LOCK, timeout=ray_workers.STOP_LIMIT_S)


def _stop_on_signals(stopped: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())


def _fit(
    folder: str, workers: int, use_gpu: bool, temp_dir: str, errors: list[BaseException]
) -> None:
    trainer = TorchTrainer(
        _work,
        train_loop_config={"folder": folder},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name="ranker",
            storage_path=str(Path(temp_dir) / "results"),
            failure_config=FailureConfig(
                max_failures=ray_workers.MAX_FAILURES,
                controller_failure_limit=ray_workers.MAX_FAILURES,
            ),
            logging_config=LoggingConfig(log_level="CRITICAL"),
        ),
    )
    try:
        trainer.fit()
    # Whatever it is, the parent must hear of it.
    except BaseException as error:
        traceback.print_exc()
        errors.append(error)


def _work(config: dict[str, str]) -> None:
    """Be one of the workers."""
    # Mapped arrays are read-only, and nothing here writes to them.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    torch.set_num_threads(1)
    started, folder, context = time.process_time(), Path(config["folder"]), get_context()
    workers = Group(
        rank=context.get_world_rank(), size=context.get_world_size(), device=get_device()
    )
    job: RankerJob = handover.read(folder / ray_workers.JOB)
    origins = [handover.read(path) for path in sorted((folder / ray_workers.ORIGINS).iterdir())]
    with (folder / ray_workers.PROGRESS).open("a") as told:

        def tell(stage: str, done: int, total: int) -> None:
            if workers.rank == 0:
                told.write(json.dumps([stage, done, total]) + "\n")
                told.flush()

        try:
            fitted = run_ranker_job(job, origins, tell, workers)
        except InvalidArgument as error:
            # All workers meet it alike; raised, it would be tried again.
            if workers.rank == 0:
                handover.write(folder / ray_workers.REFUSED, (error.field, error.problem))
            return
    cpu_s = np.array([time.process_time() - started])
    sum_arrays(workers, cpu_s)
    if workers.rank == 0:
        handover.write(folder / ray_workers.FITTED, (fitted, float(cpu_s[0])))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
