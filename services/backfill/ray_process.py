"""Tasks by Ray, on this machine: the child process of workers.py, and what it starts.

    python -m services.backfill.ray_process WORKERS TEMP_DIR

A line of standard input asks (`number` and what tasks.py takes), a line of standard output answers. It ends
when its input does: when nobody asks any more, or the parent is gone. Only this file imports ray here.
What Ray reads from the environment the parent has set.
"""

import json
import logging
import os
import shutil
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

import ray

from services.backfill.tasks import run_step

# Times that a task is tried anew where its process died.
RETRIES = 3
OBJECT_STORE_BYTES = 80_000_000


def main(workers: str, temp_dir: str) -> int:
    """Answer until the input ends; returns the exit status."""
    with os.fdopen(os.dup(1), "w") as answers:
        # What libraries print goes to the log.
        os.dup2(2, 1)
        parent = os.getppid()
        ray.init(
            address="local",
            num_cpus=int(workers),
            num_gpus=0,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(Path(temp_dir) / "ray"),
        )
        try:
            _serve(int(workers), answers)
        finally:
            ray.shutdown()
            if os.getppid() != parent:
                # Nobody is left to do it.
                shutil.rmtree(temp_dir, ignore_errors=True)
    return 0


def _serve(workers: int, answers: TextIO) -> None:
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(run_step)
    writing = threading.Lock()

    def answer(line: str) -> None:
        asked = json.loads(line)
        try:
            told = json.loads(ray.get(task.remote(line)))
        # Whatever it is, whoever asked must hear of it.
        except Exception:
            traceback.print_exc()
            told = {"problem": "a worker failed"}
        with writing:
            answers.write(json.dumps({"number": asked["number"], **told}) + "\n")
            answers.flush()

    pool = ThreadPoolExecutor(workers)
    for line in sys.stdin:
        pool.submit(answer, line)
    # Nobody waits for what is under way.
    pool.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    # os._exit: threads that wait for a task that will never end must not hold the process.
    os._exit(main(*sys.argv[1:]))
