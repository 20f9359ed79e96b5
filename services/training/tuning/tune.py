"""Tuning, from texts and signals to a folder that load_backbone reads."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from services.core.progress import Progress
from services.core.records import F32
from services.store.backbone_files import TUNING_FILE, TokenPooling, weights_sha256
from services.store.heads import save_head
from services.training.cost import Stopwatch
from services.training.tuning.config import Mode, Objective, TuneConfig
from services.training.tuning.contrastive import ContrastiveTask
from services.training.tuning.language import LanguageTask
from services.training.tuning.loop import Curves, Task, run_steps
from services.training.tuning.network import Network, check_free, identity_of, new_folder
from services.training.tuning.outcomes import Change, Outcome, compare
from services.training.tuning.retrieval import (
    METRIC,
    examples_at,
    retrieval_outcome,
    split_periods,
)
from services.training.tuning.signals import Histories, Signals
from services.training.tuning.supervised import ClassificationTask, RegressionTask

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """What tuning did."""

    folder: Path
    config: TuneConfig
    # The objective's figures, by name. Before: the head on the frozen backbone; in head mode, what
    # one says without reading (the most frequent label, the mean, token frequencies), or plain
    # cosine.
    changes: dict[str, Change]
    # Which of them the objective is judged by.
    metric: str
    # The figures of what one says without reading a text.
    baseline: dict[str, float]
    # New items of the held-out periods by mean-pooled cosine; None where there are no histories.
    retrieval: Change | None
    curves: Curves
    # tuning.json.
    report: dict[str, Any]

    @property
    def own(self) -> Change:
        """The figure that the objective is judged by."""
        return self.changes[self.metric]


def tune_backbone(
    texts: Sequence[str],
    signals: Signals,
    config: TuneConfig,
    *,
    out: Path,
    backbone: str = "",
    pooling: TokenPooling | None = None,
    task_texts: Sequence[str] | None = None,
    until: datetime | None = None,
    on_progress: Progress = lambda stage, done, total: None,
) -> TuneResult:
    """Tune a text model and write it as a folder.

    Deterministic for a seed, on one machine and number of threads.

    Args:
        texts: the catalogue, a row each; may repeat.
        signals: what the objective reads.
        config: what is tuned, and how.
        out: folder; an older tuned backbone there is replaced.
        backbone: name or folder to start from.
        pooling: of tokens; unset means as load_backbone.
        task_texts: what classification and regression read instead, a row each: texts that do not
            say their label.
        until: end of the data, kept in tuning.json: an evaluation that begins before it is refused.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: the objective does not fit the model or the data, or `out` holds other
            files.
    """
    watch = Stopwatch()
    torch.manual_seed(config.seed)
    check_free(out)
    is_supervised = config.objective in (Objective.CLASSIFICATION, Objective.REGRESSION)
    read = task_texts if task_texts is not None and is_supervised else texts
    # The catalogue's retrieval, where weights move and the objective does not measure it anyway.
    histories = signals.histories
    if config.mode is Mode.HEAD or config.objective is Objective.CONTRASTIVE:
        histories = None
    with watch.stage("open"):
        network = Network(read, config, backbone=backbone, pooling=pooling, on_progress=on_progress)
        task = _task_of(read, signals, network, config)
    with watch.stage("measure"):
        frozen_NB = _catalogue(network, texts, read) if histories is not None else None
    before = _before(task, network, config, watch, on_progress)
    task.start()
    moving = network.let_move(config.mode)
    steps = 0 if config.mode is Mode.HEAD and task.is_head_exact else config.planned_steps
    with watch.stage("tune"):
        curves = run_steps(task, network, moving, config, steps=steps, on_progress=on_progress)
    with watch.stage("measure"):
        changes = compare(before, task.outcome(network), seed=config.seed)
        retrieval = changes.get(METRIC)
        if histories is not None and frozen_NB is not None:
            tuned_NB = _catalogue(network, texts, read)
            retrieval = _retrieval(histories, config, frozen_NB, tuned_NB)
    result = TuneResult(
        folder=out,
        config=config,
        changes=changes,
        metric=task.metric,
        baseline=task.baseline().values(),
        retrieval=retrieval,
        curves=curves,
        report={
            "trained_until": None if until is None else until.isoformat(),
            "data_sha256": signals.sha256(read),
            "notes": task.notes(),
            "moving_weights": sum(parameter.numel() for parameter in moving),
        },
    )
    _write(result, network, task, watch)
    return result


def _before(
    task: Task, network: Network, config: TuneConfig, watch: Stopwatch, on_progress: Progress
) -> Outcome:
    """Fit the head to the backbone as it is, and return what tuning is measured against."""
    is_head = config.mode is Mode.HEAD
    with watch.stage("measure"):
        # Plain cosine needs no head.
        is_plain = is_head and config.objective is Objective.CONTRASTIVE
        unread = task.outcome(network) if is_plain else task.baseline()
    with watch.stage("fit head"):
        task.prepare(network, on_progress)
    with watch.stage("measure"):
        return unread if is_head else task.outcome(network)


def _write(result: TuneResult, network: Network, task: Task, watch: Stopwatch) -> None:
    """Write the folder, and complete the report that lies in it."""
    with new_folder(result.folder) as folder:
        with watch.stage("save"):
            network.save(folder)
            if (head := task.head()) is not None:
                save_head(folder, head)
        result.report.update(
            _report(result, network),
            weights_sha256=weights_sha256(folder),
            cost=asdict(watch.cost()),
        )
        (folder / TUNING_FILE).write_text(json.dumps(result.report, indent=1) + "\n")


def _task_of(texts: Sequence[str], signals: Signals, network: Network, config: TuneConfig) -> Task:
    match config.objective:
        case Objective.CONTRASTIVE:
            return ContrastiveTask(len(texts), signals, config)
        case Objective.CLASSIFICATION:
            return ClassificationTask(texts, signals, config)
        case Objective.REGRESSION:
            return RegressionTask(texts, signals, config)
        case Objective.MLM | Objective.CAUSAL:
            return LanguageTask(texts, network, config)


def _catalogue(network: Network, texts: Sequence[str], read: Sequence[str]) -> F32:
    """Return vectors of the catalogue's whole texts, whatever the objective reads of them."""
    return network.fixed_vectors() if read is texts else network.encode(texts)


def _retrieval(histories: Histories, config: TuneConfig, frozen_NB: F32, tuned_NB: F32) -> Change:
    held_out = [
        examples_at(histories, period, len(frozen_NB), config.half_life_periods)
        for period in split_periods(histories, config).held_out
    ]
    changes = compare(
        retrieval_outcome(held_out, frozen_NB),
        retrieval_outcome(held_out, tuned_NB),
        seed=config.seed,
    )
    return changes[METRIC]


def _report(result: TuneResult, network: Network) -> dict[str, Any]:
    """Return what tuning.json says of the result itself."""
    curves, retrieval = result.curves, result.retrieval
    return {
        "format": FORMAT,
        "base": identity_of(network.files),
        "mode": str(result.config.mode),
        "objective": str(result.config.objective),
        "pooling": network.pooling,
        "config": asdict(result.config),
        "metric": result.own.as_json(),
        "figures": {name: change.as_json() for name, change in result.changes.items()},
        "baseline": result.baseline,
        "retrieval": None if retrieval is None else retrieval.as_json(),
        "curves": {"loss": curves.loss, "stop": curves.stop, "best_step": curves.best_step},
    }
