"""How the report's plots look: colours that follow the page, and figures as inline SVG.

Colours are the page's CSS variables, so that one plot serves light and dark: figures are drawn in
stand-in colours, which `svg_of` replaces.
"""

import io
import re
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RAMP_STEPS = 8
SERIES = 7
# Stand-in colour -> CSS variable.
INK, MUTED, GRID, SURFACE, OURS = "#010101", "#020202", "#030303", "#040404", "#050505"
RAMP = tuple(f"#06060{step}" for step in range(RAMP_STEPS))
CATEGORY = tuple(f"#07070{step}" for step in range(SERIES))
REST = "#080808"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    SURFACE: "--surface",
    OURS: "--ours",
    REST: "--rest",
    **{colour: f"--t{step}" for step, colour in enumerate(RAMP)},
    **{colour: f"--c{step}" for step, colour in enumerate(CATEGORY)},
}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "driftline",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": False,
    "grid.color": GRID,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def themed_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of some inches, and its axes."""
    # rc_context, not rcParams: other plots of this process keep their own style.
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axis = figure.subplots()
    return figure, axis


def themed_panels(
    width: float, height: float, rows: Sequence[float], *, columns: Sequence[float] = (1.0,)
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of panels, row by row; rows share the x of their column."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = figure.subplots(
            len(rows), len(columns), squeeze=False, sharex="col",
            gridspec_kw={"height_ratios": list(rows), "width_ratios": list(columns)},
        )  # fmt: skip
    return figure, list(panels.flat)


def plain_text(label: str) -> str:
    """Return a label that matplotlib does not read as mathematics."""
    return label.replace("$", r"\$")


def svg_of(figure: Figure) -> str:
    """Return a figure as inline SVG: themed, without namespaces, names of parts or metadata."""
    raw = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(raw, format="svg", metadata={"Date": None, "Creator": None})
    text = raw.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # It would hold for the whole page; report.html has its rules for plots alone.
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", text, count=1)
    text = re.sub(
        r"(font:[^;\"]*?)'?(DejaVu Sans|sans-serif)'?[^;\"]*", r"\1system-ui, sans-serif", text
    )
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text.strip()


def palette(kind: str) -> dict[str, str]:
    """Return the colours of the light or the dark page, by CSS variable."""
    ramp = ["#9ec5f4", "#86b6ef", "#6da7ec", "#3987e5", "#2a78d6", "#1c5cab", "#104281", "#0d2f5e"]
    if kind == "light":
        series = ["#2a78d6", "#1baf7a", "#eda100", "#4a3aa7", "#e34948", "#e87ba4", "#eb6834"]
        named = ["#1a1a19", "#63625d", "#dddcd6", "#fcfcfb", "#1f66c2", "#c9c8c1"]
    else:
        ramp = ["#1c4f93", "#256abf", "#3987e5", "#5598e7", "#6da7ec", "#86b6ef", "#b7d3f6"]
        ramp.append("#e3effc")
        series = ["#3987e5", "#199e70", "#c98500", "#9085e9", "#e66767", "#d55181", "#d95926"]
        named = ["#f1f0ec", "#a8a79f", "#3b3a37", "#1a1a19", "#5fa3f0", "#56554f"]
    names = ["--ink", "--muted", "--grid", "--surface", "--ours", "--rest"]
    return {
        **dict(zip(names, named, strict=True)),
        **{f"--t{step}": colour for step, colour in enumerate(ramp)},
        **{f"--c{step}": colour for step, colour in enumerate(series)},
    }
