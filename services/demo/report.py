"""The demo's report: what went through the path, what it says of one user, and how good that is.

`services/demo/run.py` fills a `DemoReport`; `write_report` makes `report.json` (figures only) and
`report.html` (one file that needs nothing else).

Shape suffixes: P = periods with events, H = periods ahead, D = vector width.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.core.records import F32
from services.demo.uses import Uses, uses_figures

_CALLS_LINE = re.compile(r"^driftline_rpc_calls_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeCalls:
    """Requests that one Ray Serve application answered."""

    # encoder or forecaster.
    application: str
    requests: int
    # Distinct replica processes that answered.
    replica_pids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayCalls:
    """Calls of one public RPC that the gateway answered, as its own metrics count them."""

    # Like driftline.v1.InterestService/GetInterest.
    method: str
    calls: int
    # Of those, answered with an error.
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PathProof:
    """Which processes did the work: there is no in-process short cut."""

    # The demo's own process.
    demo_pid: int
    gateway_pids: tuple[int, ...]
    serve: tuple[ServeCalls, ...]
    gateway: tuple[GatewayCalls, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommended:
    """One recommended item, as the gateway answered."""

    item_id: str
    title: str
    # Broadest first.
    categories: tuple[str, ...]
    score: float
    # Parts of the score.
    interest: float
    popularity: float
    # 0 (or -inf) where the user never had the item.
    repeat: float

    @property
    def is_new(self) -> bool:
        """Whether the user never had it."""
        return self.repeat == 0.0 or not np.isfinite(self.repeat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """One item the user really bought next."""

    item_id: str
    title: str
    # Events of it in the window.
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserStory:
    """One user, as the SDK told it; the weeks of a trajectory are oldest first."""

    user_id: str
    # ISO names, and first instants, of the weeks with events.
    periods: tuple[str, ...]
    period_starts: tuple[datetime, ...]
    # Unit norm.
    vectors_PD: F32
    event_counts: tuple[int, ...]
    # The forecast, nearest week first: means (not normalised) and standard deviations.
    forecast_periods: tuple[str, ...]
    forecast_starts: tuple[datetime, ...]
    forecast_means_HD: F32
    forecast_scales_HD: F32
    forecaster: str
    # A unit vector per category of the catalogue (the mean of its items): label -> D.
    category_vectors: Mapping[str, F32]
    # ISO names of months, ascending, and events of the user per category in each of them.
    months: tuple[str, ...]
    category_counts: Mapping[str, tuple[int, ...]]
    # The portrait: (label, share, share of the last 4 weeks), strongest first.
    portrait: tuple[tuple[str, float, float], ...]
    portrait_event_count: int
    is_suspected_bot: bool = False
    # Best first.
    recommendations: tuple[Recommended, ...]
    # What the user bought in the window after "now", most often first; the window in words, like
    # "in the week from 2017-12-25". Empty where the data end at "now".
    bought_next: tuple[Bought, ...]
    bought_window: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataStatement:
    """What the data are, said by those who give them."""

    name: str
    # What the package that was installed says of itself, and what its upstream says.
    package_says: str
    upstream_says: str
    # What a reader should make of it.
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """Everything the report tells. Plain values, so that any run can fill it."""

    made_time: datetime
    # The instant that was replayed as now.
    now: datetime
    # Like "2 cores, 24 GiB, no GPU".
    machine: str
    # Name -> version: driftline, model, space, python, ray, feast, ...
    versions: Mapping[str, str]
    # imported, rejected, duplicates; more may be added (users, items, stored).
    events: Mapping[str, int]
    # Reason -> rows.
    rejects: Mapping[str, int] = field(default_factory=dict)
    # Granularity -> rows.
    vectors_published: Mapping[str, int]
    forecasts_published: Mapping[str, int]
    # Step -> seconds, in order; "total" is the wall time and no step.
    seconds: Mapping[str, float]
    # Seconds of making .venv; None where it was there already.
    install_seconds: float | None = None
    path: PathProof
    # What a second refresh of the same data changed: name -> rows. None where it was not run.
    again: Mapping[str, int] | None = None
    # Serving against evaluation on the same users: users, same_top_10, largest_score_gap.
    # None where it was not compared.
    parity: Mapping[str, float] | None = None
    user: UserStory
    # Portrait, burst and demand; None where they were not asked for.
    uses: Uses | None = None
    # As `driftline evaluate` writes it: recommendation, forecast, classification.
    evaluation: Mapping[str, Any]
    statement: DataStatement


def write_report(data: DemoReport, out: Path) -> None:
    """Write `out/report.json` and `out/report.html`; makes the folder.

    Raises:
        ValueError: a required figure is missing; the message names it.
    """
    from services.demo.page import render

    figures = report_figures(data)
    page = render(data)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(
        json.dumps(_plain(figures), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8"
    )
    (out / "report.html").write_text(page, "utf-8")


def report_figures(data: DemoReport) -> dict[str, Any]:
    """Return what `report.json` holds.

    Raises:
        ValueError: `events` or `seconds` lacks a figure that readers count on.
    """
    _require(data.events, "events", "imported", "rejected", "duplicates")
    _require(data.seconds, "seconds", "total")
    user = data.user
    return {
        "made_time": data.made_time,
        "now": data.now,
        "machine": data.machine,
        "versions": dict(data.versions),
        "events": {**data.events, "rejects": dict(data.rejects)},
        "vectors": _published(data.vectors_published),
        "forecasts": _published(data.forecasts_published),
        "seconds": {**data.seconds, "install": data.install_seconds},
        "path": asdict(data.path),
        "again": None if data.again is None else dict(data.again),
        "serving_equals_evaluation": None if data.parity is None else dict(data.parity),
        "user": {
            "user_id": user.user_id,
            "periods": user.periods,
            "event_counts": user.event_counts,
            "forecast_periods": user.forecast_periods,
            "forecaster": user.forecaster,
            "portrait": [
                {"label": label, "share": share, "recent_share": recent}
                for label, share, recent in user.portrait
            ],
            "recommendations": [
                {**asdict(one), "is_hit": is_hit}
                for one, is_hit in zip(user.recommendations, hits(user), strict=True)
            ],
            "bought_next": [asdict(one) for one in user.bought_next],
            "bought_window": user.bought_window,
            "hits": sum(hits(user)),
        },
        "uses": None if data.uses is None else uses_figures(data.uses),
        "evaluation": dict(data.evaluation),
        "statement": asdict(data.statement),
    }


def hits(user: UserStory) -> list[bool]:
    """Tell of each recommendation, best first, whether the user bought the item next."""
    bought = {one.item_id for one in user.bought_next}
    return [one.item_id in bought for one in user.recommendations]


def gateway_calls(metrics_text: str) -> tuple[GatewayCalls, ...]:
    """Return calls by method, in order of name, from the text of the gateway's metrics page."""
    totals: dict[str, list[int]] = {}
    for labels, value in _CALLS_LINE.findall(metrics_text):
        named = dict(_LABEL.findall(labels))
        counted = totals.setdefault(named["method"], [0, 0])
        counted[0] += int(float(value))
        counted[1] += int(float(value)) if named["code"] != "OK" else 0
    return tuple(
        GatewayCalls(method=method, calls=calls, errors=errors)
        for method, (calls, errors) in sorted(totals.items())
    )


def _published(by_granularity: Mapping[str, int]) -> dict[str, Any]:
    return {"published": sum(by_granularity.values()), "by_granularity": dict(by_granularity)}


def _require(figures: Mapping[str, Any], name: str, *keys: str) -> None:
    missing = [key for key in keys if key not in figures]
    if missing:
        raise ValueError(f"{name}: {', '.join(missing)} not given")


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one line a type
    """Return a value as JSON can hold it; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray):
        return _plain(_listed(value))
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _listed(array: "NDArray[Any]") -> list[Any]:
    listed: list[Any] = array.tolist()
    return listed
