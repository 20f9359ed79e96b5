"""Opens the stores that the write path needs, from settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.core.schema import DEFAULT_TENANT
from services.pipeline.health import StoreCheck
from services.pipeline.refresh import Stores
from services.runtime.settings import Settings
from services.store.demand_files import FolderDemand
from services.store.features import FeastFeatures
from services.store.index import FolderCatalogues
from services.store.layout import Layout
from services.store.models import FolderRegistry
from services.store.overlays import open_overlays
from services.store.ports import InterestReader
from services.store.redis_reader import RedisInterestReader
from services.store.sqlite_reader import SqliteInterestReader
from services.store.tables import DeltaTables


def open_stores(settings: Settings) -> Stores:
    """Open event tables, feature writer and registry; folders are made if absent.

    Raises:
        InvalidArgument: the store was made with another bucket count.
    """
    layout = Layout(settings.data_dir, settings.bucket_count)
    return Stores(
        tables=DeltaTables(layout),
        features=FeastFeatures(layout, settings.feast_config()),
        models=FolderRegistry(layout),
        overlays=open_overlays(layout, settings.online_store, settings.redis_url),
        catalogues=FolderCatalogues(layout),
        demand=FolderDemand(layout),
    )


def open_check(stores: Stores, settings: Settings, tenant: str = DEFAULT_TENANT) -> StoreCheck:
    """Open what a look at the store's health needs.

    Raises:
        NotReady: no model is live, or no index was published.
    """
    layout = Layout(settings.data_dir, settings.bucket_count)
    reader = partial(_online, settings, layout)
    return StoreCheck(stores, FolderCatalogues(layout), reader, settings, tenant)


@asynccontextmanager
async def _online(settings: Settings, layout: Layout) -> AsyncIterator[InterestReader]:
    """Open the online store's raw reader, as gateways do."""
    if settings.online_store == "redis":
        redis = RedisInterestReader(settings.redis_url)
        try:
            yield redis
        finally:
            await redis.close()
    else:
        sqlite = SqliteInterestReader(layout)
        try:
            yield sqlite
        finally:
            sqlite.close()
