"""One process of a gloo group that trains a small job.

python -m tests.training.gloo_worker RANK SIZE FOLDER CONFIG    leaves what it made in FOLDER/RANK
"""

import subprocess
import sys
from pathlib import Path

import torch
from torch import distributed

from services.training import handover
from services.training.ranker_job import run_ranker_job
from services.training.workers import Group
from tests.training.jobs import CONFIGS, job_and_origins

ROOT = Path(__file__).parents[2]


def main(rank: int, size: int, folder: Path, config: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    job, origins = job_and_origins(CONFIGS[config])
    fitted = run_ranker_job(job, origins, workers=Group(rank=rank, size=size))
    handover.write(folder / str(rank), fitted)
    distributed.destroy_process_group()


def pair(folder: Path, config: str):
    """Return what each of two processes made of a job, without Ray."""
    arguments = [[str(rank), "2", str(folder), config] for rank in range(2)]
    command = [sys.executable, "-m", "tests.training.gloo_worker"]
    children = [subprocess.Popen([*command, *of_one], cwd=ROOT) for of_one in arguments]
    assert [child.wait(120) for child in children] == [0, 0]
    return [handover.read(folder / str(rank)) for rank in range(2)]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
