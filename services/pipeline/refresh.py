"""The write path, its steps in order, on one page.

    inbox -> events + rejects      (here)
          -> erasures              (here)
          -> item vectors, index   (encoder)
          -> interest vectors      (encoder, some buckets a call)
          -> forecasts, bursts     (forecaster, some buckets a call)
          -> bursts of everyone    (forecaster)
          -> demand                (here, once a period)

Every step is incremental and idempotent: a refresh that was cut is simply run again. During a
migration the encoder's and the forecaster's steps are done in both spaces.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict, TypeVar

from driftline.v1 import encoder_service_pb2, forecaster_service_pb2

from services.core.progress import Progress
from services.core.schema import DEFAULT_TENANT
from services.pipeline.compute import Compute
from services.pipeline.demand import DemandStores, refresh_demand
from services.pipeline.erasure import erase_requested
from services.pipeline.preprocess import PreprocessSummary, preprocess
from services.runtime.settings import Settings
from services.store.health import REFRESHED, refreshed_to_state
from services.store.ports import (
    CatalogueStore,
    DemandStore,
    EventTables,
    FeatureWriter,
    ModelRegistry,
    Overlays,
)

Answer = TypeVar("Answer")

# Calls in flight at once; the replicas' queues do the rest.
PARALLEL_CALLS = 2
# Buckets of a call: few users of many buckets are made together, which costs little more than one.
BUCKETS_A_CALL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What the write path reads and writes itself."""

    tables: EventTables
    features: FeatureWriter
    models: ModelRegistry
    overlays: Overlays
    catalogues: CatalogueStore
    demand: DemandStore

    def of_demand(self) -> DemandStores:
        """Return those that demand is made from."""
        return DemandStores(tables=self.tables, catalogues=self.catalogues, demand=self.demand)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshSummary:
    """What one refresh did."""

    preprocess: PreprocessSummary
    erased_users: int
    encoded_texts: int
    items: int
    users: int
    vectors: int
    forecasts: int
    # Periods of demand that were published.
    demand_periods: int
    encoder_pids: tuple[int, ...]
    forecaster_pids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceRefresh:
    """What encoder and forecaster did in one space."""

    items: encoder_service_pb2.RefreshItemsResponse
    # By call.
    interests: list[encoder_service_pb2.RefreshInterestsResponse]
    forecasts: list[forecaster_service_pb2.RefreshForecastsResponse]


def refresh(
    stores: Stores,
    compute: Compute,
    settings: Settings,
    *,
    tenant: str = DEFAULT_TENANT,
    is_full: bool = False,
    parallel_calls: int = PARALLEL_CALLS,
    on_progress: Progress = lambda stage, done, total: None,
) -> RefreshSummary:
    """Take everything that came in all the way to served features.

    Args:
        stores: event tables, feature writer, registry.
        compute: encoder and forecaster.
        settings: bucket count, clock.
        tenant: whose data.
        is_full: make every vector again, even where nothing changed.
        parallel_calls: calls over buckets under way at once.
        on_progress: called with a stage's name, steps done, steps in all.

    Raises:
        NotReady: no model is live. DependencyUnavailable: a store or service did not answer.
    """
    began = datetime.now(UTC)
    taken = preprocess(stores.tables, settings, tenant=tenant)
    erased = erase_requested(
        stores.tables, stores.features, stores.models, stores.overlays, settings, tenant
    )
    on_progress("preprocess", 1, 1)
    made = refresh_space(
        compute, settings, is_full=is_full, parallel_calls=parallel_calls, on_progress=on_progress
    )
    items, interests, forecasts = made.items, made.interests, made.forecasts
    published = refresh_demand(stores.of_demand(), settings, tenant, items.space_id)
    on_progress("demand", 1, 1)
    # Only now: other teams must not meet a space that is half filled, nor one that a migration left.
    if stores.models.live(tenant).space_id == items.space_id:
        stores.features.point_services(tenant, items.space_id)
    if (shadow := stores.models.shadow(tenant)) is not None:
        refresh_space(
            compute, settings, model_version=shadow.model_version, is_full=is_full,
            parallel_calls=parallel_calls,
        )  # fmt: skip
    stores.tables.write_state(tenant, REFRESHED, refreshed_to_state(began))
    return RefreshSummary(
        preprocess=taken,
        erased_users=erased,
        encoded_texts=items.encoded_text_count,
        items=items.item_count,
        users=sum(answer.user_count for answer in interests),
        vectors=sum(answer.vector_count for answer in interests),
        forecasts=sum(answer.forecast_count for answer in forecasts),
        demand_periods=published,
        encoder_pids=_pids([items.replica_pid, *(answer.replica_pid for answer in interests)]),
        forecaster_pids=_pids([answer.replica_pid for answer in forecasts]),
    )


def refresh_space(
    compute: Compute,
    settings: Settings,
    *,
    model_version: str = "",
    is_full: bool = False,
    parallel_calls: int = PARALLEL_CALLS,
    on_progress: Progress = lambda stage, done, total: None,
) -> SpaceRefresh:
    """Bring items, vectors and forecasts of one model's space up to date (empty: the live one's).

    Raises as refresh.
    """
    by: _By = {"is_full": is_full, "model_version": model_version}
    items = compute.refresh_items(**by)
    on_progress("encode items", 1, 1)
    calls = calls_of(settings.bucket_count, parallel_calls)
    interests = _each_call(
        lambda buckets: compute.refresh_interests(buckets, **by),
        calls, parallel_calls, "interest vectors", on_progress,
    )  # fmt: skip
    forecasts = _each_call(
        lambda buckets: compute.refresh_forecasts(buckets, **by),
        calls, parallel_calls, "forecasts", on_progress,
    )  # fmt: skip
    compute.refresh_population(model_version=model_version)
    return SpaceRefresh(items=items, interests=interests, forecasts=forecasts)


def calls_of(bucket_count: int, parallel_calls: int = 1) -> list[list[int]]:
    """Return the buckets of each call: few enough that calls at once have something to do."""
    size = min(BUCKETS_A_CALL, -(-bucket_count // parallel_calls))
    starts = range(0, bucket_count, size)
    return [list(range(start, min(start + size, bucket_count))) for start in starts]


def _each_call(
    step: Callable[[list[int]], Answer],
    calls: list[list[int]],
    parallel_calls: int,
    stage: str,
    on_progress: Progress,
) -> list[Answer]:
    answers, done = [], 0
    bucket_count = sum(map(len, calls))
    on_progress(stage, 0, bucket_count)
    with ThreadPoolExecutor(parallel_calls) as pool:
        for buckets, answer in zip(calls, pool.map(step, calls), strict=True):
            answers.append(answer)
            done += len(buckets)
            on_progress(stage, done, bucket_count)
    return answers


class _By(TypedDict):
    is_full: bool
    model_version: str


def _pids(pids: list[int]) -> tuple[int, ...]:
    return tuple(sorted({pid for pid in pids if pid}))
