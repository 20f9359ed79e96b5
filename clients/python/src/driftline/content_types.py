"""What the demand for content and its briefs return: plain frozen dataclasses."""

from dataclasses import dataclass
from datetime import datetime

from ._name import Name
from .types import Granularity


@dataclass(frozen=True, kw_only=True)
class DemandRange:
    """A forecast number with its intervals, which are meant to hold the count with its noise."""

    mean: float
    low_80: float
    high_80: float
    low_95: float
    high_95: float
    # How the mean was made, like ema_0.35.
    method: str


@dataclass(frozen=True, kw_only=True)
class DemandStep:
    """What is expected of one period."""

    # ISO name.
    period: str
    # Periods past the newest published one.
    horizon: int
    # Users with an event of the topic.
    audience: DemandRange
    # Events of the topic, each user's up to `ReleaseTerms.event_cap`.
    volume: DemandRange
    # Of the volume of all topics, in [0, 1].
    share: DemandRange


@dataclass(frozen=True, kw_only=True)
class DemandPeriod:
    """What was published of one past period, noise included."""

    period: str
    audience: int
    volume: int
    share: float


@dataclass(frozen=True, kw_only=True)
class TopicDemand:
    """The demand for one topic."""

    topic_id: str
    name: str
    # Words that set the titles of its items apart, strongest first.
    terms: tuple[str, ...]
    # Items of the catalogue that are of the topic.
    item_count: int
    # Nearest first.
    forecasts: tuple[DemandStep, ...]
    # Oldest first.
    history: tuple[DemandPeriod, ...]


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Part of a fixed partition of the users."""

    name: str
    description: str
    # At least; 0 where it is too small to be served.
    least_user_count: int
    is_served: bool


@dataclass(frozen=True, kw_only=True)
class ReleaseTerms:
    """What the publication promises of the users in it."""

    # One count raises the odds of a guess whether a user is in it by at most exp(epsilon).
    epsilon: float
    # A user's events of a topic in a period are counted up to this many.
    event_cap: int
    # A cohort of fewer is never served.
    least_cohort_users: int
    # Grows where everything was drawn anew.
    edition: int


@dataclass(frozen=True, kw_only=True)
class DemandBasis:
    """What an answer on demand rests on."""

    granularity: Granularity
    # ISO name of the newest period that was published.
    newest_period: str
    published_time: datetime | None
    is_stale: bool
    space_id: str
    terms: ReleaseTerms
    # Which cohort was answered for.
    cohort: str


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Topics' demand in a cohort."""

    # Most wanted next first.
    topics: tuple[TopicDemand, ...]
    # All there are, `all` first.
    cohorts: tuple[Cohort, ...]
    basis: DemandBasis


class BriefPart(Name):
    """What a statement of a brief is about."""

    UNKNOWN = "unknown"
    WHO = "who"
    NEXT = "next"  # what they want next
    OVER_SERVED = "over_served"  # more of the items than of the demand
    EXAMPLES = "examples"
    GAP = "gap"  # demand rises and items are few


class BriefMeasure(Name):
    """What a figure counts."""

    UNKNOWN = "unknown"
    AUDIENCE = "audience"  # users a period
    VOLUME = "volume"  # events a period
    SHARE = "share"  # of the volume of all topics
    ITEM_COUNT = "item_count"
    ITEM_SHARE = "item_share"  # of the items of the catalogue
    TREND = "trend"  # standard deviations of its noise
    COHORT_USERS = "cohort_users"  # at least


@dataclass(frozen=True, kw_only=True)
class BriefFigure:
    """A figure that a statement rests on."""

    # Empty where of none.
    topic_id: str
    cohort: str
    measure: BriefMeasure
    value: float
    # The 80% interval of a forecast.
    low: float | None
    high: float | None
    # ISO names; empty where of none.
    first_period: str
    last_period: str


@dataclass(frozen=True, kw_only=True)
class BriefStatement:
    """One sentence and what it rests on."""

    part: BriefPart
    text: str
    figures: tuple[BriefFigure, ...]
    example_titles: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Brief:
    """Statements for those who make content."""

    statements: tuple[BriefStatement, ...]
    # Their sentences as one text.
    text: str
    basis: DemandBasis
