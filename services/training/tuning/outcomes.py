"""A metric on held-out data, before and after, and the change with its interval."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.core.heads import bootstrap, label_figures, value_figures
from services.core.metrics import Interval
from services.core.pooling import F64, I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a metric is made of. Rows are drawn whole: users, items or texts."""

    rows: int
    # Of some rows, each as often as it is named.
    score: Callable[[I64], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A metric before and after, and the paired difference."""

    metric: str
    is_higher_better: bool
    before: Interval
    after: Interval
    change: Interval
    # Held-out users, items or texts.
    rows: int

    @property
    def is_better(self) -> bool:
        """Whether the interval of the change lies wholly on the good side."""
        return self.change.low > 0 if self.is_higher_better else self.change.high < 0

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, `is_better` with it."""
        return {
            "metric": self.metric,
            "is_higher_better": self.is_higher_better,
            "is_better": self.is_better,
            "rows": self.rows,
            **{
                name: {"value": said.mean, "ci": [said.low, said.high]}
                for name, said in (
                    ("before", self.before), ("after", self.after), ("change", self.change),
                )
            },
        }  # fmt: skip


def compare(
    metric: str, before: Outcome, after: Outcome, *, seed: int, is_higher_better: bool = True
) -> Change:
    """Measure before and after on the same rows, resampled together."""
    assert before.rows == after.rows, "both are of the same held-out rows"

    def figures(rows: I64) -> tuple[float, float, float]:
        was, now = before.score(rows), after.score(rows)
        return was, now, now - was

    first, then, change = bootstrap(figures, before.rows, np.random.default_rng(seed))
    return Change(
        metric=metric,
        is_higher_better=is_higher_better,
        before=first,
        after=then,
        change=change,
        rows=before.rows,
    )


def macro_f1(truth_N: I64, said_N: I64, classes: int) -> Outcome:
    """Return macro F1 over texts."""
    return Outcome(
        rows=len(truth_N),
        score=lambda rows: label_figures(truth_N[rows], said_N[rows], classes).f1,
    )


def r_squared(truth_N: F64, said_N: F64, mean: float) -> Outcome:
    """Return R2 over texts, against the mean of what was learned from."""
    return Outcome(
        rows=len(truth_N), score=lambda rows: value_figures(truth_N[rows], said_N[rows], mean).r2
    )


def ratio(sum_N: F64, count_N: F64) -> Outcome:
    """Return sum / count over rows: a mean of samples whose owners are drawn whole."""
    return Outcome(
        rows=len(sum_N), score=lambda rows: float(sum_N[rows].sum() / count_N[rows].sum())
    )


def perplexity(nll_N: F64, tokens_N: F64) -> Outcome:
    """Return exp(nats per token) over texts."""
    mean = ratio(nll_N, tokens_N)
    return Outcome(rows=mean.rows, score=lambda rows: float(np.exp(mean.score(rows))))
