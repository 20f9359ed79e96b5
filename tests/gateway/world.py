"""A small world behind a real gateway: memory stores, four items, stubs over a loopback port."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
from driftline.v1 import (
    content_service_pb2_grpc,
    event_service_pb2_grpc,
    interest_service_pb2_grpc,
    model_service_pb2_grpc,
    privacy_service_pb2_grpc,
    profile_service_pb2_grpc,
    recommendation_service_pb2_grpc,
)
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from services.core.activity import Activity
from services.core.errors import NotReady
from services.core.periods import Period, period_from_name
from services.core.ranker import Ranker, neutral_ranker
from services.core.ranking import ItemStats
from services.core.records import Forecast, InterestVector, ModelInfo, Profile, RankState
from services.core.schema import DEFAULT_TENANT, Granularity
from services.gateway.services import Ports, services_of
from services.gateway.state import GatewayState
from services.runtime.metrics import Metrics
from services.runtime.server import serving
from services.runtime.settings import Settings
from services.store.demand_files import MemoryDemand
from services.store.erasures import Erasure, Tombstones, tombstones
from services.store.memory_events import EventMemory, MemoryInbox, MemoryTables
from services.store.memory_features import MemoryFeatures
from services.store.overlays import MemoryOverlays
from services.store.ports import Catalogue
from services.store.receipts import SignedReceipt
from services.store.user_records import UserRecord

# A Tuesday in the middle of 2026-W48.
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SPACE, VERSION = "toy_1f3c9a2b", "m1"
HALF_LIVES, WINDOWS = (21.0, 84.0, 420.0), (7.0, 28.0)
WIDTH = 2

ITEMS = {
    "jam": ("Jam", ("food", "sweet"), (1.0, 0.0)),
    "rye": ("Rye bread", ("food",), (0.8, 0.6)),
    "soap": ("Soap", ("home",), (0.0, 1.0)),
    "tea": ("Tea", ("drinks",), (-0.6, 0.8)),
}


def ranker() -> Ranker:
    """Interest counts once, popularity as learned."""
    base = neutral_ranker(HALF_LIVES, WINDOWS, WIDTH)
    eye = np.stack([np.eye(WIDTH, dtype=np.float32)] * len(HALF_LIVES))
    return replace(base, query_HDD=eye)


def catalogue(generation: str = "g1", **items: Any) -> Catalogue:
    rows = sorted((items or ITEMS).items())
    share = np.asarray([[0.4, 0.4], [0.3, 0.3], [0.2, 0.2], [0.1, 0.1]], np.float32)[: len(rows)]
    return Catalogue(
        space_id=SPACE,
        model_version=VERSION,
        generation=generation,
        item_ids=tuple(item_id for item_id, _ in rows),
        titles=tuple(row[0] for _, row in rows),
        categories=tuple(row[1] for _, row in rows),
        items_ND=np.asarray([row[2] for _, row in rows], np.float32),
        stats=ItemStats(share_NW=share, first_time_N=np.zeros(len(share))),
    )


def model(version: str = VERSION, **changes: Any) -> ModelInfo:
    made = ModelInfo(
        model_version=version,
        space_id=SPACE,
        stage="live",
        trained_time=NOW - timedelta(days=2),
        trained_until=NOW - timedelta(days=3),
        data_sha256="0" * 64,
        metrics={"recommendation.all.h1.ndcg_at_10": 0.25},
    )
    return replace(made, **changes)


def vector(period: str, granularity: Granularity = Granularity.WEEK, **changes: Any) -> Any:
    """One period's vector, known an hour after its close."""
    of = period_from_name(granularity, period)
    return vector_of(of, **changes)


def vector_of(of: Period, **changes: Any) -> InterestVector:
    angle = of.ordinal % 6
    known = of.end + timedelta(hours=1)
    made = InterestVector(
        vec_D=np.asarray([np.cos(angle), np.sin(angle)], np.float32),
        period=of,
        event_count=of.ordinal % 5 + 1,
        model_version=VERSION,
        known_time=known,
        computed_time=known,
    )
    return replace(made, **changes)


def forecast(made_at: str, horizons: tuple[int, ...] = (1, 2, 3, 4)) -> Forecast:
    means = np.asarray([[h, -h] for h in horizons], np.float32)
    return Forecast(
        means_HD=means,
        scales_HD=np.abs(means) / 2,
        horizons=horizons,
        made_at=period_from_name(Granularity.WEEK, made_at),
        forecaster="gru",
        model_version=VERSION,
        computed_time=NOW,
    )


def rank_state(*had: str, at: datetime = NOW - timedelta(days=1)) -> RankState:
    """A user who likes what is near (1, 0) and had these items, the first most recently."""
    count = len(had)
    return RankState(
        query_sums_HD=np.tile(np.asarray([4.0, 0.0], np.float32), (3, 1)),
        query_weights_H=np.full(3, 4.0, np.float32),
        activity_H=np.full(3, 3.0, np.float32),
        repeat_item_ids=had,
        repeat_counts_RH=np.full((count, 3), 2.0, np.float32),
        repeat_last_times_R=np.asarray(
            [int(at.timestamp()) - 86_400 * i for i in range(count)], np.int64
        ),
        state_time=at.timestamp(),
    )


def profile(**changes: Any) -> Profile:
    made = Profile(
        labels=("food", "home", "drinks"),
        shares=(0.5, 0.3, 0.2),
        recent_shares=(0.75, 0.25, 0.0),
        event_count=12,
        first_event_time=datetime(2026, 1, 5, 8, tzinfo=UTC),
        last_event_time=datetime(2026, 11, 22, 9, tzinfo=UTC),
        session_count=3,
        is_suspected_bot=False,
    )
    return replace(made, **changes)


def stamp(instant: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(instant)
    return made


@dataclass
class Registry:
    """Models in memory."""

    models: list[ModelInfo] = field(default_factory=lambda: [model()])

    def add(self, tenant: str, folder: str, info: ModelInfo) -> None:
        raise NotImplementedError

    def promote(self, tenant: str, model_version: str) -> None:
        raise NotImplementedError

    def live(self, tenant: str) -> ModelInfo:
        for info in self.models:
            if info.stage == "live":
                return info
        raise NotReady("live model", "run `driftline train`")

    def folder(self, tenant: str, model_version: str) -> str:
        return model_version

    def list(self, tenant: str) -> list[ModelInfo]:
        return self.models


@dataclass
class Catalogues:
    """Published catalogues in memory, by space."""

    held: dict[str, Catalogue] = field(default_factory=lambda: {SPACE: catalogue()})

    def publish(self, tenant: str, made: Catalogue) -> None:
        self.held[made.space_id] = made

    def publish_segment(self, tenant: str, made: Catalogue) -> None:
        raise NotImplementedError

    def current(self, tenant: str, space_id: str) -> Catalogue:
        if space_id not in self.held:
            raise NotReady("item index", "run `driftline refresh`")
        return self.held[space_id]

    def current_token(self, tenant: str, space_id: str) -> str:
        return self.held[space_id].generation if space_id in self.held else ""


@dataclass
class Erasures:
    """Requests in every inbox, as ErasedUsers reads them."""

    tables: MemoryTables

    def users(self, tenant: str) -> frozenset[str]:
        return frozenset(self.tables.read_inbox(tenant, {}).erasures["user_id"])


@dataclass
class Privacy:
    """Requests, receipts and copies in memory."""

    tables: MemoryTables
    # Set to what GetErasure and ExportUser are to find.
    receipts: dict[str, SignedReceipt] = field(default_factory=dict)
    held: dict[str, list[UserRecord]] = field(default_factory=dict)

    def open(self, tenant: str) -> dict[str, Erasure]:
        rows = self.tables.read_inbox(tenant, {}).erasures
        return {
            name: Erasure(erasure_id=name, user_id=user, requested_time=time)
            for name, user, time in rows.iter_rows()
        }

    def tombstones(self, tenant: str) -> Tombstones:
        return tombstones(self.tables, tenant)

    def receipt(self, tenant: str, erasure_id: str) -> SignedReceipt | None:
        return self.receipts.get(erasure_id)

    async def records(self, tenant: str, user_id: str) -> AsyncIterator[UserRecord]:
        for record in self.held.get(user_id, ()):
            yield record


@dataclass
class World:
    """Stores to fill, and stubs to call."""

    features: MemoryFeatures = field(default_factory=MemoryFeatures)
    memory: EventMemory = field(default_factory=EventMemory)
    registry: Registry = field(default_factory=Registry)
    catalogues: Catalogues = field(default_factory=Catalogues)
    overlays: MemoryOverlays = field(default_factory=MemoryOverlays)
    demand: MemoryDemand = field(default_factory=MemoryDemand)
    # Set to replace what reads history or takes events.
    history: Any = None
    inbox: Any = None
    state: GatewayState = field(init=False)
    channel: grpc.aio.Channel = field(init=False)
    # host:port.
    target: str = field(init=False)

    def __post_init__(self) -> None:
        self.features.apply(DEFAULT_TENANT, SPACE)
        self.tables = MemoryTables(self.memory)
        self.privacy = Privacy(self.tables)
        self.state = GatewayState(
            tenant=DEFAULT_TENANT,
            registry=self.registry,
            catalogues=self.catalogues,
            erased=Erasures(self.tables),
            load_ranker=lambda folder: ranker(),
        )

    def put(self, user_id: str, *vectors: InterestVector) -> None:
        self.features.put_interest(user_id, *vectors, space_id=SPACE)

    def put_forecast(self, user_id: str, made: Forecast) -> None:
        self.features.put_forecast(user_id, made, space_id=SPACE)

    def put_rank_state(self, user_id: str, made: RankState) -> None:
        self.features.put_rank_state(user_id, made, space_id=SPACE, computed_time=NOW)

    def put_profile(self, user_id: str, made: Profile) -> None:
        self.features.put_profile(user_id, made, space_id=SPACE, computed_time=NOW)

    def put_activity(self, user_id: str, made: Activity) -> None:
        self.features.put_activity(user_id, made, space_id=SPACE, computed_time=NOW)

    def events(self) -> Any:
        """Return what came into the inbox."""
        return self.tables.read_inbox(DEFAULT_TENANT, {})

    @property
    def event_service(self) -> Any:
        return event_service_pb2_grpc.EventServiceStub(self.channel)

    @property
    def interest_service(self) -> Any:
        return interest_service_pb2_grpc.InterestServiceStub(self.channel)

    @property
    def recommendation_service(self) -> Any:
        return recommendation_service_pb2_grpc.RecommendationServiceStub(self.channel)

    @property
    def profile_service(self) -> Any:
        return profile_service_pb2_grpc.ProfileServiceStub(self.channel)

    @property
    def content_service(self) -> Any:
        return content_service_pb2_grpc.ContentServiceStub(self.channel)

    @property
    def privacy_service(self) -> Any:
        return privacy_service_pb2_grpc.PrivacyServiceStub(self.channel)

    @property
    def model_service(self) -> Any:
        return model_service_pb2_grpc.ModelServiceStub(self.channel)


@asynccontextmanager
async def serve(world: World, **settings: Any) -> AsyncIterator[World]:
    """Put a world behind a real server."""
    chosen = Settings(port=0, metrics_port=0, now=NOW, **settings)
    ports = Ports(
        reader=world.features,
        history=world.history or world.features,
        inbox=world.inbox or MemoryInbox(world.memory, "gateway-0"),
        rejects=world.tables,
        registry=world.registry,
        overlays=world.overlays,
        privacy=world.privacy,
        demand=world.demand,
    )
    await world.state.start()
    async with serving(chosen, services_of(chosen, world.state, ports), Metrics()) as where:
        world.target = f"127.0.0.1:{where.port}"
        world.channel = grpc.aio.insecure_channel(world.target)
        async with world.channel:
            yield world


@dataclass(frozen=True)
class Refusal:
    """How a call failed, as a caller sees it."""

    code: str
    reason: str
    message: str
    metadata: dict[str, str]
    # Field -> what is allowed.
    fields: dict[str, str]


async def refusal(call: Any) -> Refusal:
    """Await a call that must fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        info, bad = ErrorInfo(), BadRequest()
        for detail in rpc_status.from_call(error).details:
            detail.Unpack(info) or detail.Unpack(bad)
        return Refusal(
            code=error.code().name,
            reason=info.reason.removeprefix("ERROR_REASON_"),
            message=error.details() or "",
            metadata=dict(info.metadata),
            fields={v.field: v.description for v in bad.field_violations},
        )
    raise AssertionError("the call did not fail")
