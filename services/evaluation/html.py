"""report.html: one file that needs nothing else."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from services.evaluation.plots import bars, skill_lines, time_line

TEMPLATE = "report.html"
SLICE_NOTES = {
    "all": "every item may be shown",
    "new": "only items that the user never had",
    "warm": "only items that somebody had before the origin",
    "cold": "only items first seen in the 30 days before the origin, or after it; those first seen "
    "after it always have an event there, so read this one with care",
    "cold_in_all": "the cold items again, searched for in the ranking of all items",
    "activity_none": "warm items; users without a past",
    "activity_low": "warm items; the third of users with the fewest active periods",
    "activity_mid": "warm items; the middle third of users by active periods",
    "activity_high": "warm items; the third of users with the most active periods",
    "gap_1": "warm items; users who were active in the period before the origin",
    "gap_2_3": "warm items; users last active two or three periods before the origin",
    "gap_4_plus": "warm items; users last active four or more periods before the origin",
}


def write_html(path: Path, report: dict[str, Any]) -> None:
    """Write the report."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["figure"] = _figure
    environment.filters["interval"] = _interval
    path.write_text(
        environment.get_template(TEMPLATE).render(
            report=report,
            slice_notes=SLICE_NOTES,
            losses=losses(report),
            time_line=Markup(time_line(report["dataset"], report["protocol"])),  # noqa: S704 - ours
            ranking_plots=_ranking_plots(report),
            skill_plot=Markup(skill_lines(report["forecast"])) if report["forecast"] else "",  # noqa: S704
        )
    )


def losses(report: dict[str, Any]) -> list[str]:
    """Return, in words, every comparison that ours does not win beyond doubt."""
    said = []
    for part, by_horizon in report["recommendation"].items():
        for horizon, table in by_horizon.items():
            for method, row in table.items():
                if method == "driftline":
                    continue
                low, high = row["driftline_gain_ndcg_at_10_ci"]
                if low <= 0.0:
                    verdict = "loses to" if high < 0.0 else "is not proven better than"
                    said.append(
                        f"{part}, {horizon}: ours {verdict} {method} "
                        f"(NDCG@10 difference {low:+.4f} to {high:+.4f})"
                    )
    for horizon, table in report["forecast"].items():
        ours = table["driftline"]["r2"]
        said += [
            f"forecast, {horizon}: {method} has R² {row['r2']:.4f}, ours {ours:.4f}"
            for method, row in table.items()
            if method != "driftline" and row["r2"] > ours
        ]
    return said


def _ranking_plots(report: dict[str, Any]) -> dict[str, Markup]:
    plots = {}
    for part, by_horizon in report["recommendation"].items():
        for horizon, table in by_horizon.items():
            svg = bars(table, "ndcg_at_10", "NDCG@10")
            plots[f"{part} {horizon}"] = Markup(svg)  # noqa: S704 - made here
    return plots


def _figure(value: float) -> str:
    return f"{value:.4f}"


def _interval(value: list[float]) -> str:
    return f"{value[0]:.4f} – {value[1]:.4f}"  # noqa: RUF001 - an en dash between two numbers
