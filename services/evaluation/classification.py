"""Heads of a tuned backbone, measured on the items that tuning held out.

The split is by a hash of the text that the head reads, so it is the same here as it was there.

Shape suffixes: N = items, B = backbone width.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from services.core.errors import InvalidArgument
from services.core.heads import (
    LabelFigures,
    ValueFigures,
    bootstrap,
    label_figures,
    part_of,
    value_figures,
    without_label,
)
from services.core.metrics import Interval
from services.core.pooling import F64, I64
from services.core.records import F32
from services.store.backbone_files import TUNING_FILE
from services.store.heads import load_label_head, load_value_head


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Which items tuning kept for measuring."""

    seed: int
    share: float

    def rows(self, texts: Sequence[str]) -> I64:
        """Return the rows of the held-out texts, ascending."""
        is_held = [part_of(text, self.seed) < self.share for text in texts]
        return np.flatnonzero(is_held)


def head_report(
    folder: Path,
    encode: Callable[[Sequence[str]], F32],
    texts: Sequence[str],
    *,
    labels: Sequence[str] = (),
    value_N: F64 | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Measure the heads that a backbone's folder holds.

    Args:
        folder: of `driftline tune`.
        encode: of that backbone: texts to vectors.
        texts: one an item.
        labels: one an item, empty where there is none; a head's texts are read without them.
        value_N: one an item, NaN where there is none.
        seed: of the intervals.

    Returns:
        `classification` with accuracy, precision, recall, f1 (means over classes) and
        `majority_accuracy`; `regression` with mae, rmse, r2. Each figure has its 95% interval
        beside it as `..._ci`. What has no head, or no held-out item, is left out.

    Raises:
        InvalidArgument: the folder's files are not whole.
    """
    split = _split(folder)
    report: dict[str, dict[str, Any]] = {}
    if split is None:
        return report
    rng = np.random.default_rng(seed)
    if (labelled := _labelled(folder, split, encode, texts, labels, rng)) is not None:
        report["classification"] = labelled
    if (valued := _valued(folder, split, encode, texts, value_N, rng)) is not None:
        report["regression"] = valued
    return report


def _labelled(
    folder: Path, split: HeldOut, encode: Callable[[Sequence[str]], F32], texts: Sequence[str],
    labels: Sequence[str], rng: np.random.Generator,
) -> dict[str, Any] | None:  # fmt: skip
    head = load_label_head(folder)
    if head is None or not labels:
        return None
    read = [without_label(text, label) for text, label in zip(texts, labels, strict=True)]
    class_of = {label: index for index, label in enumerate(head.labels)}
    held = split.rows(read)
    # Of labels too rare to learn, none can be said.
    rows = [row for row in held if labels[row] in class_of]
    if not rows:
        return None
    truth = np.array([class_of[labels[row]] for row in rows])
    said = head.predict(encode([read[row] for row in rows]))
    figures = bootstrap(
        lambda drawn: astuple(label_figures(truth[drawn], said[drawn], len(head.labels))),
        len(rows), rng,
    )  # fmt: skip
    return {
        **_named(LabelFigures, figures),
        "majority_accuracy": float(np.bincount(truth).max() / len(truth)),
        "classes": len(head.labels),
        "items": len(rows),
        "items_of_rare_labels_left_out": sum(bool(labels[row]) for row in held) - len(rows),
    }


def _valued(
    folder: Path, split: HeldOut, encode: Callable[[Sequence[str]], F32], texts: Sequence[str],
    value_N: F64 | None, rng: np.random.Generator,
) -> dict[str, Any] | None:  # fmt: skip
    head = load_value_head(folder)
    if head is None or value_N is None:
        return None
    rows = np.array([row for row in split.rows(texts) if np.isfinite(value_N[row])], np.int64)
    if not len(rows):
        return None
    truth = value_N[rows]
    said = head.predict(encode([texts[row] for row in rows]))
    figures = bootstrap(
        lambda drawn: astuple(value_figures(truth[drawn], said[drawn], head.centre)),
        len(rows), rng,
    )  # fmt: skip
    return {**_named(ValueFigures, figures), "items": len(rows)}


def _named(
    kind: type[LabelFigures | ValueFigures], figures: list[Interval]
) -> dict[str, float | list[float]]:
    row: dict[str, float | list[float]] = {}
    for field, figure in zip(fields(kind), figures, strict=True):
        row[field.name] = figure.mean
        row[f"{field.name}_ci"] = [figure.low, figure.high]
    return row


def _split(folder: Path) -> HeldOut | None:
    try:
        config = json.loads((folder / TUNING_FILE).read_text())["config"]
        return HeldOut(seed=int(config["seed"]), share=float(config["held_out_share"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(
            "backbone", f"{folder / TUNING_FILE} is not whole; tune again"
        ) from error
