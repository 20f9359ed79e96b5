"""report.html: one file that needs nothing else."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from services.evaluation import plots

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


def template(name: str) -> Template:
    """Return a page of this folder, with the filters `figure` and `interval`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["figure"] = _figure
    environment.filters["interval"] = _interval
    return environment.get_template(name)


def write_html(path: Path, report: dict[str, Any]) -> None:
    """Write the report."""
    path.write_text(
        template(TEMPLATE).render(
            report=report,
            slice_notes=SLICE_NOTES,
            losses=losses(report),
            time_line=Markup(plots.time_line(report["dataset"], report["protocol"])),  # nosec B704  # noqa: S704 - ours
            ranking_plots=_ranking_plots(report),
            plots={name: Markup(svg) for name, svg in _plots(report).items()},  # nosec B704  # noqa: S704
        )
    )


def losses(report: dict[str, Any]) -> list[str]:
    """Return, in words, every comparison that ours does not win beyond doubt."""
    said = []
    variants = report.get("protocol", {}).get("variants", [])
    for part, by_horizon in report["recommendation"].items():
        for horizon, table in by_horizon.items():
            lost: list[str] = []
            unproven: list[str] = []
            for method, row in table.items():
                if method == "driftline" or method in variants:
                    continue
                low, high = row["driftline_gain_ndcg_at_10_ci"]
                if low <= 0.0:
                    difference = f"{method} ({low:+.4f} to {high:+.4f})"
                    (lost if high < 0.0 else unproven).append(difference)
            if lost:
                said.append(f"{part}, {horizon}: ours loses to {', '.join(lost)}")
            if unproven:
                said.append(
                    f"{part}, {horizon}: ours is not proven better than {', '.join(unproven)}"
                )
    for horizon, table in report["forecast"].items():
        said += _forecast_losses(horizon, table)
    return said


def _forecast_losses(horizon: str, table: dict[str, dict[str, Any]]) -> list[str]:
    """Return, in words, which forecasters do better than the served one."""
    ours, said = table["driftline"], []
    for method, row in table.items():
        if method == "driftline":
            continue
        if row.get("samples") == ours.get("samples"):
            if row["r2"] > ours["r2"]:
                said.append(f"{method} has R² {row['r2']:.4f}, ours {ours['r2']:.4f}")
        # Measured on other users: what it saves of EMA's error can be compared, R² cannot.
        elif row["skill_over_ema"] > ours["skill_over_ema"]:
            mine, theirs = ours["skill_over_ema"], row["skill_over_ema"]
            said.append(f"{method} saves {theirs:.1%} of EMA's error on few users, ours {mine:.1%}")
    return [f"forecast, {horizon}: {words}" for words in said]


def _plots(report: dict[str, Any]) -> dict[str, str]:
    drawn = {"learning": plots.learning_curves(report["training"])}
    if report["forecast"]:
        drawn["skill"] = plots.skill_lines(report["forecast"])
        drawn["calibration"] = plots.calibration(report["forecast"])
    if report["forecast_fans"]:
        drawn["fans"] = plots.fans(report["forecast_fans"])
    return {"skill": "", "calibration": "", "fans": ""} | drawn


def _ranking_plots(report: dict[str, Any]) -> dict[str, Markup]:
    drawn = {}
    for part, by_horizon in report["recommendation"].items():
        for horizon, table in by_horizon.items():
            svg = plots.bars(table, "ndcg_at_10", "NDCG@10")
            drawn[f"{part} {horizon}"] = Markup(svg)  # nosec B704  # noqa: S704 - made here
    return drawn


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _interval(value: list[float] | None) -> str:
    return "" if value is None else f"{value[0]:.4f} – {value[1]:.4f}"  # noqa: RUF001 - an en dash between two numbers
