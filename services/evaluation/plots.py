"""Plots of the report, as SVG text to embed."""

import io
from datetime import datetime
from typing import Any

import matplotlib as mpl
from matplotlib.dates import date2num

mpl.use("svg")
# One id salt and no date: equal figures are equal bytes.
mpl.rcParams["svg.hashsalt"] = "driftline"
from matplotlib import pyplot as plt  # noqa: E402 - the backend is chosen first
from matplotlib.figure import Figure  # noqa: E402

OURS_COLOUR, OTHER_COLOUR = "#1f6feb", "#9aa4b2"


def time_line(dataset: dict[str, Any], protocol: dict[str, Any]) -> str:
    """Draw where training ends, which periods choose constants, where the origins stand."""
    figure, axis = plt.subplots(figsize=(9, 1.5))
    first = datetime.fromisoformat(dataset["first_event"])
    validation, *_ = (datetime.fromisoformat(text) for text in protocol["validation"])
    origins = [datetime.fromisoformat(text) for text in protocol["origins"]]
    end = datetime.fromisoformat(protocol["data_end"])
    spans = (
        (first, origins[0], OTHER_COLOUR, "training"),
        (validation, origins[0], "#d9a514", "choosing constants (inside training)"),
        (origins[0], end, OURS_COLOUR, "test"),
    )
    for start, stop, colour, label in spans:
        axis.barh(0, (stop - start).days, left=date2num(start), color=colour, label=label)
    axis.plot(date2num(origins), [0] * len(origins), "|", color="white", markersize=18)
    axis.xaxis_date()
    axis.set_yticks([])
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncol=3, frameon=False)
    return _svg(figure)


def bars(table: dict[str, dict[str, Any]], figure_name: str, label: str) -> str:
    """Draw one figure of every method with its interval, best on top."""
    order = sorted(table, key=lambda name: float(table[name][figure_name]))
    value = [table[name][figure_name] for name in order]
    low_high = [table[name][f"{figure_name}_ci"] for name in order]
    below = [max(v - low, 0.0) for v, (low, _) in zip(value, low_high, strict=True)]
    above = [max(high - v, 0.0) for v, (_, high) in zip(value, low_high, strict=True)]
    figure, axis = plt.subplots(figsize=(6, 0.32 * len(order) + 0.8))
    colours = [OURS_COLOUR if name == "driftline" else OTHER_COLOUR for name in order]
    axis.barh(order, value, xerr=[below, above], color=colours, ecolor="#30363d", capsize=2)
    axis.set_xlabel(label)
    return _svg(figure)


def skill_lines(forecast: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Draw R2 by horizon; forecasters far below zero are in the table only."""
    figure, axis = plt.subplots(figsize=(6, 3))
    horizons = [int(name[1:]) for name in forecast]
    names = next(iter(forecast.values()))
    for name in names:
        value = [forecast[f"h{h}"].get(name, {}).get("r2", float("nan")) for h in horizons]
        if min(value) < -0.2:
            continue
        is_ours = name == "driftline"
        axis.plot(
            horizons, value, marker="o", label=name, linewidth=2.5 if is_ours else 1.2,
            zorder=3 if is_ours else 2,
        )  # fmt: skip
    axis.set_xticks(horizons)
    axis.set_xlabel("periods ahead")
    axis.set_ylabel("R² against the cross-user mean")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _svg(figure)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    # From the svg element on: an XML prologue has no place inside HTML.
    return text.getvalue()[text.getvalue().index("<svg") :]
