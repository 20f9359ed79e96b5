"""One process of a gloo group that trains a small job.

python -m tests.training.gloo_worker RANK SIZE FOLDER      leaves what it made in FOLDER/RANK
"""

import sys
from pathlib import Path

import torch
from torch import distributed

from services.training import handover
from services.training.ranker_job import run_ranker_job
from services.training.workers import Group
from tests.training.jobs import job_and_origins


def main(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    job, origins = job_and_origins()
    fitted = run_ranker_job(job, origins, workers=Group(rank=rank, size=size))
    handover.write(folder / str(rank), fitted)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
