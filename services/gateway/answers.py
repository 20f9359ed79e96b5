"""What is asked of the gateway and what it answers, in core types: between `translate` and stores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.core.brief import Sentence, Supply
from services.core.burst_everyone import PastBurst
from services.core.corrections import Correction, Wish
from services.core.demand import Told
from services.core.demand_forecast import DemandForecast
from services.core.demand_release import Release
from services.core.packed import PackedInterest
from services.core.periods import Period
from services.core.portrait import Portrait
from services.core.recommend import Filters, RankedItems, SimilarItems
from services.core.records import Forecast, ModelInfo, Profile
from services.core.schema import Granularity
from services.store.ports import Catalogue
from services.store.receipts import SignedReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Instants:
    """Now, twice: of events (replayed where `settings.now` says so) and of the wall clock."""

    event_time: datetime
    ingest_time: datetime


Now = Callable[[], Instants]


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """The instants that a read answers for."""

    # Events before this instant.
    event_time: datetime
    # What was known at this instant.
    ingest_time: datetime
    # Neither was asked for.
    is_now: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What an answer rests on."""

    as_of: AsOf
    # Empty where no model took part.
    model_version: str = ""
    space_id: str = ""
    is_personal: bool = True
    is_stale: bool = False
    # Up to when the newest input reaches; None where there is none.
    input_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterestQuery:
    user_id: str
    granularity: Granularity
    # None means the newest.
    period: Period | None
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class InterestAnswer:
    interest: PackedInterest
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchQuery:
    user_ids: tuple[str, ...]
    granularity: Granularity
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAnswer:
    # In the order asked.
    found: tuple[tuple[str, PackedInterest], ...]
    missing_user_ids: tuple[str, ...]
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryQuery:
    user_id: str
    granularity: Granularity
    # Vectors to return at most, at least 1.
    limit: int
    # Only ordinals below this one; None means from the newest.
    before: int | None
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryAnswer:
    granularity: Granularity
    # Oldest first.
    interests: tuple[PackedInterest, ...]
    # Older vectors lie below this ordinal; None where there are none.
    next_before: int | None
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastQuery:
    user_id: str
    granularity: Granularity
    # None means every horizon that is stored and not over.
    period: Period | None
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastAnswer:
    forecast: Forecast
    # Rows of the forecast's means, nearest period first.
    rows: tuple[int, ...]
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How to recommend."""

    # Items a user at most.
    limit: int
    filters: Filters
    # In [0, 1]; see core/selection.Variety.
    diversity: float = 0.0
    exploration_share: float = 0.0
    # 0 means the ISO week of the instant.
    exploration_seed: int = 0
    has_reasons: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendQuery:
    user_id: str
    wishes: Wishes
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendManyQuery:
    user_ids: tuple[str, ...]
    wishes: Wishes
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendAnswer:
    user_id: str
    catalogue: Catalogue
    items: RankedItems
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendAnswers:
    # In the order asked.
    answers: tuple[RecommendAnswer, ...]
    # Categories and item ids asked for that the catalogue does not have.
    unmatched: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarQuery:
    # At least one; the answer is near their mean.
    item_ids: tuple[str, ...]
    limit: int
    filters: Filters
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarAnswer:
    catalogue: Catalogue
    items: SimilarItems
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileQuery:
    user_id: str
    # Interests to return at most.
    limit: int
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileAnswer:
    profile: Profile
    portrait: Portrait
    # The portrait in words.
    summary: str
    # Titles of the items that are cited, by id.
    titles: Mapping[str, str]
    corrections: "tuple[NamedCorrection, ...]"
    # Newest first.
    bursts: tuple[PastBurst, ...]
    # Interests to return at most.
    limit: int
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCorrection:
    correction: Correction
    # What the topic is called; empty where it is no more.
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectQuery:
    user_id: str
    topic_id: str
    # None takes back what was said.
    wish: Wish | None
    made_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectAnswer:
    # All that are in force, by topic.
    corrections: tuple[NamedCorrection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsQuery:
    limit: int
    # The last model of the page before; empty means from the newest.
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsAnswer:
    models: tuple[ModelInfo, ...]
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectsQuery:
    limit: int
    # What the page before said; empty means from the oldest.
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteQuery:
    model_version: str
    accepts_worse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureAnswer:
    erasure_id: str
    requested_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptAnswer:
    erasure_id: str
    # None once the request was carried out.
    requested_time: datetime | None
    # None before rows were removed.
    signed: SignedReceipt | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandQuery:
    cohort: str
    # Empty means all.
    topic_ids: tuple[str, ...]
    # Periods ahead; 0 means all that are stored.
    horizons: int
    # Past periods.
    history: int
    # Topics to return at most; 0 means all.
    limit: int
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandBasis:
    """What an answer on demand rests on."""

    release: Release
    cohort: str
    is_stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCohort:
    name: str
    description: str
    # At least; 0 where it is too small to be shown.
    users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandAnswer:
    seen: Told
    forecast: DemandForecast
    # Same rows.
    supply: Supply
    # Rows of the topics to return, in order.
    rows: tuple[int, ...]
    # Horizons to return, of periods that are not over.
    horizons: tuple[int, ...]
    history: int
    cohorts: tuple[NamedCohort, ...]
    basis: DemandBasis


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefQuery:
    # One of the two is empty.
    topic_id: str
    cohort: str
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefAnswer:
    sentences: tuple[Sentence, ...]
    basis: DemandBasis
