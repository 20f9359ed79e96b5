"""Who calls, and what each call takes: the one table of scopes."""

from dataclasses import dataclass
from enum import StrEnum

from services.core.errors import PermissionDenied
from services.core.schema import DEFAULT_TENANT


class Scope(StrEnum):
    """What a credential allows. None includes another: a key that writes cannot read."""

    # Vectors, forecasts, recommendations, portraits.
    READ = "read"
    # Events, items, corrections.
    WRITE = "write"
    # Whole users out or away, models, what was rejected.
    ADMIN = "admin"


# Every public RPC and the scope that it takes; a server refuses to register one that is not here.
RPC_SCOPES: dict[str, Scope | None] = {
    "driftline.v1.EventService/RecordEvents": Scope.WRITE,
    "driftline.v1.EventService/UpsertItems": Scope.WRITE,
    "driftline.v1.EventService/ListRejects": Scope.ADMIN,
    "driftline.v1.InterestService/GetInterest": Scope.READ,
    "driftline.v1.InterestService/BatchGetInterests": Scope.READ,
    "driftline.v1.InterestService/GetTrajectory": Scope.READ,
    "driftline.v1.InterestService/GetForecast": Scope.READ,
    "driftline.v1.RecommendationService/RecommendItems": Scope.READ,
    "driftline.v1.RecommendationService/BatchRecommendItems": Scope.READ,
    "driftline.v1.RecommendationService/ExportRecommendations": Scope.READ,
    "driftline.v1.RecommendationService/FindSimilarItems": Scope.READ,
    "driftline.v1.ProfileService/GetProfile": Scope.READ,
    "driftline.v1.ProfileService/CorrectProfile": Scope.WRITE,
    "driftline.v1.ContentService/ForecastTopicDemand": Scope.READ,
    "driftline.v1.ContentService/DraftBrief": Scope.READ,
    "driftline.v1.PrivacyService/EraseUser": Scope.ADMIN,
    "driftline.v1.PrivacyService/GetErasure": Scope.ADMIN,
    "driftline.v1.PrivacyService/ExportUser": Scope.ADMIN,
    "driftline.v1.ModelService/ListModels": Scope.READ,
    "driftline.v1.ModelService/PromoteModel": Scope.ADMIN,
    # What may be called here at all: any credential.
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": None,
}
# Called by the pipeline alone, never served by the gateway.
INTERNAL_SERVICES = ("driftline.v1.EncoderService", "driftline.v1.ForecasterService")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller whose credential was verified."""

    # Whose data; a request never says it.
    tenant: str
    scopes: frozenset[Scope]
    # Names the credential in logs and limits; holds nothing secret. Empty: nobody was asked.
    key_id: str
    # Calls a second, and calls at once; None: what the server allows any key.
    calls_per_s: float | None = None
    max_concurrent_calls: int | None = None


# Everyone on a server that asks for no credential.
ANYONE = Principal(tenant=DEFAULT_TENANT, scopes=frozenset(Scope), key_id="")


def authorise(principal: Principal, scope: Scope | None) -> None:
    """Let a call pass, before anything that it names is looked up.

    Raises:
        PermissionDenied: the credential lacks the scope.
    """
    if scope is not None and scope not in principal.scopes:
        raise PermissionDenied(scope)
