"""The write path, its steps in order, on one page.

    inbox -> events + rejects      (here)
          -> erasures              (here)
          -> item vectors, index   (encoder)
          -> interest vectors      (encoder, bucket by bucket)
          -> forecasts             (forecaster, bucket by bucket)
          -> demand                (here, once a period)

Every step is incremental and idempotent: a refresh that was cut is simply run again.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from services.core.progress import Progress
from services.core.schema import DEFAULT_TENANT
from services.pipeline.compute import ComputeClient
from services.pipeline.demand import DemandStores, refresh_demand
from services.pipeline.erasure import erase_requested
from services.pipeline.preprocess import PreprocessSummary, preprocess
from services.runtime.settings import Settings
from services.store.ports import (
    CatalogueStore,
    DemandStore,
    EventTables,
    FeatureWriter,
    ModelRegistry,
    Overlays,
)

Answer = TypeVar("Answer")

# Buckets in flight at once; the replicas' queues do the rest.
PARALLEL_BUCKETS = 2


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


def refresh(
    stores: Stores,
    compute: ComputeClient,
    settings: Settings,
    *,
    tenant: str = DEFAULT_TENANT,
    is_full: bool = False,
    on_progress: Progress = lambda stage, done, total: None,
) -> RefreshSummary:
    """Take everything that came in all the way to served features.

    Args:
        stores: event tables, feature writer, registry.
        compute: client of encoder and forecaster.
        settings: bucket count, clock.
        tenant: whose data.
        is_full: make every vector again, even where nothing changed.
        on_progress: called with a stage's name, steps done, steps in all.

    Raises:
        NotReady: no model is live. DependencyUnavailable: a store or service did not answer.
    """
    taken = preprocess(stores.tables, settings, tenant=tenant)
    erased = erase_requested(
        stores.tables, stores.features, stores.models, stores.overlays, settings, tenant
    )
    on_progress("preprocess", 1, 1)
    items = compute.refresh_items(is_full=is_full)
    on_progress("encode items", 1, 1)
    interests = _each_bucket(
        lambda bucket: compute.refresh_interests([bucket], is_full=is_full),
        settings.bucket_count, "interest vectors", on_progress,
    )  # fmt: skip
    forecasts = _each_bucket(
        lambda bucket: compute.refresh_forecasts([bucket], is_full=is_full),
        settings.bucket_count, "forecasts", on_progress,
    )  # fmt: skip
    published = refresh_demand(stores.of_demand(), settings, tenant, items.space_id)
    on_progress("demand", 1, 1)
    # Only now: other teams must not meet a space that is half filled.
    stores.features.point_services(tenant, items.space_id)
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


def _each_bucket(
    step: Callable[[int], Answer], bucket_count: int, stage: str, on_progress: Progress
) -> list[Answer]:
    answers = []
    on_progress(stage, 0, bucket_count)
    with ThreadPoolExecutor(PARALLEL_BUCKETS) as pool:
        for answer in pool.map(step, range(bucket_count)):
            answers.append(answer)
            on_progress(stage, len(answers), bucket_count)
    return answers


def _pids(pids: list[int]) -> tuple[int, ...]:
    return tuple(sorted({pid for pid in pids if pid}))
