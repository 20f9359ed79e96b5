"""Plots of the report, as SVG text to embed."""

import io
from datetime import datetime
from typing import Any

import matplotlib as mpl
import numpy as np
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


def learning_curves(curves: dict[str, list[list[float]]]) -> str:
    """Draw each training's loss by epoch, a small plot each; those of one point are left out."""
    drawn = {name: points for name, points in curves.items() if len(points) > 1}
    families: dict[str, list[str]] = {}
    for name in drawn:
        families.setdefault(name.removesuffix(" validation"), []).append(name)
    if not families:
        return ""
    figure, axes = plt.subplots(
        1, len(families), figsize=(3.2 * len(families), 2.4), squeeze=False, layout="constrained"
    )
    for axis, (family, names) in zip(axes[0], families.items(), strict=True):
        for name in names:
            is_held = name.endswith(" validation")
            x, y = zip(*drawn[name], strict=True)
            axis.plot(
                x, y, marker="o", markersize=3, label="held out" if is_held else "trained on",
                color=OURS_COLOUR if is_held else OTHER_COLOUR,
            )  # fmt: skip
        axis.set_title(family, fontsize=9)
        axis.set_xlabel("epochs")
        if len(names) > 1:
            axis.legend(frameon=False, fontsize=8)
    return _svg(figure)


def calibration(forecast: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Draw how many truths fell inside ours' central intervals of each nominal share."""
    figure, axis = plt.subplots(figsize=(3.6, 3.6))
    axis.plot([0, 1], [0, 1], color=OTHER_COLOUR, linewidth=1)
    for horizon, table in forecast.items():
        nominal, observed = zip(*table["driftline"]["calibration"], strict=True)
        axis.plot(nominal, observed, marker="o", markersize=3, label=f"{horizon[1:]} ahead")
    axis.set_xlabel("nominal share of a central interval")
    axis.set_ylabel("share of truths inside")
    axis.legend(frameon=False, fontsize=8)
    return _svg(figure)


def fans(drawn: list[dict[str, Any]]) -> str:
    """Draw what was, what was foretold with 80% and 95% bands, and what came."""
    figure, axes = plt.subplots(
        1, len(drawn), figsize=(3.2 * len(drawn), 2.6), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, fan in zip(axes[0], drawn, strict=True):
        mean, scale = np.asarray(fan["mean"]), np.asarray(fan["scale"])
        ahead = np.arange(len(mean))
        for width, alpha in ((1.96, 0.15), (1.2816, 0.25)):
            axis.fill_between(
                ahead, mean - width * scale, mean + width * scale,
                color=OURS_COLOUR, alpha=alpha, linewidth=0,
            )  # fmt: skip
        axis.plot(ahead, mean, color=OURS_COLOUR)
        for points, colour in ((fan["past"], OTHER_COLOUR), (fan["came"], "#30363d")):
            if points:
                axis.plot(*zip(*points, strict=True), "o", markersize=3, color=colour)
        axis.set_title(f"{fan['active_periods']} active periods", fontsize=9)
        axis.set_xlabel("periods from the origin")
    return _svg(figure)


def recall_lines(parts: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """Draw each method's recall by part of the planted bursts, a small plot a part."""
    names = list(parts["driftline"])
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.2 * len(names), 2.6), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, part in zip(axes[0], names, strict=True):
        for method, by_part in parts.items():
            rows = by_part[part]
            is_ours = method == "driftline"
            axis.plot(
                list(rows), [row[0] for row in rows.values()], marker="o", markersize=4,
                label=method, linewidth=2.5 if is_ours else 1.2,
            )  # fmt: skip
        axis.set_title(part, fontsize=9)
        axis.tick_params(axis="x", labelsize=7, rotation=30)
        axis.set_ylim(0, 1)
    axes[0][0].set_ylabel("recall")
    axes[0][0].legend(frameon=False, fontsize=8)
    return _svg(figure)


def burst_example(drawn: dict[str, Any]) -> str:
    """Draw a user's periods along a burst's topic: when it was planted, when it was told of."""
    figure, axis = plt.subplots(figsize=(7.5, 3))
    axis.axvspan(drawn["first"] - 0.5, drawn["last"] + 0.5, color="#d9a514", alpha=0.25,
                 linewidth=0, label="planted")  # fmt: skip
    period, position, events = zip(*drawn["points"], strict=True)
    axis.plot(period, position, color=OTHER_COLOUR, linewidth=1, zorder=2)
    axis.scatter(period, position, s=[8 + 2 * n for n in events], color=OTHER_COLOUR, zorder=3,
                 label="a period; larger: more events")  # fmt: skip
    at = dict(zip(period, position, strict=True))
    told = [t for t, _ in drawn["told"]]
    axis.scatter(told, [at[t] for t in told], s=90, facecolors="none", edgecolors=OURS_COLOUR,
                 linewidths=2, zorder=4, label="told of, with its estimated share")  # fmt: skip
    for t, share in drawn["told"]:
        axis.annotate(f"{share:.0%}", (t, at[t]), textcoords="offset points", xytext=(0, 9),
                      ha="center", fontsize=8, color=OURS_COLOUR)  # fmt: skip
    axis.set_xlabel("periods from the onset")
    axis.set_ylabel("cosine with the topic")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _svg(figure)


def demand_fan(drawn: dict[str, Any]) -> str:
    """Draw a topic's share as it was published, and what was foretold of its last periods."""
    figure, axis = plt.subplots(figsize=(9, 3))
    count, ahead = len(drawn["periods"]), len(drawn["mean"])
    x = np.arange(count - ahead, count)
    for low, high, alpha in (("0.025", "0.975", 0.15), ("0.1", "0.9", 0.25)):
        axis.fill_between(
            x, drawn["bounds"][low], drawn["bounds"][high], color=OURS_COLOUR, alpha=alpha,
            linewidth=0,
        )  # fmt: skip
    axis.plot(x, drawn["mean"], color=OURS_COLOUR, label="expected")
    published = [float("nan") if value is None else value for value in drawn["published"]]
    axis.plot(np.arange(count), published, "o-", color="#30363d", markersize=3, linewidth=0.8,
              label="published")  # fmt: skip
    shown = np.linspace(0, count - 1, min(count, 8)).astype(int)
    axis.set_xticks(shown, [drawn["periods"][at] for at in shown])
    axis.set_ylabel("share of the volume")
    axis.legend(frameon=False, fontsize=8)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    # From the svg element on: an XML prologue has no place inside HTML.
    return text.getvalue()[text.getvalue().index("<svg") :]
