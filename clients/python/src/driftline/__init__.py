"""Python client of Driftline: `Client` and `AsyncClient`; `driftline.testing` has their fakes."""

from ._version import __version__
from .aio import AsyncClient
from .client import Client
from .errors import (
    AccessDeniedError,
    DeadlineError,
    DriftlineError,
    EventConflictError,
    InternalError,
    InvalidArgumentError,
    ItemNotFoundError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    SpaceMismatchError,
    UnavailableError,
    UnsupportedError,
    UserNotFoundError,
    Violation,
)
from .options import ClientOptions, Deadlines, Retries, Tls
from .rejects import Reject
from .types import (
    ActivityPattern,
    AsOf,
    Basis,
    BasisKind,
    ChangePoint,
    CitedItem,
    ConsumedPolicy,
    Erasure,
    Event,
    EventKind,
    Evidence,
    EvidenceItem,
    FallbackKind,
    Forecast,
    ForecastStep,
    Granularity,
    Interest,
    InterestBatch,
    Item,
    Model,
    ModelStage,
    NamedInterest,
    PeriodVector,
    Profile,
    RankedItems,
    ScoredItem,
    ScoreParts,
    TopicCorrection,
    TopicInterest,
    TopicStanding,
    TopicTrend,
    TopicWish,
    Trajectory,
    WriteResult,
)
from .vectors import Vector, cosine, distance, dot, mean, norm, normalise

__all__ = [
    "AccessDeniedError", "ActivityPattern", "AsOf", "AsyncClient", "Basis", "BasisKind",
    "ChangePoint", "CitedItem", "Client", "ClientOptions", "ConsumedPolicy", "DeadlineError",
    "Deadlines", "DriftlineError", "Erasure", "Event", "EventConflictError", "EventKind",
    "Evidence", "EvidenceItem", "FallbackKind", "Forecast", "ForecastStep", "Granularity",
    "Interest", "InterestBatch", "InternalError", "InvalidArgumentError", "Item",
    "ItemNotFoundError", "Model", "ModelStage", "NamedInterest", "NotFoundError", "NotReadyError",
    "OverloadedError", "PeriodVector", "Profile", "RankedItems", "Reject", "Retries", "ScoreParts",
    "ScoredItem", "SpaceMismatchError", "Tls", "TopicCorrection", "TopicInterest", "TopicStanding",
    "TopicTrend", "TopicWish", "Trajectory", "UnavailableError", "UnsupportedError",
    "UserNotFoundError", "Vector", "Violation", "WriteResult", "__version__", "cosine", "distance",
    "dot", "mean", "norm", "normalise",
]  # fmt: skip
