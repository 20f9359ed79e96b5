"""Plots of what the vectors are for: a portrait, a burst, a topic's demand; SVG like plots.py.

Shape suffixes: P = weeks.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from textwrap import shorten

import numpy as np
from driftline import DemandRange, DemandStep, Profile, TopicInterest, TopicStanding, TopicTrend
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

from services.core.burst_state import Bools
from services.core.periods import period_from_name
from services.core.pooling import F64
from services.core.schema import Granularity
from services.demo.burst_example import BurstExample
from services.demo.demand_story import DemandStory
from services.demo.theme import (
    CATEGORY,
    GRID,
    INK,
    MUTED,
    OURS,
    REST,
    plain_text,
    svg_of,
    themed_panels,
)

ARROWS = {
    TopicTrend.RISING: "▲ rising",
    TopicTrend.FADING: "▼ fading",
    TopicTrend.STEADY: "steady",
    TopicTrend.UNKNOWN: "",
}
MARKS = {TopicTrend.RISING: " ▲", TopicTrend.FADING: " ▼"}
STANDINGS = {
    TopicStanding.CORE: "core",
    TopicStanding.FLING: "fling",
    TopicStanding.NEITHER: "",
}
CORE, FLING, CHANGE = OURS, CATEGORY[2], CATEGORY[4]
LABEL_WIDTH = 34
HALF_WEEK = timedelta(days=3.5)


def portrait_plot(profile: Profile) -> str:
    """Draw each topic's weight with its 95% interval, and when its events were; newest weeks right."""
    topics = profile.topics
    height = 0.9 + 0.4 * len(topics)
    figure, (weights, times) = themed_panels(9.6, height, [1.0], columns=[1.0, 1.35])
    rows = np.arange(len(topics))
    for row, topic in zip(rows, topics, strict=True):
        colour = _colour(topic.standing)
        weights.plot([topic.weight_low, topic.weight_high], [row, row], color=colour, linewidth=3,
                     alpha=0.45, solid_capstyle="round")  # fmt: skip
        weights.scatter([topic.weight], [row], s=42, c=colour, linewidths=0, zorder=3)
        _when(times, topic, float(row), colour)
    for axis in (weights, times):
        axis.set_ylim(len(topics) - 0.4, -0.6)
        axis.tick_params(length=0)
        axis.spines[["left"]].set_visible(False)
    names = [_label(topic.name) + MARKS.get(topic.trend, "") for topic in topics]
    weights.set_yticks(rows, names, color=INK)
    times.set_yticks([])
    weights.set_xlim(left=0.0)
    weights.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    weights.set_title("share of interest, 95% interval", color=MUTED, loc="left")
    times.set_title("weeks of its events, ◆ its share changed", color=MUTED, loc="left")
    _dates(times)
    return svg_of(figure)


def burst_plot(example: BurstExample) -> str:
    """Draw what moved, the evidence and the forecasts' width, week below week."""
    watched = example.watched
    when = _middles(watched.week_starts)
    active = watched.count_P > 0
    figure, (moved, evidence, width) = themed_panels(7.4, 6.2, [1.25, 1.0, 1.0])
    for axis in (moved, evidence, width):
        _shade(axis, example)
        axis.tick_params(length=0)
        axis.margins(x=0.02)
    noise = 1.96 * watched.noise_P
    moved.fill_between(when[active], -noise[active], noise[active], color=REST, alpha=0.45,
                       linewidth=0, zorder=1)  # fmt: skip
    _dots(moved, when, watched.moved_P, np.abs(watched.moved_P) > noise)
    moved.axhline(0.0, color=GRID, linewidth=1, zorder=0)
    moved.set_title(plain_text(f"share of the week moved to {example.topic_name or 'the topic'}; "
                          "grey: 95% of noise alone"), color=MUTED, loc="left")  # fmt: skip
    moved.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    evidence.vlines(when[active], 0.0, watched.evidence_P[active], color=MUTED, linewidth=2)
    _dots(evidence, when, watched.evidence_P, watched.evidence_P > watched.threshold)
    evidence.axhline(watched.threshold, color=CHANGE, linewidth=1.2, linestyle=(0, (4, 3)))
    evidence.text(when[0], watched.threshold, " alarm", color=CHANGE, va="bottom", fontsize=8.5)
    evidence.set_title("evidence, nats (it starts anew after an alarm)", color=MUTED, loc="left")
    evidence.set_ylim(0.0, 1.18 * max(watched.threshold, float(np.nanmax(watched.evidence_P))))
    width.plot(when[active], watched.plain_width_P[active], color=MUTED, linewidth=1.6)
    width.plot(when[active], watched.width_P[active], color=OURS, linewidth=2.2)
    width.set_title("width of next week's forecast: served, and (grey) knowing of no bursts",
                    color=MUTED, loc="left")  # fmt: skip
    _dates(width)
    return svg_of(figure)


def demand_plot(story: DemandStory) -> str:
    """Draw a topic's audience and share: what was published, and the fan of what is expected."""
    topic, granularity = story.drawn, Granularity(story.demand.basis.granularity.value)
    figure, panels = themed_panels(7.4, 4.8, [1.0, 1.0])
    past = _period_middles([one.period for one in topic.history], granularity)
    ahead = _period_middles([one.period for one in topic.forecasts], granularity)
    unit = granularity.value
    users = [float(one.audience) for one in topic.history]
    shares = [one.share for one in topic.history]
    _fan(panels[0], past, users, ahead, topic.forecasts, lambda step: step.audience)
    _fan(panels[1], past, shares, ahead, topic.forecasts, lambda step: step.share)
    panels[0].set_title(f"users a {unit}", color=MUTED, loc="left")
    panels[1].set_title("share of all demand", color=MUTED, loc="left")
    panels[1].yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    _dates(panels[1])
    return svg_of(figure)


def _fan(
    axis: Axes, past_P: F64, value_P: Sequence[float], ahead: F64, steps: Sequence[DemandStep],
    of: Callable[[DemandStep], DemandRange],
) -> None:  # fmt: skip
    ranges = [of(step) for step in steps]
    axis.plot(past_P, value_P, color=MUTED, linewidth=1.6)
    axis.scatter(past_P, value_P, s=9, c=MUTED, linewidths=0)
    for low, high, alpha in (("low_95", "high_95", 0.14), ("low_80", "high_80", 0.26)):
        axis.fill_between(ahead, [getattr(one, low) for one in ranges],
                          [getattr(one, high) for one in ranges], color=OURS, alpha=alpha,
                          linewidth=0)  # fmt: skip
    axis.plot(ahead, [one.mean for one in ranges], color=OURS, linewidth=2.2)
    if len(past_P):
        axis.axvline((past_P[-1] + ahead[0]) / 2, color=GRID, linewidth=1, zorder=0)
    last = ranges[-1]
    for value, label in ((last.high_95, "95%"), (last.high_80, "80%")):
        axis.annotate(label, (ahead[-1], value), xytext=(5, 0), textcoords="offset points",
                      va="center", color=OURS, fontsize=8.5)  # fmt: skip
    axis.set_ylim(bottom=0.0)
    axis.tick_params(length=0)


def _when(axis: Axes, topic: TopicInterest, row: float, colour: str) -> None:
    """Draw the weeks of a topic's events, those its standing rests on, and its change."""
    fling = topic.standing_evidence if topic.standing is TopicStanding.FLING else None
    spans = ((topic.evidence, 2.0, 0.5), (fling, 8.0, 0.8))
    for evidence, width, alpha in spans:
        if evidence is None:
            continue
        start, end = _week(evidence.first_week), _week(evidence.last_week) + 2 * HALF_WEEK
        axis.plot([date2num(start), date2num(end)], [row, row], color=colour, linewidth=width,
                  alpha=alpha, solid_capstyle="butt")  # fmt: skip
    if topic.change is not None:
        at = float(date2num(_week(topic.change.week)))
        axis.scatter([at], [row], s=44, marker="D", c=CHANGE, linewidths=0, zorder=4)
        axis.annotate(f"{topic.change.share_before:.0%} → {topic.change.share_after:.0%}",
                      (at, row), xytext=(0, 7), textcoords="offset points", ha="center",
                      color=INK, fontsize=8.5)  # fmt: skip


def _shade(axis: Axes, example: BurstExample) -> None:
    """Shade the weeks of every burst within what is drawn; the one shown more."""
    starts = example.watched.week_starts
    spans = [(one.first_week, one.last_week, one == example.shown) for one in example.bursts]
    if example.shown is None:
        spans.append((example.first_week, example.last_week, False))
    for first, last, is_shown in spans:
        begin, end = _week(first), _week(last) + 2 * HALF_WEEK
        if end > starts[0]:
            axis.axvspan(float(date2num(begin)), float(date2num(end)), color=CHANGE, linewidth=0,
                         alpha=0.2 if is_shown else 0.09, zorder=0)  # fmt: skip


def _dots(axis: Axes, when_P: F64, value_P: F64, is_over_P: Bools) -> None:
    for is_marked, colour in ((False, MUTED), (True, CHANGE)):
        rows = np.isfinite(value_P) & (is_over_P == is_marked)
        axis.scatter(when_P[rows], value_P[rows], s=22, c=colour, linewidths=0, zorder=3)


def _colour(standing: TopicStanding) -> str:
    return {TopicStanding.CORE: CORE, TopicStanding.FLING: FLING}.get(standing, MUTED)


def _dates(axis: Axes) -> None:
    locator = AutoDateLocator(minticks=4, maxticks=8)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _middles(starts: Sequence[datetime]) -> F64:
    middles: F64 = np.asarray(date2num([start + HALF_WEEK for start in starts]), np.float64)
    return middles


def _period_middles(periods: Sequence[str], granularity: Granularity) -> F64:
    spans = [period_from_name(granularity, name) for name in periods]
    middles: F64 = np.asarray(
        date2num([one.start + (one.end - one.start) / 2 for one in spans]), np.float64
    )
    return middles


def _week(name: str) -> datetime:
    return period_from_name(Granularity.WEEK, name).start


def _label(name: str) -> str:
    return plain_text(shorten(name, LABEL_WIDTH, placeholder=" …"))
