"""A small job on planted data, and Ray or a gloo group to run it in processes of their own.

python -m tests.training.jobs FOLDER      trains on two workers by Ray, saying each step; keeps states there
"""

import sys
from dataclasses import replace
from pathlib import Path

from services.training.checkpoints import Checkpoints
from services.training.ranker_job import RankerJob
from services.training.ray_workers import run_on_workers
from services.training.workers import ComputeConfig
from tests.training.origins import POOLING, SMALL, origins_of, planted

TWO = ComputeConfig(workers=2)
# Without dropout workers differ from one by rounding alone.
PLAIN = replace(
    SMALL, query_dropout=0.0, history_dropout=0.0, id_dropout=0.0, id_lag=0,
    epochs=0, epoch_choices=(1, 3), batch_users=11,
)  # fmt: skip
# Long enough to be killed on the way.
LONG = replace(SMALL, epochs=25, batch_users=11)
CONFIGS = {"plain": PLAIN, "long": LONG}


def job_and_origins(config=PLAIN, **job):
    """Return a job with several steps an epoch and an origin to validate."""
    data, text = planted(users=30)
    made = RankerJob(
        text_NV=text, item_ids=data.item_ids, half_lives_days=POOLING.half_lives_days,
        config=config, validation=1, **job,
    )  # fmt: skip
    return made, origins_of(data, 5)


def long_on_ray(folder, on_progress=lambda stage, done, total: None):
    """Return what two workers of Ray make of the long job, with a state kept of each step."""
    kept = Checkpoints(folder=folder / "states", every_s=0.0)
    return run_on_workers(*job_and_origins(LONG, checkpoints=kept), TWO, on_progress)


if __name__ == "__main__":
    long_on_ray(Path(sys.argv[1]), lambda stage, done, total: print(stage, done, flush=True))
