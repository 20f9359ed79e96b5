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
from .types import (
    AsOf,
    Basis,
    BasisKind,
    CitedItem,
    ConsumedPolicy,
    Erasure,
    Event,
    EventKind,
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
    Trajectory,
    WriteResult,
)
from .vectors import Vector, cosine, distance, dot, mean, norm, normalise

__all__ = [
    "AccessDeniedError", "AsOf", "AsyncClient", "Basis", "BasisKind", "CitedItem", "Client", "ClientOptions",
    "ConsumedPolicy", "DeadlineError", "Deadlines", "DriftlineError", "Erasure", "Event",
    "EventConflictError", "EventKind", "FallbackKind", "Forecast", "ForecastStep", "Granularity", "Interest",
    "InterestBatch", "InternalError", "InvalidArgumentError", "Item", "ItemNotFoundError", "Model",
    "ModelStage", "NamedInterest", "NotFoundError", "NotReadyError", "OverloadedError",
    "PeriodVector", "Profile", "RankedItems", "Retries", "ScoreParts", "ScoredItem",
    "SpaceMismatchError", "Tls", "Trajectory", "UnavailableError", "UnsupportedError",
    "UserNotFoundError", "Vector", "Violation", "WriteResult", "__version__", "cosine", "distance",
    "dot", "mean", "norm", "normalise",
]  # fmt: skip
