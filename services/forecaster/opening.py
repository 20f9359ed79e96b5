"""Opens the forecaster's stores, from settings. Without Ray."""

from services.forecaster.forecaster import ForecasterStores
from services.runtime.settings import Settings
from services.store.features import FeastFeatures
from services.store.layout import Layout
from services.store.live_models import LiveModels
from services.store.models import FolderRegistry
from services.store.tables import DeltaTables


def open_stores(settings: Settings) -> ForecasterStores:
    """Open the stores in the data folder."""
    layout = Layout(settings.data_dir, settings.bucket_count)
    return ForecasterStores(
        models=LiveModels(FolderRegistry(layout)),
        tables=DeltaTables(layout),
        features=FeastFeatures(layout, settings.feast_config()),
    )
