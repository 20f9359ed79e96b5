"""Heads on text vectors: what an item is (a label) or is worth (a value), and how right they are.

Shape suffixes: N = texts, B = backbone width, D = projected width, C = classes (or figures).
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.core.metrics import Interval
from services.core.pooling import F64, I64
from services.core.records import F32
from services.core.tower import ItemTower

# Draws of a bootstrap.
RESAMPLES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelHead:
    """Which class a text is of: the largest of text_vec @ weight + bias."""

    # C names.
    labels: tuple[str, ...]
    weight_BC: F32
    bias_C: F32

    def predict(self, text_NB: F32) -> I64:
        """Return the class of each text, a row of `labels`."""
        class_N: I64 = np.argmax(text_NB @ self.weight_BC + self.bias_C, axis=1)
        return class_N


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueHead:
    """What a text is worth: centre + scale * (text_vec @ weight + bias)."""

    weight_B: F32
    bias: float
    # Mean and standard deviation of the values it learned from.
    centre: float
    scale: float

    def predict(self, text_NB: F32) -> F64:
        """Return the value of each text."""
        return self.centre + self.scale * (text_NB @ self.weight_B + self.bias).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Where texts of one taste lie near: normalise((text_vec - mean) @ projection)."""

    mean_B: F32
    projection_BD: F32

    def vectors(self, text_NB: F32) -> F32:
        """Return unit vectors [N, D]: the text part of an item tower."""
        tower = ItemTower(mean_B=self.mean_B, projection_BD=self.projection_BD)
        return tower.text_parts(text_NB)


def part_of(text: str, seed: int = 0) -> float:
    """Return where a text falls in [0, 1), the same on every machine.

    Texts are split by it: equal ones fall on one side.
    """
    digest = hashlib.sha256(f"{seed}\x1f{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def without_label(text: str, label: str) -> str:
    """Return a text without the label it says, so that a head cannot read its answer.

    Whole words only, whatever their case; commas and spaces that the cut leaves over go too.
    """
    if not label:
        return text
    kept = re.sub(rf"(?<!\w){re.escape(label)}(?!\w)", "", text, flags=re.IGNORECASE)
    if kept == text:
        return text
    parts = [" ".join(part.split()) for part in kept.split(",")]
    return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFigures:
    """How right labels are. Precision, recall and F1 are means over the classes that are there."""

    accuracy: float
    precision: float
    recall: float
    f1: float


def label_figures(truth_N: I64, said_N: I64, classes: int) -> LabelFigures:
    """Compare labels; a class that is neither true nor said of any text does not count."""
    hits_C = np.bincount(truth_N[truth_N == said_N], minlength=classes).astype(np.float64)
    true_C = np.bincount(truth_N, minlength=classes)
    said_C = np.bincount(said_N, minlength=classes)
    is_there_C = (true_C + said_C) > 0
    precision_C = hits_C / np.maximum(said_C, 1)
    recall_C = hits_C / np.maximum(true_C, 1)
    f1_C = 2.0 * hits_C / np.maximum(true_C + said_C, 1)
    return LabelFigures(
        accuracy=float((truth_N == said_N).mean()),
        precision=float(precision_C[is_there_C].mean()),
        recall=float(recall_C[is_there_C].mean()),
        f1=float(f1_C[is_there_C].mean()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueFigures:
    """How far values are off."""

    mae: float
    rmse: float
    # Share of the variance around `mean` that is explained.
    r2: float


def value_figures(truth_N: F64, said_N: F64, mean: float) -> ValueFigures:
    """Compare values.

    Args:
        truth_N: what is so.
        said_N: what the head says.
        mean: of the values that the head learned from: what one would say without it.
    """
    error_N = said_N - truth_N
    spread = float(((truth_N - mean) ** 2).sum())
    return ValueFigures(
        mae=float(np.abs(error_N).mean()),
        rmse=float(np.sqrt((error_N**2).mean())),
        r2=1.0 - float((error_N**2).sum()) / max(spread, 1e-12),
    )


def bootstrap(
    figures: Callable[[I64], Sequence[float]], rows: int, rng: np.random.Generator
) -> list[Interval]:
    """Return figures of all rows and their 95% intervals from drawing rows with replacement.

    For figures that are no mean of rows (macro F1, R2, perplexity); all share their draws.

    Args:
        figures: of some rows, each as often as it is named.
        rows: how many there are.
        rng: draws, RESAMPLES times.
    """
    drawn = np.array([figures(rng.integers(rows, size=rows)) for _ in range(RESAMPLES)])
    low_C, high_C = np.quantile(drawn, [0.025, 0.975], axis=0)
    whole = figures(np.arange(rows))
    return [
        Interval(mean=float(mean), low=float(low), high=float(high))
        for mean, low, high in zip(whole, low_C, high_C, strict=True)
    ]
