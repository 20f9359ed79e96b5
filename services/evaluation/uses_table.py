"""What the vectors are for, as one table: each figure beside its naive counterpart.

`python -m services.evaluation.uses_table TITLE FOLDER MAIN` reads FOLDER/portraits/portraits.json,
FOLDER/bursts/report.json, FOLDER/demand/report.json (as the `driftline evaluate` commands wrote
them) and MAIN, the report of the evaluation itself; what is absent is named.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

Report = Mapping[str, Any]
# Method of each report that is naive, first ours.
PORTRAIT_RIVALS = ("last_week", "population")
BURST_RIVALS = ("zscore", "ruptures")
DEMAND_RIVALS = ("last_period", "seasonal_naive")
WIDTH = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class UseRow:
    """One figure."""

    use: str
    figure: str
    ours: float | None
    # Name -> value of what it stands beside.
    naive: Mapping[str, float | None]


def table_rows(folder: Path, main: Path) -> tuple[list[UseRow], list[str]]:
    """Return the figures that there are, and the files that are not there.

    Args:
        folder: of the three commands' reports.
        main: report.json of `driftline evaluate`.
    """
    sources = {
        folder / "portraits/portraits.json": portrait_rows,
        folder / "bursts/report.json": burst_rows,
        folder / "demand/report.json": demand_rows,
        main: main_rows,
    }
    rows: list[UseRow] = []
    absent = []
    for path, rows_of in sources.items():
        if path.exists():
            rows += rows_of(json.loads(path.read_text("utf-8")))
        else:
            absent.append(str(path))
    return rows, absent


def portrait_rows(report: Report) -> Iterator[UseRow]:
    """Yield rank correlation and error of portraits, by kind of label."""
    for kind, made in report["portraits"].items():
        methods = made["methods"]
        for figure in ("rank_correlation", "error"):
            yield UseRow(
                use="portrait", figure=f"{figure}, {kind}", ours=methods["portrait"][figure],
                naive={name: methods[name][figure] for name in PORTRAIT_RIVALS},
            )  # fmt: skip


def burst_rows(report: Report) -> Iterator[UseRow]:
    """Yield how bursts are found, and what knowing of them does to forecasts."""
    methods = report["bursts"]
    figures = ("f1", "false_alarms_per_user_year", "median_delay_periods", "type_macro_f1")
    for figure in figures:
        yield UseRow(
            use="burst", figure=figure, ours=methods["driftline"].get(figure),
            naive={name: methods[name].get(figure) for name in BURST_RIVALS if name in methods},
        )  # fmt: skip
    unaware = methods.get("driftline_unaware", {})
    for figure in ("nll_inside", "nll_outside"):
        yield UseRow(
            use="burst", figure=figure, ours=methods["driftline"].get(figure),
            naive={"knowing_of_none": unaware.get(figure)},
        )  # fmt: skip


def demand_rows(report: Report) -> Iterator[UseRow]:
    """Yield the error of topics' shares at each horizon, and how often the intervals hold."""
    for horizon, figures in report["demand"].items():
        share = figures["share"]
        ours = share["driftline"]
        yield UseRow(
            use="demand", figure=f"share MAE, {horizon}", ours=ours["mae"],
            naive={name: share[name]["mae"] for name in DEMAND_RIVALS if name in share},
        )  # fmt: skip
        for level in (80, 95):
            yield UseRow(
                use="demand", figure=f"coverage_{level}, {horizon}",
                ours=ours[f"coverage_{level}_published"], naive={"nominal": level / 100},
            )  # fmt: skip


def main_rows(report: Report) -> Iterator[UseRow]:
    """Yield what the evaluation says of reasons and of several interests; nothing of an old report."""
    for name, found in report.get("reasons", {}).get("lists", {}).items():
        yield UseRow(
            use="reasons", figure=f"cited matter more, {name}", ours=found.get("holds"),
            naive={"chance": 0.5},
        )  # fmt: skip
    several = report.get("several_interests", {})
    for part in ("all", "several"):
        if part in several:
            recall = {
                name: several[part][name]["recall_at_50"] for name in ("medoids", "one_vector")
            }
            yield UseRow(
                use="several interests", figure=f"recall_at_50, {part}", ours=recall["medoids"],
                naive={"one_vector": recall["one_vector"]},
            )  # fmt: skip
    if "coverage_at_50" in several:
        coverage = several["coverage_at_50"]
        yield UseRow(
            use="several interests", figure="coverage_at_50", ours=coverage["medoids"],
            naive={"one_vector": coverage["one_vector"]},
        )  # fmt: skip


def print_table(title: str, folder: Path, main: Path, console: Console) -> None:
    """Print the figures that there are, and say what is absent."""
    rows, absent = table_rows(folder, main)
    table = Table("use", "figure", "ours", "naive", title=title, title_justify="left", box=SIMPLE)
    for row in rows:
        naive = ", ".join(f"{name} {_said(value)}" for name, value in row.naive.items())
        table.add_row(row.use, row.figure, _said(row.ours), naive)
    if rows:
        console.print(table)
    for path in absent:
        console.print(f"{path} is not there: no figure of it", soft_wrap=True)


def _said(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    print_table(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Console(width=WIDTH))
