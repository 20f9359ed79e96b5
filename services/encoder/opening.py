"""Opens the encoder's stores, from settings. Without Ray."""

from functools import partial

from services.encoder.stores import EncoderStores
from services.runtime.settings import Settings
from services.store.backbone import load_spec
from services.store.features import FeastFeatures
from services.store.index import FolderCatalogues
from services.store.layout import Layout
from services.store.live_models import LiveModels
from services.store.models import FolderRegistry
from services.store.tables import DeltaTables
from services.store.text_vectors import TextVectors


def open_stores(settings: Settings) -> EncoderStores:
    """Open the stores in the data folder."""
    layout = Layout(settings.data_dir, settings.bucket_count)
    return EncoderStores(
        models=LiveModels(FolderRegistry(layout)),
        tables=DeltaTables(layout),
        features=FeastFeatures(layout, settings.feast_config()),
        catalogues=FolderCatalogues(layout),
        vectors=TextVectors(layout),
        load_encoder=partial(
            load_spec,
            device="cuda" if settings.encoder_num_gpus else "cpu",
            is_bf16=settings.encoder_bf16,
            is_compiled=settings.encoder_compile,
        ),
    )
