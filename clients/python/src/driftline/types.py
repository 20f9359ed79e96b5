"""What calls take and return: plain frozen dataclasses. Times are aware datetimes, UTC."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from . import _portrait
from ._name import Name
from .vectors import Values, Vector, stacked

# What a portrait is made of has a file of its own.
ActivityPattern = _portrait.ActivityPattern
BurstKind = _portrait.BurstKind
ChangePoint = _portrait.ChangePoint
Evidence = _portrait.Evidence
EvidenceItem = _portrait.EvidenceItem
InterestBurst = _portrait.InterestBurst
TopicCorrection = _portrait.TopicCorrection
TopicInterest = _portrait.TopicInterest
TopicStanding = _portrait.TopicStanding
TopicTrend = _portrait.TopicTrend
TopicWish = _portrait.TopicWish


class Granularity(Name):
    """Length of a period: a half-open UTC interval."""

    DAY = "day"  # named like 2026-11-24
    WEEK = "week"  # named like 2026-W48
    MONTH = "month"  # named like 2026-11


class EventKind(Name):
    """What a user did with an item; in brackets what `Event.value` means."""

    VIEW = "view"  # [dwell, seconds]
    CLICK = "click"
    LIKE = "like"
    SAVE = "save"
    SHARE = "share"
    RATING = "rating"  # [the rating, on any one scale per catalogue]
    PURCHASE = "purchase"  # [quantity]


class ConsumedPolicy(Name):
    """What a recommendation does with items the user already had."""

    KEEP = "keep"  # rank them with all others
    DROP = "drop"  # discovery only
    ONLY = "only"  # buy again


class FallbackKind(Name):
    """What stands in for the interest of a user of whom nothing is known."""

    NONE = "none"
    DECLARED_CATEGORIES = "declared_categories"  # what is popular there
    POPULAR = "popular"


class BasisKind(Name):
    """How personal an answer is."""

    PERSONAL = "personal"
    FALLBACK = "fallback"


class ModelStage(Name):
    """What a model is used for."""

    UNUSED = "unused"
    CANDIDATE = "candidate"
    LIVE = "live"
    PREVIOUS = "previous"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One interaction of one user with one item.

    `event_id` is made when the event is: sending the same object again, after any failure, stores
    it once.
    """

    user_id: str
    item_id: str
    kind: EventKind | str
    # When it happened, aware.
    event_time: datetime
    # Strength, by kind: see EventKind. None means 1.
    value: float | None = None
    # Unique within the tenant, 1 to 256 bytes.
    event_id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(frozen=True, kw_only=True)
class Item:
    """One catalogue item as its owner describes it."""

    item_id: str
    title: str = ""
    # Longer description, encoded after the title.
    text: str = ""
    # Broadest first.
    categories: tuple[str, ...] = ()
    # When this version came into force, aware. None means the server's time.
    updated_time: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class AsOf:
    """The instants a read answers for; None means now. Both aware.

    A bare datetime given as `as_of=` means `AsOf(event_time=...)`.
    """

    # Use only events before this instant.
    event_time: datetime | None = None
    # Use only what the system knew at this instant.
    ingest_time: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What an answer rests on."""

    kind: BasisKind
    as_of_event_time: datetime | None = None
    as_of_ingest_time: datetime | None = None
    # Empty where no model took part.
    model_version: str = ""
    # Space of every vector in the answer; empty where there is none.
    space_id: str = ""
    # The newest input is older than the service's freshness limit.
    is_stale: bool = False
    # Age of the newest input; None where there is no input.
    input_age: timedelta | None = None

    @property
    def is_fallback(self) -> bool:
        """Whether nothing was known of the user."""
        return self.kind is BasisKind.FALLBACK


@dataclass(frozen=True, kw_only=True)
class WriteResult:
    """What a write stored."""

    # Events or items committed.
    count: int
    # When the last of them were; None where there was nothing to store.
    ingest_time: datetime | None
    # Positions in the list of events that happened before an erasure: refused, and not to be sent again.
    refused_positions: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PeriodVector:
    """A user's interest in one period."""

    # Unit norm.
    vector: Vector
    granularity: Granularity
    # ISO name: 2026-11-24, 2026-W48 or 2026-11.
    period: str
    period_start: datetime | None
    # First instant after.
    period_end: datetime | None
    # Events that made it, at least 1.
    event_count: int
    computed_time: datetime | None


@dataclass(frozen=True, kw_only=True)
class Interest(PeriodVector):
    """A user's interest in one period, and what the answer rests on."""

    user_id: str
    basis: Basis


@dataclass(frozen=True, kw_only=True)
class InterestBatch:
    """Interests of many users."""

    # By user, in the order asked; users without one are absent.
    interests: Mapping[str, PeriodVector]
    missing_user_ids: tuple[str, ...]
    # None where nobody was asked for. Of several calls: the earliest instants, stale if any was.
    basis: Basis | None


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A user's vectors by period, oldest first. Periods without events are gaps and absent."""

    user_id: str
    granularity: Granularity
    interests: tuple[PeriodVector, ...]
    basis: Basis

    @property
    def space_id(self) -> str:
        """Space of the vectors."""
        return self.basis.space_id

    @property
    def periods(self) -> tuple[str, ...]:
        """ISO names, oldest first."""
        return tuple(one.period for one in self.interests)

    def to_array(self) -> Any:
        """Return a new float32 array of shape [periods, width]; needs numpy. Raises SpaceMismatchError."""
        return stacked([one.vector for one in self.interests])

    def __iter__(self) -> Iterator[PeriodVector]:
        return iter(self.interests)

    def __len__(self) -> int:
        return len(self.interests)


@dataclass(frozen=True, kw_only=True, eq=False)
class ForecastStep:
    """Where an interest is expected to be in one future period: a Gaussian per component."""

    # ISO name of the period.
    period: str
    # Periods ahead of the last closed one when the forecast was made, at least 1.
    horizon: int
    # Not normalised.
    mean: Vector
    # Standard deviation of each component; as many as `mean` has.
    scale: Values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ForecastStep):
            return NotImplemented
        return (self.period, self.horizon, self.mean, list(self.scale)) == (
            other.period,
            other.horizon,
            other.mean,
            list(other.scale),
        )

    def __hash__(self) -> int:
        return hash((self.period, self.horizon, self.mean))


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A user's expected interest, nearest period first."""

    user_id: str
    granularity: Granularity
    steps: tuple[ForecastStep, ...]
    # Name of the forecaster: gru, ema, ...
    forecaster: str
    # Data up to here were used.
    made_time: datetime | None
    basis: Basis

    def __iter__(self) -> Iterator[ForecastStep]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, kw_only=True)
class ScoreParts:
    """What a recommendation's score is made of."""

    # How near the item is to the interest vector.
    interest: float
    # The item's recent popularity.
    popularity: float
    # The user's own repetition of it; 0 where never consumed.
    repeat: float
    # How far it is from everything the user had, in [0, 1]; no part of the sum.
    novelty: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CitedItem:
    """An item of the user's history that a recommendation rests on."""

    item_id: str
    title: str
    # How much lower the score would be had the user never had it.
    effect: float
    # Weeks in which the user had it, older ones counted less.
    week_count: float
    # When the user last had it.
    last_time: datetime | None


@dataclass(frozen=True, kw_only=True)
class ScoredItem:
    """One ranked item."""

    item_id: str
    title: str
    # Broadest first.
    categories: tuple[str, ...]
    # Recommendations: comparable within one answer only. Similar items: the cosine.
    score: float
    # None for similar items.
    parts: ScoreParts | None = None
    # Drawn by exploration instead of ranked.
    is_exploration: bool = False
    # What of the user's history the score rests on, strongest first; empty: popularity alone.
    cited_items: tuple[CitedItem, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RankedItems:
    """Items, best first."""

    items: tuple[ScoredItem, ...]
    basis: Basis
    # What stood in for the user's own interest.
    fallback: FallbackKind = FallbackKind.NONE
    # Categories and item ids asked for that the catalogue does not have; empty in exports.
    unmatched: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[ScoredItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, kw_only=True)
class NamedInterest:
    """One interest by name."""

    # A category of the catalogue.
    label: str
    # Share of the user's decayed events (half-life 12 weeks), in [0, 1].
    share: float
    # Share over the last 4 weeks, in [0, 1].
    recent_share: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A user's portrait."""

    user_id: str
    # Strongest first.
    interests: tuple[NamedInterest, ...]
    # Events it was made from.
    event_count: int
    first_event_time: datetime | None
    last_event_time: datetime | None
    # Acts like a bot or a bulk buyer; its bulk days enter no vector.
    is_suspected_bot: bool
    # Runs of events without a pause of more than 30 minutes.
    session_count: int
    basis: Basis
    # Heaviest first; empty where no topics were published yet.
    topics: tuple[TopicInterest, ...] = ()
    # None where `topics` is empty.
    pattern: ActivityPattern | None = None
    # All of it as a paragraph of plain English.
    summary: str = ""
    # What the user said of topics, by topic_id; `topics` is as they say.
    corrections: tuple[TopicCorrection, ...] = ()
    # Sudden interests and periods of machines, newest first, at most 4.
    bursts: tuple[InterestBurst, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model in the registry."""

    model_version: str
    space_id: str
    stage: ModelStage
    trained_time: datetime | None
    # SHA-256 of the training data, hexadecimal.
    data_sha256: str
    # Training used events before this instant.
    trained_until_time: datetime | None
    # Figures of its evaluation by name.
    metrics: Mapping[str, float]
