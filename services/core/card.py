"""A model card: what a model learned from, how, at what price, and what it is for.

Part of a model folder, but never of the model's version: a card may be added to.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

# The name that an evaluation's report gives the model.
OURS = "driftline"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardData:
    """What was learned from."""

    sha256: str
    events: int
    users: int
    items: int
    # ISO instants of the first and the last event.
    first_event: str
    last_event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSplit:
    """Which time was used for what. Periods by their ISO names."""

    granularity: str
    # ISO instant; nothing at or after it was seen.
    trained_until: str
    # Each predicted from what came before it.
    origins: tuple[str, ...]
    # Held out of the ranker's training, for its validation loss.
    validation: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardCost:
    """What training took."""

    # By stage, wall clock; `total` is all of it.
    seconds: dict[str, float]
    # Of the training process and the workers it started.
    cpu_seconds: float
    workers: int
    # Such as "2 cores, x86_64, 24 GiB, no GPU".
    machine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardErasures:
    """Requests to erase a user, by id: a card never names a user."""

    # Open when the data were read: their users' events were left out.
    left_out: tuple[str, ...] = ()
    # Of users whose events the model, or a model it continues, did learn from.
    predated: tuple[str, ...] = ()
    # When the last of those was noted, ISO; empty where there are none.
    noted_time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """See the module."""

    # The model whose weights training went on from; empty where it began anew.
    parent_version: str = ""
    data: CardData
    split: CardSplit
    # Every constant that was chosen; JSON values only.
    config: dict[str, Any]
    cost: CardCost
    erasures: CardErasures = field(default_factory=CardErasures)
    # What `evaluated` made of an evaluation's report; empty until then.
    evaluation: dict[str, Any] = field(default_factory=dict)
    # The candidate beside the model that was live (core.promotion.Comparison); empty until then.
    comparison: dict[str, Any] = field(default_factory=dict)


def card_to_json(card: ModelCard) -> dict[str, Any]:
    """Return a card as JSON values."""
    return asdict(card)


def card_from_json(values: dict[str, Any]) -> ModelCard:
    """Return the card that card_to_json made values of."""
    parts = {
        "data": CardData(**values["data"]),
        "split": CardSplit(**_with_tuples(values["split"])),
        "cost": CardCost(**values["cost"]),
        "erasures": CardErasures(**_with_tuples(values["erasures"])),
    }
    return ModelCard(**{**values, **parts})


def evaluated(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a card keeps of an evaluation's report: the model's own figures with intervals.

    Args:
        report: report.json of `driftline evaluate`.
    """
    recommendation = {
        f"{part}.{horizon}": methods[OURS]
        for part, horizons in report.get("recommendation", {}).items()
        for horizon, methods in _dicts(horizons)
        if OURS in methods
    }
    forecast = {
        horizon: methods[OURS]
        for horizon, methods in _dicts(report.get("forecast", {}))
        if OURS in methods
    }
    return {
        "dataset_sha256": report.get("dataset", {}).get("sha256", ""),
        "recommendation": recommendation,
        "forecast": forecast,
    }


def render_card(card: ModelCard, *, model_version: str, space_id: str) -> str:
    """Return a card as Markdown."""
    data, split, cost = card.data, card.split, card.cost
    base = f"- continues model `{card.parent_version}`" if card.parent_version else "- trained anew"
    seconds = ", ".join(f"{name} {value:.1f}" for name, value in cost.seconds.items())
    validation = f"; {_span(split.validation)} held out" if split.validation else ""
    lines = [
        f"# Model {model_version}",
        "",
        f"- space `{space_id}`: its vectors are compared with vectors of this space only",
        base,
        f"- saw nothing at or after {split.trained_until}",
        "",
        "## Intended use and limits",
        _USE,
        "",
        "## Data and split",
        f"- {data.events:,} events of {data.users:,} users and {data.items:,} items, "
        f"{data.first_event} to {data.last_event}, sha256 `{data.sha256}`",
        f"- examples: each {split.granularity} of {_span(split.origins)}, "
        f"predicted from all before it{validation}",
        f"- erasures: {len(card.erasures.left_out)} were open and their users left out; "
        f"{len(card.erasures.predated)} came after the model had learned from their users"
        + (_predated(card.erasures) if card.erasures.predated else ""),
        "",
        "## Figures",
        *_figures(card.evaluation),
        *_compared(card.comparison),
        "",
        "## Cost",
        f"- seconds: {seconds}",
        f"- {cost.cpu_seconds:.1f} CPU seconds, {cost.workers} worker(s), {cost.machine}",
        "",
        "Every constant that was chosen, and the ids of the erasures, are in card.json.",
    ]
    return "\n".join(lines) + "\n"


def _predated(erasures: CardErasures) -> str:
    digest = hashlib.sha256("\n".join(sorted(erasures.predated)).encode()).hexdigest()[:12]
    noted = f", the last noted {erasures.noted_time}" if erasures.noted_time else ""
    return f" (digest `{digest}`{noted}; retrain anew to be rid of it)"


_USE = """\
Item and interest vectors, forecasts of interest, and rankings of one catalogue for one tenant's users.
It learns from what users did, so it repeats what was shown to them and favours
what is popular; a user without events gets popular items. It knows an item by its text alone until the
item has events, and nothing of a world that changes after `trained_until`: train again regularly. Do not
use it to decide on a person (credit, work, health, price), nor to infer what a person keeps private."""


def _figures(evaluation: dict[str, Any]) -> list[str]:
    rows = []
    for part in ("recommendation", "forecast"):
        for where, metrics in evaluation.get(part, {}).items():
            for name, value in metrics.items():
                if name.endswith("_ci") or not isinstance(value, int | float):
                    continue
                interval = metrics.get(f"{name}_ci")
                shown = f"[{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
                figure = f"{value:.4f}" if isinstance(value, float) else str(value)
                rows.append(f"| {part} {where} | {name} | {figure} | {shown} |")
    if not rows:
        return ["Not evaluated yet: `driftline evaluate` says what it is worth, with intervals."]
    return ["| slice, horizon | metric | value | 95% interval |", "|---|---|---|---|", *rows]


def _compared(comparison: dict[str, Any]) -> list[str]:
    if not comparison:
        return []
    said = comparison
    return [
        "",
        f"Beside the live model `{said['against']}`: {said['figure']} {said['candidate']:.4f} against "
        f"{said['live']:.4f}, paired difference {said['gain_low']:.4f} to {said['gain_high']:.4f} "
        f"({said['users']} users, {said['split']}, data `{said['data_sha256']}`).",
    ]


def _span(names: tuple[str, ...]) -> str:
    return f"{names[0]} to {names[-1]}" if len(names) > 1 else "".join(names)


def _dicts(values: Any) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(values, dict):
        return []
    return [(name, part) for name, part in values.items() if isinstance(part, dict)]


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
