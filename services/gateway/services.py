"""Puts the public services together from ports: `main.py` gives the real ones, tests give fakes."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from driftline.v1 import (
    content_service_pb2_grpc,
    event_service_pb2_grpc,
    interest_service_pb2_grpc,
    model_service_pb2_grpc,
    privacy_service_pb2_grpc,
    profile_service_pb2_grpc,
    recommendation_service_pb2_grpc,
)

from services.gateway.answers import Instants
from services.gateway.content import Content
from services.gateway.erasure import Eraser, PrivacyStore
from services.gateway.handler import (
    ContentHandler,
    EventHandler,
    InterestHandler,
    ModelHandler,
    PrivacyHandler,
    ProfileHandler,
    RecommendationHandler,
)
from services.gateway.history import HistoryPlaces, LimitedHistory
from services.gateway.interests import Interests
from services.gateway.model_list import ModelList
from services.gateway.portraits import Portraits
from services.gateway.recommender import Recommender
from services.gateway.rejects import Rejects
from services.gateway.state import GatewayState
from services.runtime.server import Register, Service
from services.runtime.settings import Settings
from services.store.clock import clock_of
from services.store.packed_port import PackedReader
from services.store.ports import (
    DemandStore,
    HistoryReader,
    Inbox,
    ModelRegistry,
    Overlays,
)
from services.store.reject_port import RejectReader

# Services that can answer nothing new without the online store.
_READ_ONLINE = ("InterestService", "RecommendationService", "ProfileService")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the gateway asks of storage."""

    reader: PackedReader
    history: HistoryReader
    inbox: Inbox
    rejects: RejectReader
    registry: ModelRegistry
    overlays: Overlays
    privacy: PrivacyStore
    demand: DemandStore
    # Raises DependencyUnavailable where the online store cannot answer for a tenant; None: nobody asks.
    check_online: Callable[[str], Awaitable[None]] | None = None


def services_of(
    settings: Settings, state: GatewayState, ports: Ports, places: HistoryPlaces | None = None
) -> list[Service]:
    """Return every public service with the handler of one tenant.

    Args:
        settings: limits and clock.
        state: the tenant's; it says which.
        ports: stores.
        places: for reads of history, shared with other tenants; None: the tenant's own.
    """
    clock = clock_of(settings.data_dir)

    def now() -> Instants:
        return Instants(event_time=settings.clock(), ingest_time=clock.now())

    history = LimitedHistory(
        ports.history,
        max_calls=settings.max_history_calls,
        deadline_s=settings.history_deadline_s,
        places=places,
    )
    stale_after = settings.stale_after_periods
    reads = Interests(state, ports.reader, history, stale_after_periods=stale_after)
    portraits = Portraits(state, ports.reader, ports.overlays, stale_after_periods=stale_after)
    recommender = Recommender(state, ports.reader, stale_after_periods=stale_after)
    eraser = Eraser(state, ports.inbox, ports.privacy)
    content = Content(
        state, ports.demand, settings.release_terms().name, stale_after_periods=stale_after
    )
    add: dict[str, Register] = {
        "ContentService": partial(
            content_service_pb2_grpc.add_ContentServiceServicer_to_server,
            ContentHandler(content, now),
        ),
        "EventService": partial(
            event_service_pb2_grpc.add_EventServiceServicer_to_server,
            EventHandler(state.tenant, ports.inbox, Rejects(state, ports.rejects), now, eraser),
        ),
        "InterestService": partial(
            interest_service_pb2_grpc.add_InterestServiceServicer_to_server,
            InterestHandler(reads, now),
        ),
        "RecommendationService": partial(
            recommendation_service_pb2_grpc.add_RecommendationServiceServicer_to_server,
            RecommendationHandler(recommender, now),
        ),
        "ProfileService": partial(
            profile_service_pb2_grpc.add_ProfileServiceServicer_to_server,
            ProfileHandler(portraits, now),
        ),
        "PrivacyService": partial(
            privacy_service_pb2_grpc.add_PrivacyServiceServicer_to_server,
            PrivacyHandler(eraser),
        ),
        "ModelService": partial(
            model_service_pb2_grpc.add_ModelServiceServicer_to_server,
            ModelHandler(ModelList(state.tenant, ports.registry)),
        ),
    }
    check = None if ports.check_online is None else partial(ports.check_online, state.tenant)
    return [
        Service(
            full_name=f"driftline.v1.{name}",
            register=register,
            check=check if name in _READ_ONLINE else None,
        )
        for name, register in add.items()
    ]
