"""All that is done on a ranker's examples: how long to train, and then the training.

One process runs it, or several at once, each of them with all of this (workers.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.core.progress import Progress
from services.core.records import F32
from services.training.checkpoints import Checkpoints
from services.training.choose_epochs import choose_epochs
from services.training.examples import Origin
from services.training.fit_ranker import FittedRanker, Learned, train_ranker
from services.training.ranker import RankerConfig
from services.training.workers import ALONE, Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerJob:
    """What there is to train, but for the origins."""

    text_NV: F32
    # Of all items.
    item_ids: Sequence[str]
    half_lives_days: tuple[float, ...]
    # `epochs` 0: they are chosen.
    config: RankerConfig
    # How many of the last origins are not learned from.
    validation: int = 0
    learned: Learned | None = None
    checkpoints: Checkpoints | None = None


def run_ranker_job(
    job: RankerJob,
    origins: Sequence[Origin],
    on_progress: Progress = lambda stage, done, total: None,
    workers: Workers = ALONE,
) -> FittedRanker:
    """Choose the epochs where they are to be chosen, and train.

    Args:
        job: what.
        origins: ascending, those of the validation last.
        on_progress: called with stage, done, total.
        workers: who takes part; each calls this with the same arguments.

    Raises:
        InvalidArgument: no user did anything in any of the origins' periods.
    """
    cut = len(origins) - job.validation
    learned, config, qualities = origins[:cut], job.config, dict[int, float]()
    if config.epochs == 0:
        epochs, qualities = choose_epochs(
            learned, job.text_NV, job.item_ids, job.half_lives_days, config, on_progress, workers,
            job.checkpoints,
        )  # fmt: skip
        config = replace(config, epochs=epochs)
    fitted = train_ranker(
        learned,
        job.text_NV,
        job.item_ids,
        job.half_lives_days,
        config,
        on_progress,
        validation=origins[cut:],
        learned=job.learned,
        checkpoints=job.checkpoints,
        workers=workers,
    )
    tried = {"ranker quality by epochs": [(float(n), q) for n, q in qualities.items()]}
    return replace(fitted, curves=fitted.curves | (tried if qualities else {}))
