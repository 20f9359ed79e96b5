"""`python -m services.gateway.main`: the public server, configured by DRIFTLINE_* variables alone."""

import asyncio

from driftline.v1 import (
    event_service_pb2_grpc,
    interest_service_pb2_grpc,
    model_service_pb2_grpc,
    privacy_service_pb2_grpc,
    profile_service_pb2_grpc,
    recommendation_service_pb2_grpc,
)

from services.core.schema import DEFAULT_TENANT
from services.gateway.handler import (
    EventHandler,
    InterestHandler,
    ModelHandler,
    PrivacyHandler,
    ProfileHandler,
    RecommendationHandler,
)
from services.gateway.reads import Reads
from services.gateway.state import GatewayState
from services.runtime.logs import configure_logs
from services.runtime.metrics import Metrics
from services.runtime.server import Service, serve_until_stopped
from services.runtime.settings import Settings, load_settings
from services.store.erasures import ErasedUsers
from services.store.history_reader import ParquetHistory
from services.store.inbox import DeltaInbox
from services.store.index import FolderCatalogues
from services.store.interest_reads import InterestReads
from services.store.layout import Layout
from services.store.models import FolderRegistry
from services.store.redis_reader import RedisInterestReader
from services.store.sqlite_reader import SqliteInterestReader


def open_reader(settings: Settings, layout: Layout) -> InterestReads:
    """Return the raw reader of the online store that the settings name."""
    if settings.online_store == "redis":
        return RedisInterestReader(settings.redis_url)
    return SqliteInterestReader(layout)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM, then drain."""
    layout = Layout(settings.data_dir, settings.bucket_count)
    models, inbox = FolderRegistry(layout), DeltaInbox(layout, settings.writer)
    state = GatewayState(DEFAULT_TENANT, models, FolderCatalogues(layout), ErasedUsers(layout))
    state.poll()
    reads = Reads(state, open_reader(settings, layout), ParquetHistory(layout), settings)
    poller = asyncio.create_task(state.follow(settings.poll_s))
    try:
        await serve_until_stopped(settings, _services(reads, inbox, state, models), Metrics())
    finally:
        poller.cancel()
        await inbox.close()


def _services(
    reads: Reads, inbox: DeltaInbox, state: GatewayState, models: FolderRegistry
) -> list[Service]:
    """Return every service with its handler."""
    added = {
        "EventService": lambda s: event_service_pb2_grpc.add_EventServiceServicer_to_server(
            EventHandler(inbox, reads, state.tenant), s
        ),
        "InterestService": lambda s: (
            interest_service_pb2_grpc.add_InterestServiceServicer_to_server(
                InterestHandler(reads), s
            )
        ),
        "RecommendationService": lambda s: (
            recommendation_service_pb2_grpc.add_RecommendationServiceServicer_to_server(
                RecommendationHandler(reads), s
            )
        ),
        "ProfileService": lambda s: profile_service_pb2_grpc.add_ProfileServiceServicer_to_server(
            ProfileHandler(reads), s
        ),
        "PrivacyService": lambda s: privacy_service_pb2_grpc.add_PrivacyServiceServicer_to_server(
            PrivacyHandler(inbox, state), s
        ),
        "ModelService": lambda s: model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelHandler(models, state.tenant), s
        ),
    }
    requests = {
        "EventService": ("RecordEvents", "UpsertItems"),
        "InterestService": ("GetInterest", "BatchGetInterests", "GetTrajectory", "GetForecast"),
        "RecommendationService": ("RecommendItems", "FindSimilarItems"),
        "ProfileService": ("GetProfile",),
        "PrivacyService": ("EraseUser",),
        "ModelService": ("ListModels",),
    }
    return [
        Service(
            full_name=f"driftline.v1.{name}",
            register=register,
            request_types=tuple(f"driftline.v1.{rpc}Request" for rpc in requests[name]),
        )
        for name, register in added.items()
    ]


def main() -> None:
    """Read the settings and serve."""
    settings = load_settings()
    configure_logs(settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
