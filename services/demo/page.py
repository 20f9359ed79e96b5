"""report.html: one file that needs nothing else, light and dark, narrow and wide."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from services.demo.comparison import LABELS, Row, Table, Verdict, score, tables
from services.demo.plots import categories_plot, forecast_plot, trajectory_plot
from services.demo.report import DemoReport, hits
from services.demo.theme import palette
from services.demo.uses import Uses
from services.demo.uses_plots import ARROWS, STANDINGS, burst_plot, demand_plot, portrait_plot

TEMPLATE = "report.html"
VERDICTS = {
    Verdict.WIN: "▲ better",
    Verdict.LOSS: "▼ worse",
    Verdict.OPEN: "≈ not proven",
    Verdict.SAME: "= the same",
}
TITLES = {"recommendation": "What comes next", "forecast": "Where interest goes"}
# Width of a drawn interval, in its own units.
SPAN = 160.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One headline figure."""

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of a chart of seconds; `share` in [0, 1] of the longest."""

    label: str
    value: str
    share: float


def render(data: DemoReport) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=lambda value: f"{value:,}",
        figure=_figure,
        seconds=duration,
        words=lambda name: str(name).replace("_", " "),
        signed=lambda value: f"{value:+.4f}".replace("-", "−"),  # noqa: RUF001 - a minus sign
        mark=interval_mark,
        percent=percent,
    )
    compared = tables(data.evaluation)
    user = data.user
    return environment.get_template(TEMPLATE).render(
        data=data,
        user=user,
        tiles=tiles(data, compared),
        steps=step_bars(data.seconds),
        hits=hits(user),
        bought_ranks=bought_ranks(data),
        trajectory=_drawn(trajectory_plot(user)),
        forecast=_drawn(forecast_plot(user)),
        categories=_drawn(categories_plot(user)),
        compared={kind: [t for t in compared if t.kind == kind] for kind in TITLES},
        titles=TITLES,
        score=score(compared),
        Verdict=Verdict,
        verdicts=VERDICTS,
        labels=LABELS,
        **uses_parts(data.uses),
        light=palette("light"),
        dark=palette("dark"),
    )


def uses_parts(uses: Uses | None) -> dict[str, object]:
    """Return what the sections of uses.html show: the answers, and a plot of each there is."""
    if uses is None:
        return {"uses": None}
    return {
        "uses": uses,
        "portrait_plot": _drawn(portrait_plot(uses.profile)) if uses.profile.topics else "",
        "burst_plot": _drawn(burst_plot(uses.burst)) if uses.burst else "",
        "demand_plot": _drawn(demand_plot(uses.demand)) if uses.demand else "",
        "arrows": ARROWS,
        "standings": STANDINGS,
    }


def percent(share: float) -> str:
    """Return a share for reading: 12%, 3.4%, 0.25%."""
    digits = 0 if share >= 0.095 else 1 if share >= 0.0095 else 2
    return f"{100 * share:.{digits}f}%"


def tiles(data: DemoReport, compared: list[Table]) -> list[Tile]:
    """Return the headline figures; what was not measured is left out."""
    found = [
        Tile(
            value=f"{data.events.get('stored', data.events['imported']):,}",
            label="events stored",
            detail=f"{data.events['imported']:,} imported now, {data.events['rejected']:,} rejected, "
            f"{data.events['duplicates']:,} duplicates",
        ),
        Tile(
            value=f"{sum(data.vectors_published.values()):,}",
            label="interest vectors published",
            detail=", ".join(f"{n:,} by {name}" for name, n in data.vectors_published.items()),
        ),
        Tile(
            value=f"{sum(data.forecasts_published.values()):,}",
            label="forecasts published",
            detail=", ".join(f"{n:,} by {name}" for name, n in data.forecasts_published.items()),
        ),
        Tile(
            value=duration(data.seconds["total"]),
            label="from purchases to this page",
            detail=data.machine,
        ),
    ]
    if data.user.bought_next:
        found.append(
            Tile(
                value=f"{sum(hits(data.user))} of {len(data.user.recommendations)}",
                label=f"recommendations that user {data.user.user_id} really bought",
                detail=data.user.bought_window,
            )
        )
    for kind, name in (("recommendation", "NDCG@10"), ("forecast", "forecast R²")):
        table = next((t for t in compared if t.kind == kind and t.ours), None)
        best = table.best_naive() if table else None
        if table and table.ours and best:
            found.append(
                Tile(
                    value=_figure(table.main_value(table.ours)),
                    label=f"{name}, {table.title[0].lower()}{table.title[1:]}",
                    detail=f"best naive method: {_figure(table.main_value(best))} "
                    f"({best.method.replace('_', ' ')})",
                )
            )
    return found


def step_bars(seconds: Mapping[str, float]) -> list[Bar]:
    """Return a bar per step, in order; what the steps leave of the total is the last one."""
    steps = {name: spent for name, spent in seconds.items() if name != "total"}
    left = seconds["total"] - sum(steps.values())
    if left > 0.05 * seconds["total"]:
        steps["all else"] = left
    longest = max(steps.values(), default=1.0) or 1.0
    return [
        Bar(label=name.replace("_", " "), value=duration(spent), share=max(0.0, spent / longest))
        for name, spent in steps.items()
    ]


def bought_ranks(data: DemoReport) -> list[int | None]:
    """Return, for each item bought next, its rank among the recommendations; None if absent."""
    rank_of = {one.item_id: rank for rank, one in enumerate(data.user.recommendations, start=1)}
    return [rank_of.get(one.item_id) for one in data.user.bought_next]


def interval_mark(row: Row, table: Table) -> Markup:
    """Return a small drawing of a row's interval on the scale of its table."""
    if row.interval is None:
        return Markup("")
    # The scale shows the methods near ours; one far below would press the others together.
    floor = 0.7 * table.main_value(table.ours) if table.ours else float("-inf")
    near = [r.interval for r in table.rows if r.interval and table.main_value(r) >= floor]
    low, high = min(one[0] for one in near), max(one[1] for one in near)
    width = max(high - low, 1e-12)
    if row.interval[1] < low:
        return Markup('<span class="note">◂ far below</span>')

    def at(value: float) -> str:
        return f"{4 + (SPAN - 8) * min(max((value - low) / width, 0.0), 1.0):.1f}"

    kind = "ours" if row.is_ours else "other"
    # Numbers and two words of ours: nothing to escape.
    return Markup(  # nosec B704  # noqa: S704
        f'<svg class="interval {kind}" viewBox="0 0 {SPAN:g} 12" aria-hidden="true">'
        f'<line class="rail" x1="0" y1="6" x2="{SPAN:g}" y2="6"/>'
        f'<line x1="{at(row.interval[0])}" y1="6" x2="{at(row.interval[1])}" y2="6"/>'
        f'<circle cx="{at(table.main_value(row))}" cy="6" r="3.5"/></svg>'
    )


def duration(seconds: float) -> str:
    """Return a duration for reading: 0.8 s, 42 s, 7 min 05 s."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s"


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}".replace("-", "−")  # noqa: RUF001 - a minus sign


def _drawn(svg: str) -> Markup:
    # Made by plots.py, whose texts matplotlib has escaped.
    return Markup(svg)  # nosec B704  # noqa: S704
