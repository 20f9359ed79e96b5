"""Ours beside every other method, from an evaluation's figures: tables, verdicts, score.

A verdict rests on the paired interval of the difference on the same users where the evaluation has
one; else on whether the two intervals overlap. Losses are told like wins.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

OURS = "driftline"
NAIVE = ("popularity", "frequency", "frozen_mean", "persistence", "mean", "ema")
SLICES = {
    "all": "every item may be shown",
    "new": "only items the user never had",
    "warm": "only items somebody had before",
    "cold": "only items first seen shortly before, or after; read with care",
}
LABELS = {
    "recall_at_10": "Recall@10",
    "ndcg_at_10": "NDCG@10",
    "coverage_at_10": "Coverage@10",
    "r2": "R²",
    "rmse": "RMSE",
    "mse": "MSE",
    "cosine": "Cosine",
    "nll": "NLL",
    "coverage_80": "in 80% band",
    "coverage_95": "in 95% band",
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
}


class Verdict(StrEnum):
    """Ours against one other method."""

    WIN = "win"
    LOSS = "loss"
    OPEN = "open"
    SAME = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method's figures."""

    method: str
    is_ours: bool
    is_naive: bool
    # One per column; None where there is none.
    values: tuple[float | None, ...]
    # Interval of the table's main metric.
    interval: tuple[float, float] | None
    users: int | None
    # Ours minus this one, in the main metric; None for ours.
    gain: float | None
    gain_interval: tuple[float, float] | None
    verdict: Verdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One comparison: the same task for every method, ours first, then best first."""

    kind: str
    title: str
    note: str
    # The column that verdicts and intervals are about.
    main: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def ours(self) -> Row | None:
        """Our row."""
        return next((row for row in self.rows if row.is_ours), None)

    def best_naive(self) -> Row | None:
        """Return the naive method that is best in the main metric."""
        at = self.columns.index(self.main)
        naive = [row for row in self.rows if row.is_naive and row.values[at] is not None]
        return max(naive, key=lambda row: row.values[at] or 0.0, default=None)

    def main_value(self, row: Row) -> float:
        """Return a row's main figure."""
        return row.values[self.columns.index(self.main)] or 0.0


def tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """Return every comparison an evaluation holds, in its order."""
    found = []
    for part, by_horizon in (evaluation.get("recommendation") or {}).items():
        for horizon, methods in by_horizon.items():
            found.append(
                _table(
                    methods,
                    kind="recommendation",
                    title=f"{part.capitalize()} items, {_ahead(horizon, evaluation)}",
                    note=SLICES.get(part, ""),
                    main="ndcg_at_10",
                )
            )
    for horizon, methods in (evaluation.get("forecast") or {}).items():
        found.append(
            _table(
                methods,
                kind="forecast",
                title=f"{_ahead(horizon, evaluation).capitalize()}",
                note="",
                main="r2",
            )
        )
    return found


def score(compared: list[Table]) -> dict[Verdict, list[tuple[Table, Row]]]:
    """Return each verdict with the comparisons it stands in."""
    found: dict[Verdict, list[tuple[Table, Row]]] = {verdict: [] for verdict in Verdict}
    for table in compared:
        for row in table.rows:
            if row.verdict is not None:
                found[row.verdict].append((table, row))
    return found


def _ahead(horizon: str, evaluation: Mapping[str, Any]) -> str:
    count = int(horizon.removeprefix("h"))
    unit = (evaluation.get("dataset") or {}).get("granularity", "week")
    return f"next {unit}" if count == 1 else f"{count} {unit}s ahead"


def _table(
    methods: Mapping[str, Mapping[str, Any]], *, kind: str, title: str, note: str, main: str
) -> Table:
    columns = tuple(
        name
        for name in LABELS
        if any(isinstance(m.get(name), int | float) for m in methods.values())
    )
    ours = methods.get(OURS, {})
    rows = [_row(name, figures, ours, columns, main) for name, figures in methods.items()]
    rows.sort(key=lambda row: (not row.is_ours, -(row.values[columns.index(main)] or 0.0)))
    return Table(kind=kind, title=title, note=note, main=main, columns=columns, rows=tuple(rows))


def _row(
    name: str,
    figures: Mapping[str, Any],
    ours: Mapping[str, Any],
    columns: tuple[str, ...],
    main: str,
) -> Row:
    is_ours = name == OURS
    gain = None
    gain_interval = _interval(figures.get(f"driftline_gain_{main}_ci"))
    if not is_ours and main in ours and main in figures:
        gain = float(figures.get(f"driftline_gain_{main}", ours[main] - figures[main]))
    return Row(
        method=name,
        is_ours=is_ours,
        is_naive=name in NAIVE,
        values=tuple(_number(figures.get(column)) for column in columns),
        interval=_interval(figures.get(f"{main}_ci")),
        users=figures.get("users"),
        gain=gain,
        gain_interval=gain_interval,
        verdict=None if gain is None else _verdict(gain, gain_interval, figures, ours, main),
    )


def _verdict(
    gain: float,
    gain_interval: tuple[float, float] | None,
    figures: Mapping[str, Any],
    ours: Mapping[str, Any],
    main: str,
) -> Verdict:
    if all(ours.get(name) == figures.get(name) for name in LABELS):
        return Verdict.SAME
    if gain_interval is not None:
        low, high = gain_interval
    else:
        mine, theirs = _interval(ours.get(f"{main}_ci")), _interval(figures.get(f"{main}_ci"))
        if mine is None or theirs is None:
            return Verdict.OPEN
        # Worst case of each end: what is left apart is apart whatever the pairing.
        low, high = mine[0] - theirs[1], mine[1] - theirs[0]
    if low > 0.0:
        return Verdict.WIN
    return Verdict.LOSS if high < 0.0 else Verdict.OPEN


def _interval(given: Any) -> tuple[float, float] | None:
    return None if given is None else (float(given[0]), float(given[1]))


def _number(given: Any) -> float | None:
    return float(given) if isinstance(given, int | float) else None
