"""Tuning, from texts and signals to a folder that load_backbone reads."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from services.core.records import F32
from services.store.backbone_files import TUNING_FILE, TokenPooling, weights_sha256
from services.store.heads import save_head
from services.training.tuning.config import Mode, Objective, TuneConfig
from services.training.tuning.contrastive import ContrastiveTask
from services.training.tuning.language import LanguageTask
from services.training.tuning.loop import Curves, Progress, Task, run_steps
from services.training.tuning.network import Network, check_free, identity_of, new_folder
from services.training.tuning.outcomes import Change, compare
from services.training.tuning.retrieval import (
    METRIC,
    examples_at,
    retrieval_outcome,
    split_periods,
)
from services.training.tuning.signals import Signals
from services.training.tuning.supervised import ClassificationTask, RegressionTask

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """What tuning did."""

    folder: Path
    # The objective's own metric. Before: the head on the frozen backbone; in head mode, what one
    # says without reading (the most frequent label, the mean, token frequencies), or plain cosine.
    own: Change
    # New items of the held-out periods by mean-pooled cosine; None where there are no histories.
    retrieval: Change | None
    curves: Curves
    # tuning.json.
    report: dict[str, Any]


def tune_backbone(
    texts: Sequence[str],
    signals: Signals,
    config: TuneConfig,
    *,
    out: Path,
    backbone: str = "",
    pooling: TokenPooling | None = None,
    task_texts: Sequence[str] | None = None,
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
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: the objective does not fit the model or the data, or `out` holds other
            files.
    """
    started = time.perf_counter()
    torch.manual_seed(config.seed)
    check_free(out)
    supervised = config.objective in (Objective.CLASSIFICATION, Objective.REGRESSION)
    read = task_texts if task_texts is not None and supervised else texts
    network = Network(read, config, backbone=backbone, pooling=pooling)
    task = _task_of(read, signals, network, config)
    frozen_NB = _catalogue_vectors(network, texts, read, signals, config)
    before = task.baseline()
    if config.objective is Objective.CONTRASTIVE:
        before = task.outcome(network)
    task.prepare(network, on_progress)
    figures_before = task.figures(network)
    if config.mode is not Mode.HEAD:
        before = task.outcome(network)
    moving = network.let_move(config.mode)
    steps = 0 if config.mode is Mode.HEAD and task.is_head_exact else config.planned_steps
    curves = run_steps(task, network, moving, config, steps=steps, on_progress=on_progress)
    own = compare(
        task.metric, before, task.outcome(network),
        seed=config.seed, is_higher_better=task.is_higher_better,
    )  # fmt: skip
    retrieval = own if config.objective is Objective.CONTRASTIVE else None
    if frozen_NB is not None:
        tuned_NB = network.fixed_vectors() if read is texts else network.encode(texts)
        retrieval = _retrieval(signals, config, frozen_NB, tuned_NB)
    baseline = task.baseline()
    report: dict[str, Any] = {
        "format": FORMAT,
        "base": identity_of(network.files),
        "mode": str(config.mode),
        "objective": str(config.objective),
        "pooling": network.pooling,
        "data_sha256": signals.sha256(read),
        "config": asdict(config),
        "metric": own.as_json(),
        "baseline": baseline.score(np.arange(baseline.rows)),
        "figures": {"before": figures_before, "after": task.figures(network)},
        "retrieval": None if retrieval is None else retrieval.as_json(),
        "notes": task.notes(),
        "moving_weights": sum(parameter.numel() for parameter in moving),
        "curves": {"loss": curves.loss, "stop": curves.stop, "best_step": curves.best_step},
    }
    with new_folder(out) as folder:
        network.save(folder)
        if (head := task.head()) is not None:
            save_head(folder, head)
        report["weights_sha256"] = weights_sha256(folder)
        report["seconds"] = time.perf_counter() - started
        (folder / TUNING_FILE).write_text(json.dumps(report, indent=1) + "\n")
    return TuneResult(folder=out, own=own, retrieval=retrieval, curves=curves, report=report)


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


def _catalogue_vectors(
    network: Network, texts: Sequence[str], read: Sequence[str], signals: Signals,
    config: TuneConfig,
) -> F32 | None:  # fmt: skip
    """Return vectors of the catalogue where its retrieval is worth comparing, else None."""
    if (
        signals.histories is None
        or config.mode is Mode.HEAD
        or config.objective is Objective.CONTRASTIVE
    ):
        return None
    return network.fixed_vectors() if read is texts else network.encode(texts)


def _retrieval(signals: Signals, config: TuneConfig, frozen_NB: F32, tuned_NB: F32) -> Change:
    assert signals.histories is not None
    periods = split_periods(signals.histories, config).held_out
    held_out = [
        examples_at(signals.histories, period, len(frozen_NB), config.half_life_periods)
        for period in periods
    ]
    return compare(
        METRIC,
        retrieval_outcome(held_out, frozen_NB),
        retrieval_outcome(held_out, tuned_NB),
        seed=config.seed,
    )
