"""Puts the public services together from ports: `main.py` gives the real ones, tests give fakes."""

from dataclasses import dataclass
from datetime import UTC, datetime

from driftline.v1 import (
    event_service_pb2_grpc,
    interest_service_pb2_grpc,
    model_service_pb2_grpc,
    privacy_service_pb2_grpc,
    profile_service_pb2_grpc,
    recommendation_service_pb2_grpc,
)

from services.gateway.answers import Instants
from services.gateway.erasure import Eraser
from services.gateway.handler import (
    EventHandler,
    InterestHandler,
    ModelHandler,
    PrivacyHandler,
    ProfileHandler,
    RecommendationHandler,
)
from services.gateway.history import LimitedHistory
from services.gateway.interests import Interests
from services.gateway.model_list import ModelList
from services.gateway.recommender import Recommender
from services.gateway.state import GatewayState
from services.runtime.server import Service
from services.runtime.settings import Settings
from services.store.ports import HistoryReader, Inbox, InterestReader, ModelRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the gateway asks of storage."""

    reader: InterestReader
    history: HistoryReader
    inbox: Inbox
    registry: ModelRegistry


def services_of(settings: Settings, state: GatewayState, ports: Ports) -> list[Service]:
    """Return every public service with its handler."""

    def now() -> Instants:
        return Instants(event_time=settings.clock(), ingest_time=datetime.now(UTC))

    history = LimitedHistory(
        ports.history,
        max_calls=settings.max_history_calls,
        deadline_s=settings.history_deadline_s,
    )
    stale_after = settings.stale_after_periods
    reads = Interests(state, ports.reader, history, stale_after_periods=stale_after)
    recommender = Recommender(state, ports.reader, stale_after_periods=stale_after)
    events = EventHandler(state.tenant, ports.inbox, now)
    interests = InterestHandler(reads, now)
    recommendations = RecommendationHandler(recommender, now)
    profiles = ProfileHandler(reads, now)
    privacy = PrivacyHandler(Eraser(state, ports.inbox))
    models = ModelHandler(ModelList(state.tenant, ports.registry))
    return [
        Service(
            full_name="driftline.v1.EventService",
            register=lambda server: event_service_pb2_grpc.add_EventServiceServicer_to_server(
                events, server
            ),
        ),
        Service(
            full_name="driftline.v1.InterestService",
            register=lambda server: interest_service_pb2_grpc.add_InterestServiceServicer_to_server(
                interests, server
            ),
        ),
        Service(
            full_name="driftline.v1.RecommendationService",
            register=lambda server: (
                recommendation_service_pb2_grpc.add_RecommendationServiceServicer_to_server(
                    recommendations, server
                )
            ),
        ),
        Service(
            full_name="driftline.v1.ProfileService",
            register=lambda server: profile_service_pb2_grpc.add_ProfileServiceServicer_to_server(
                profiles, server
            ),
        ),
        Service(
            full_name="driftline.v1.PrivacyService",
            register=lambda server: privacy_service_pb2_grpc.add_PrivacyServiceServicer_to_server(
                privacy, server
            ),
        ),
        Service(
            full_name="driftline.v1.ModelService",
            register=lambda server: model_service_pb2_grpc.add_ModelServiceServicer_to_server(
                models, server
            ),
        ),
    ]
