"""What a portrait is made of; `types` shows it."""

from dataclasses import dataclass
from datetime import datetime

from ._name import Name


class TopicTrend(Name):
    """Where the share of a topic went in the last 26 weeks."""

    UNKNOWN = "unknown"  # too few events to tell
    RISING = "rising"  # more than the user's own noise explains
    STEADY = "steady"  # no trend that could be told from noise
    FADING = "fading"  # more than the user's own noise explains


class TopicStanding(Name):
    """How lasting an interest is."""

    NEITHER = "neither"
    CORE = "core"  # long-term: in at least half of the active blocks of four weeks
    FLING = "fling"  # short-term: nearly all of it within four weeks


class BurstKind(Name):
    """What a burst of interest is of."""

    UNKNOWN = "unknown"
    PERSONAL = "personal"  # the user alone
    POPULATION = "population"  # everyone
    SEASONAL = "seasonal"  # it was there a year before
    AUTOMATED = "automated"  # a machine


class TopicWish(Name):
    """What a user wants of a topic."""

    NONE = "none"  # nothing, or: take back what was said
    NOT_INTERESTED = "not_interested"  # leave it out of the portrait
    MORE = "more"  # triple the odds of its weight


@dataclass(frozen=True, kw_only=True)
class TopicCorrection:
    """What a user said of a topic."""

    topic_id: str
    # What it is called now; empty where the topic is no more: then the correction rests.
    name: str
    wish: TopicWish
    wish_time: datetime | None


@dataclass(frozen=True, kw_only=True)
class EvidenceItem:
    """An item that a statement cites."""

    item_id: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Events that a statement rests on."""

    # Most frequent first, at most 5.
    items: tuple[EvidenceItem, ...]
    # ISO names, like 2026-W40.
    first_week: str
    last_week: str
    # Events in these weeks, of the topic where the statement is of one.
    event_count: int


@dataclass(frozen=True, kw_only=True)
class ChangePoint:
    """The week from which on a topic's share is another."""

    # ISO name.
    week: str
    share_before: float
    share_after: float
    # Of the side on which the share is higher.
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class TopicInterest:
    """One topic in a user's year."""

    # Lasts across refreshes of the space; the name may change.
    topic_id: str
    name: str
    # Strongest first.
    terms: tuple[str, ...]
    categories: tuple[str, ...]
    # Expected share of the user's events, in [0, 1], and its 95% interval.
    weight: float
    weight_low: float
    weight_high: float
    # None where the user asked for the topic and never had it.
    evidence: Evidence | None
    trend: TopicTrend
    trend_evidence: Evidence | None
    standing: TopicStanding
    standing_evidence: Evidence | None
    # None where no change was told from noise.
    change: ChangePoint | None
    # NONE or MORE: a topic that the user is not interested in is left out.
    wish: TopicWish = TopicWish.NONE


@dataclass(frozen=True, kw_only=True)
class ActivityPattern:
    """When a user is active, in the year up to the newest event."""

    active_week_count: int
    # From the first to the last of those.
    week_count: int
    events_per_active_week: float
    # 1 is Monday, UTC; None where the days are even but for noise.
    busiest_iso_weekday: int | None
    # First of the six busiest hours: 0, 6, 12 or 18, UTC; None where they are even but for noise.
    busiest_hour: int | None
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class InterestBurst:
    """A sudden interest: weeks that moved away from the usual ones by more than noise explains."""

    # ISO names, like 2026-W40.
    first_week: str
    # The last one with an event so far.
    last_week: str
    kind: BurstKind
    # A category of the catalogue; empty where it has no name.
    topic_name: str
    # The largest share of a week's mass that it had, in [0, 1]; 0 for a machine's.
    peak_share: float
    # No active week has ended it; forecasts are wider meanwhile.
    is_lasting: bool
