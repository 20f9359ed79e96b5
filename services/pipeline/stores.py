"""Opens the stores that the write path needs, from settings."""

from services.pipeline.refresh import Stores
from services.runtime.settings import Settings
from services.store.demand_files import FolderDemand
from services.store.features import FeastFeatures
from services.store.index import FolderCatalogues
from services.store.layout import Layout
from services.store.models import FolderRegistry
from services.store.overlays import open_overlays
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
