"""A small job on planted data, without dropout: then workers differ from one by rounding alone."""

from dataclasses import replace

from services.training.ranker_job import RankerJob
from tests.training.origins import POOLING, SMALL, origins_of, planted

PLAIN = replace(SMALL, query_dropout=0.0, history_dropout=0.0, id_dropout=0.0)


def job_and_origins(config=None, **job):
    """Return a job of two choices of epochs, one origin to validate, several steps an epoch."""
    data, text = planted(users=30)
    chosen = config or replace(PLAIN, epochs=0, epoch_choices=(1, 3), batch_users=11)
    made = RankerJob(
        text_NV=text, item_ids=data.item_ids, half_lives_days=POOLING.half_lives_days,
        config=chosen, validation=1, **job,
    )  # fmt: skip
    return made, origins_of(data, 5)
