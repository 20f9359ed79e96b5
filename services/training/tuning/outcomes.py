"""Figures on held-out data, before and after, and the change of each with its interval."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.core.heads import bootstrap, label_figures, value_figures
from services.core.metrics import Interval
from services.core.pooling import F64, I64

LOWER_IS_BETTER = frozenset({"perplexity", "mae", "rmse"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What figures are made of. Rows are drawn whole: users, items or texts."""

    rows: int
    # By name: of some rows, each as often as it is listed.
    figures: Callable[[I64], Mapping[str, float]]

    def values(self) -> dict[str, float]:
        """Return the figures of all rows."""
        return dict(self.figures(np.arange(self.rows)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A figure before and after, and the paired difference."""

    metric: str
    before: Interval
    after: Interval
    change: Interval
    # Held-out users, items or texts.
    rows: int

    @property
    def is_better(self) -> bool:
        """Whether the interval of the change lies wholly on the good side."""
        return self.change.high < 0 if self.is_lower_better else self.change.low > 0

    @property
    def is_worse(self) -> bool:
        """Whether it lies wholly on the bad side."""
        return self.change.low > 0 if self.is_lower_better else self.change.high < 0

    @property
    def is_lower_better(self) -> bool:
        """Whether less is better."""
        return self.metric in LOWER_IS_BETTER

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        intervals = {"before": self.before, "after": self.after, "change": self.change}
        return {
            "metric": self.metric,
            "is_higher_better": not self.is_lower_better,
            "is_better": self.is_better,
            "rows": self.rows,
            **{
                name: {"value": interval.mean, "ci": [interval.low, interval.high]}
                for name, interval in intervals.items()
            },
        }


def compare(before: Outcome, after: Outcome, *, seed: int) -> dict[str, Change]:
    """Measure before and after on the same rows, resampled together; a change a figure."""
    assert before.rows == after.rows, "both are of the same held-out rows"
    names = list(before.values())

    def figures(rows: I64) -> list[float]:
        old, new = before.figures(rows), after.figures(rows)
        return [
            *(old[name] for name in names),
            *(new[name] for name in names),
            *(new[name] - old[name] for name in names),
        ]

    found = bootstrap(figures, before.rows, np.random.default_rng(seed))
    return {
        name: Change(
            metric=name,
            before=found[at],
            after=found[len(names) + at],
            change=found[2 * len(names) + at],
            rows=before.rows,
        )
        for at, name in enumerate(names)
    }


def label_outcome(truth_N: I64, label_N: I64, classes: int) -> Outcome:
    """Return macro F1, accuracy, and macro precision and recall over texts.

    Args:
        truth_N: the class of each text.
        label_N: the class that a head gives it.
        classes: how many there are.
    """

    def figures(rows: I64) -> dict[str, float]:
        found = label_figures(truth_N[rows], label_N[rows], classes)
        return {
            "macro_f1": found.f1,
            "accuracy": found.accuracy,
            "precision": found.precision,
            "recall": found.recall,
        }

    return Outcome(rows=len(truth_N), figures=figures)


def value_outcome(truth_N: F64, value_N: F64, mean: float) -> Outcome:
    """Return R2, MAE and RMSE over texts.

    Args:
        truth_N: what is so.
        value_N: what a head says.
        mean: of the values that the head learned from; R2 is against it.
    """

    def figures(rows: I64) -> dict[str, float]:
        found = value_figures(truth_N[rows], value_N[rows], mean)
        return {"r2": found.r2, "mae": found.mae, "rmse": found.rmse}

    return Outcome(rows=len(truth_N), figures=figures)


def ratio_outcome(name: str, sum_N: F64, count_N: F64) -> Outcome:
    """Return sum / count over rows: a mean of samples whose owners are drawn whole."""
    return Outcome(
        rows=len(sum_N),
        figures=lambda rows: {name: float(sum_N[rows].sum() / count_N[rows].sum())},
    )


def perplexity_outcome(nats_N: F64, tokens_N: F64) -> Outcome:
    """Return exp(nats per token) over texts."""
    return Outcome(
        rows=len(nats_N),
        figures=lambda rows: {
            "perplexity": float(np.exp(nats_N[rows].sum() / tokens_N[rows].sum()))
        },
    )
