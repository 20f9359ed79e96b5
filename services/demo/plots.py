"""Plots of one user's year, as SVG to stand inside a page.

Colours are the page's CSS variables, so that one plot serves light and dark: figures are drawn in
stand-in colours that `theme.py` replaces.

Shape suffixes: P = weeks with events, H = weeks ahead, D = vector width, C = categories.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

from services.core.pooling import F64
from services.core.records import F32
from services.demo.report import UserStory
from services.demo.theme import (
    CATEGORY,
    GRID,
    INK,
    MUTED,
    OURS,
    RAMP,
    RAMP_STEPS,
    REST,
    SERIES,
    SURFACE,
    plain_text,
    svg_of,
    themed_axes,
)

# Half-life of the line drawn through noisy weeks, in weeks.
SMOOTH_WEEKS = 3.0
BAND_80, BAND_95 = 1.2816, 1.96
ANCHORS = 9
HISTORY_WEEKS = 26
# Points of a drawn line for each of its own.
BETWEEN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """The two directions in which one user's weeks differ most."""

    centre_D: F64
    # Orthonormal rows.
    axes_2D: F64
    # Share of the weeks' variance along each.
    share: tuple[float, float]

    def place(self, vectors: "F32 | F64") -> F64:
        """Return positions [n, 2] of vectors [n, D]."""
        placed: F64 = (np.asarray(vectors, np.float64) - self.centre_D) @ self.axes_2D.T
        return placed


def plane_of(vectors_PD: F32, counts: Sequence[int]) -> Plane:
    """Fit the plane by principal components of the running mean of the weeks.

    Of the weeks themselves it would show which noise is largest; this shows where the mean moved.
    The sign is such that the newest lies to the right and above.

    Raises:
        ValueError: fewer than three weeks have no plane.
    """
    if len(vectors_PD) < 3:
        raise ValueError("a trajectory of fewer than three weeks cannot be drawn")
    line = smoothed(vectors_PD, counts)
    centre = line.mean(axis=0)
    _, _, axes = np.linalg.svd(line - centre, full_matrices=False)
    newest = (line[-1] - centre) @ axes[:2].T
    apart = np.asarray(vectors_PD, np.float64)
    apart = apart - apart.mean(axis=0)
    share = ((apart @ axes[:2].T) ** 2).sum(axis=0) / max(float((apart**2).sum()), 1e-12)
    return Plane(
        centre_D=centre,
        axes_2D=axes[:2] * np.where(newest < 0, -1.0, 1.0)[:, None],
        share=(float(share[0]), float(share[1])),
    )


def smoothed(vectors_PD: F32, counts: Sequence[int]) -> F64:
    """Return the running mean of vectors, centred, weighted by event counts and nearness."""
    at = np.arange(len(vectors_PD))
    weight = np.exp2(-np.abs(at[:, None] - at) / SMOOTH_WEEKS) * np.sqrt(np.asarray(counts))
    mean: F64 = (weight / weight.sum(axis=1, keepdims=True)) @ np.asarray(vectors_PD, np.float64)
    return mean


def trajectory_plot(user: UserStory) -> str:
    """Draw the weeks in the plane, coloured by time, with categories as faint landmarks."""
    plane = plane_of(user.vectors_PD, user.event_counts)
    points, line = (
        plane.place(user.vectors_PD),
        plane.place(smoothed(user.vectors_PD, user.event_counts)),
    )
    figure, axis = themed_axes(5.6, 4.2)
    box = _box(points)
    _landmarks(axis, user, plane, line, box)
    step = _ramp_steps(len(points))
    sizes = 8 + 34 * np.sqrt(np.asarray(user.event_counts) / max(user.event_counts))
    axis.scatter(
        points[:, 0],
        points[:, 1],
        s=sizes,
        c=[RAMP[s] for s in step],
        alpha=0.55,
        linewidths=0,
        zorder=3,
    )
    fine = _dense(line)
    segments = np.stack([fine[:-1], fine[1:]], axis=1)
    colours = [RAMP[s] for s in _ramp_steps(len(segments))]
    axis.add_collection(LineCollection(segments.tolist(), colors=SURFACE, linewidths=5, zorder=4))
    axis.add_collection(
        LineCollection(
            segments.tolist(), colors=colours, linewidths=2.6, zorder=5, capstyle="round"
        )
    )
    _milestones(axis, line, user.period_starts)
    axis.set(xlim=box[0], ylim=box[1], xticks=[], yticks=[])
    axis.set_xlabel(f"main direction of drift, {plane.share[0]:.0%} of the weeks' variance")
    axis.set_ylabel(f"second direction, {plane.share[1]:.0%}")
    return svg_of(figure)


def forecast_plot(user: UserStory) -> str:
    """Draw weeks and forecast along the first principal component, with 80% and 95% bands."""
    plane = plane_of(user.vectors_PD, user.event_counts)
    shown = slice(-HISTORY_WEEKS, None)
    past = plane.place(user.vectors_PD)[shown, 0]
    line = plane.place(smoothed(user.vectors_PD, user.event_counts))[shown, 0]
    when = _middles(user.period_starts[shown])
    ahead = _middles(user.forecast_starts)
    mean = plane.place(user.forecast_means_HD)[:, 0]
    scale = projected_scale(user.forecast_scales_HD, plane.axes_2D[0], user.vectors_PD)
    figure, axis = themed_axes(5.6, 3.6)
    counts = np.asarray(user.event_counts[shown])
    axis.scatter(when, past, s=8 + 34 * np.sqrt(counts / counts.max()), c=MUTED, alpha=0.6,
                 linewidths=0, zorder=3)  # fmt: skip
    axis.plot(when, line, color=MUTED, linewidth=1.6, zorder=3)
    edges = _widened(ahead)
    for times, alpha in ((BAND_95, 0.14), (BAND_80, 0.24)):
        low, high = _held(mean - times * scale), _held(mean + times * scale)
        axis.fill_between(edges, low, high, color=OURS, alpha=alpha, linewidth=0, zorder=1)
    axis.plot(edges, _held(mean), color=OURS, linewidth=2.2, zorder=4)
    now = float(date2num(user.forecast_starts[0]))
    axis.axvline(now, color=GRID, linewidth=1, zorder=0)
    axis.margins(y=0.16)
    top = axis.get_ylim()[1]
    axis.text(now - 1.5, top, "observed", ha="right", va="top", color=MUTED)
    axis.text(now + 1.5, top, "forecast", ha="left", va="top", color=OURS)
    axis.set_xlim(when[0] - 4, edges[-1] + 18)
    _band_labels(axis, float(edges[-1]), float(mean[-1]), float(scale[-1]))
    _poles(axis, user, plane)
    _dates(axis)
    return svg_of(figure)


def categories_plot(user: UserStory) -> str:
    """Draw each month's shares of the strongest categories, stacked; the rest is one grey band."""
    labels, share_CM, totals = category_shares(user.months, user.category_counts)
    figure, axis = themed_axes(5.6, 3.6)
    x = np.arange(len(user.months))
    base = np.zeros(len(x))
    spots = []
    for row, label in enumerate(labels):
        top = base + share_CM[row]
        colour = REST if label == REST_LABEL else CATEGORY[row]
        axis.fill_between(x, base, top, facecolor=colour, edgecolor=SURFACE, linewidth=1.2)
        spots.append(((base[-1] + top[-1]) / 2, label, colour))
        base = top
    gap = 0.062
    spread = _spread([at for at, _, _ in spots], gap)
    for (at, label, colour), y in zip(spots, spread, strict=True):
        axis.plot([x[-1] + 0.06, x[-1] + 0.3], [at, y], color=colour, linewidth=1.4, clip_on=False)
        axis.text(x[-1] + 0.38, y, plain_text(label), va="center", color=INK, fontsize=9)
    axis.set(xlim=(x[0], x[-1]), ylim=(0, 1), yticks=[0, 0.25, 0.5, 0.75, 1])
    axis.set_yticklabels(["0%", "25%", "50%", "75%", "100%"])
    axis.set_xticks(x, [f"{_month(name)}\n{total}" for name, total in
                        zip(user.months, totals, strict=True)])  # fmt: skip
    axis.tick_params(length=0, pad=6)
    axis.spines[["left", "bottom"]].set_visible(False)
    return svg_of(figure)


REST_LABEL = "everything else"


def category_shares(
    months: Sequence[str], counts: Mapping[str, Sequence[int]]
) -> tuple[list[str], F64, list[int]]:
    """Return labels, shares [C, months] and events per month; small categories are summed.

    A month without events has no shares: zeros.
    """
    table = {label: np.asarray(row, np.float64) for label, row in counts.items()}
    order = sorted(table, key=lambda label: -table[label].sum())
    kept = order[:SERIES]
    rows = [table[label] for label in kept]
    labels = list(kept)
    if len(order) > len(kept):
        rows.append(np.sum([table[label] for label in order[len(kept) :]], axis=0))
        labels.append(REST_LABEL)
    stacked = np.asarray(rows).reshape(len(rows), len(months))
    totals = stacked.sum(axis=0)
    shares: F64 = np.divide(
        stacked,
        totals,
        out=np.zeros_like(stacked),
        where=np.broadcast_to(totals > 0, stacked.shape),
    )
    return labels, shares, [int(total) for total in totals]


def projected_scale(scales_HD: F32, axis_D: F64, vectors_PD: F32) -> F64:
    """Return the forecast's standard deviation along an axis.

    A forecast gives one scale per component; how components move together is taken from the user's
    own weeks. (As if independent, bands along a main direction come out several times too narrow.)
    """
    apart = np.asarray(vectors_PD, np.float64)
    apart = apart - apart.mean(axis=0)
    unit_PD = apart / np.maximum(apart.std(axis=0), 1e-12)
    # w' diag(s) R diag(s) w, with R the correlation of the weeks: the spread of the weeks' z-scores
    # along s * w.
    along_HP = (np.asarray(scales_HD, np.float64) * axis_D) @ unit_PD.T
    projected: F64 = np.sqrt((along_HP**2).mean(axis=1))
    return projected


def _near_categories(user: UserStory) -> tuple[list[str], F64]:
    """Return the categories nearest to the user's weeks: labels and unit vectors, nearest first."""
    labels = list(user.category_vectors)
    vectors = np.stack([user.category_vectors[label] for label in labels]).astype(np.float64)
    nearness = vectors @ np.asarray(user.vectors_PD, np.float64).mean(axis=0)
    near = np.argsort(-nearness, kind="stable")[:ANCHORS]
    return [labels[row] for row in near], vectors[near]


def _landmarks(
    axis: Axes, user: UserStory, plane: Plane, line: F64, box: tuple[tuple[float, float], ...]
) -> None:
    """Write the nearest categories where they lie; those outside stand at the edge, with an arrow."""
    if not user.category_vectors:
        return
    labels, vectors = _near_categories(user)
    (left, right), (bottom, top) = box
    middle = np.array([(left + right) / 2, (bottom + top) / 2])
    size = np.array([right - left, top - bottom])
    taken = [(point, size * [0.12, 0.035]) for point in line[:: max(1, len(line) // 16)]]
    for row in _milestone_rows(user.period_starts):
        beside = line[row] + _outwards(line, row) * size * [0.1, 0.06]
        taken.append((beside, size * [0.24, 0.06]))
    for label, vector in zip(labels, vectors, strict=True):
        away = plane.place(vector[None])[0] - middle
        outside = float(np.max(np.abs(away) / (size * [0.4, 0.45])))
        wanted = middle + away / max(outside, 1.0)
        spot = _free_spot(wanted, size * [0.0, 0.02], taken)
        taken.append((spot, size * [0.26, 0.055]))
        arrow = _arrow(away) if outside > 1.0 else "·"
        axis.text(float(spot[0]), float(spot[1]), f"{arrow} {plain_text(label)}", color=MUTED, fontsize=8.5,
                  ha="center", va="center", zorder=2)  # fmt: skip


def _free_spot(wanted: F64, step: F64, taken: list[tuple[F64, F64]]) -> F64:
    """Return the nearest spot, up or down, that nothing is in the way of."""
    for turn in range(25):
        spot = wanted + step * ((turn + 1) // 2) * (1 if turn % 2 else -1)
        if not any(np.all(np.abs(spot - at) < reach) for at, reach in taken):
            return spot
    return wanted


def _arrow(away: F64) -> str:
    turn = int(np.round(np.arctan2(away[1], away[0]) / (np.pi / 4))) % 8
    return "→↗↑↖←↙↓↘"[turn]


def _milestones(axis: Axes, line: F64, starts: Sequence[datetime]) -> None:
    """Name the first week, the last, and about every quarter between, where the line passes."""
    for i in _milestone_rows(starts):
        is_end = i in (0, len(line) - 1)
        colour = RAMP[min(RAMP_STEPS - 1, i * RAMP_STEPS // len(line))]
        axis.scatter(line[i, 0], line[i, 1], s=60 if is_end else 26, c=colour, edgecolors=SURFACE,
                     linewidths=1.6, zorder=7)  # fmt: skip
        away = _outwards(line, i)
        axis.annotate(
            f"{starts[i]:%b %Y}" if is_end else f"{starts[i]:%b}", line[i],
            xytext=(float(away[0]) * 15, float(away[1]) * 13), textcoords="offset points",
            ha="left" if away[0] > 0.35 else "right" if away[0] < -0.35 else "center", va="center",
            color=INK, fontsize=9.5 if is_end else 8.5, weight="bold" if is_end else "normal",
            zorder=8,
            bbox={"facecolor": SURFACE, "edgecolor": "none", "alpha": 0.75, "pad": 1.2},
        )  # fmt: skip


def _milestone_rows(starts: Sequence[datetime]) -> list[int]:
    """Return the rows to name: the first, the first of each quarter, the last."""
    last = len(starts) - 1
    quarters = [
        row
        for row in range(1, last - 3)
        if starts[row].month in (1, 4, 7, 10) and starts[row - 1].month != starts[row].month
    ]
    return [0, *quarters, last]


def _outwards(line: F64, row: int) -> F64:
    """Return the unit direction from the middle of a line to one of its points, axes alike."""
    away: F64 = (line[row] - line.mean(axis=0)) / np.maximum(np.ptp(line, axis=0), 1e-12)
    return away / max(float(np.hypot(*away)), 1e-12)


def _band_labels(axis: Axes, right: float, mean: float, scale: float) -> None:
    spots = (
        (mean + BAND_95 * scale, "95%"),
        (mean + BAND_80 * scale, "80%"),
        (mean, "mean"),
        (mean - BAND_80 * scale, "80%"),
        (mean - BAND_95 * scale, "95%"),
    )
    for y, label in spots:
        axis.text(right + 1.5, y, label, va="center", color=OURS, fontsize=8.5)


def _poles(axis: Axes, user: UserStory, plane: Plane) -> None:
    """Say what up and down mean: the categories furthest along the axis, both ways."""
    if not user.category_vectors:
        axis.set_ylabel("main direction of drift")
        return
    labels, vectors = _near_categories(user)
    order = np.argsort(vectors @ plane.axes_2D[0])
    for rows, y, arrow in ((order[::-1][:2], 0.99, "↑"), (order[:2], 0.02, "↓")):
        names = ", ".join(plain_text(labels[row]) for row in rows)
        axis.text(0.01, y, f"{arrow} towards {names}", color=MUTED, transform=axis.transAxes,
                  va="top" if y > 0.5 else "bottom", fontsize=8.5)  # fmt: skip
    axis.set_yticks([])


def _dates(axis: Axes) -> None:
    locator = AutoDateLocator(minticks=4, maxticks=8)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axis.tick_params(length=0)
    axis.spines[["left"]].set_visible(False)


def _middles(starts: Sequence[datetime]) -> F64:
    middles: F64 = np.asarray(date2num([start + timedelta(days=3.5) for start in starts]))
    return middles


def _widened(ahead: F64) -> F64:
    """Return the points with half a week before the first and after the last."""
    return np.concatenate([[ahead[0] - 3.5], ahead, [ahead[-1] + 3.5]])


def _held(values: F64) -> F64:
    return np.concatenate([values[:1], values, values[-1:]])


def _box(points: F64) -> tuple[tuple[float, float], tuple[float, float]]:
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.maximum(high - low, 1e-6) * [0.16, 0.12]
    return (
        (float(low[0] - room[0]), float(high[0] + room[0])),
        (float(low[1] - room[1]), float(high[1] + room[1])),
    )


def _dense(line: F64) -> F64:
    """Return a line with points put between its own, so that colour changes smoothly."""
    at = np.arange(len(line))
    fine = np.linspace(0, len(line) - 1, (len(line) - 1) * BETWEEN + 1)
    return np.stack([np.interp(fine, at, line[:, k]) for k in (0, 1)], axis=1)


def _ramp_steps(count: int) -> list[int]:
    return [min(RAMP_STEPS - 1, i * RAMP_STEPS // count) for i in range(count)]


def _spread(wanted: list[float], gap: float) -> list[float]:
    """Return heights near those wanted, ascending, at least `gap` apart, within [0, 1]."""
    heights: list[float] = []
    for at in wanted:
        heights.append(max(at, heights[-1] + gap) if heights else max(at, gap / 2))
    top = 1.0 - gap / 2
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], top)
        top = heights[i] - gap
    return heights


def _month(name: str) -> str:
    return f"{datetime.strptime(name, '%Y-%m'):%b}"
