"""A store with a live model and a second one of another space; encoder and forecaster in this process."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from services.core.model import Model
from services.core.schema import DEFAULT_TENANT
from services.core.tower import ItemTower, space_id_of
from services.encoder import translate as encoder_messages
from services.encoder.encoder import Encoder
from services.encoder.stores import EncoderStores
from services.forecaster import translate as forecaster_messages
from services.forecaster.forecaster import ForecasterStores, InterestForecaster
from services.pipeline.migrate import Migration
from services.pipeline.stores import open_stores
from services.runtime.settings import Settings
from services.store.index import FolderCatalogues
from services.store.layout import Layout
from services.store.live_models import LiveModels
from services.store.model_folder import save_model
from services.store.models import FolderRegistry
from services.store.text_vectors import TextVectors
from tests.small_store import BUCKETS, NOW, WIDTH, fill, make_model


def never() -> bool:
    return False


class InProcess:
    """Stands where ComputeClient does: the same work, without Ray between."""

    def __init__(self, settings: Settings, stores: Any, load_encoder: Callable[[Any], Any]) -> None:
        layout = Layout(settings.data_dir, BUCKETS)
        models = LiveModels(FolderRegistry(layout))
        self.encoder = Encoder(
            EncoderStores(
                models=models,
                tables=stores.tables,
                features=stores.features,
                catalogues=FolderCatalogues(layout),
                vectors=TextVectors(layout),
                load_encoder=load_encoder,
            ),
            settings,
        )
        self.forecaster = InterestForecaster(
            ForecasterStores(models=models, tables=stores.tables, features=stores.features),
            settings,
        )
        # Whose work was asked for, in order.
        self.asked: list[str] = []

    def refresh_items(self, *, is_full: bool = False, model_version: str = "") -> Any:
        self.asked.append(model_version)
        made = self.encoder.refresh_items(
            DEFAULT_TENANT, is_full=is_full, cancelled=never, model_version=model_version
        )
        return encoder_messages.items_summary_to_pb(made)

    def refresh_interests(
        self, buckets: list[int], *, is_full: bool = False, model_version: str = ""
    ) -> Any:
        made = self.encoder.refresh_interests(
            DEFAULT_TENANT, buckets, is_full=is_full, cancelled=never, model_version=model_version
        )
        return encoder_messages.interests_summary_to_pb(made)

    def refresh_forecasts(
        self, buckets: list[int], *, is_full: bool = False, model_version: str = ""
    ) -> Any:
        made = self.forecaster.refresh_forecasts(
            DEFAULT_TENANT, buckets, is_full=is_full, cancelled=never, model_version=model_version
        )
        return forecaster_messages.summary_to_pb(made)

    def refresh_population(self, *, model_version: str = "") -> Any:
        made = self.forecaster.refresh_population(DEFAULT_TENANT, model_version=model_version)
        return forecaster_messages.population_to_pb(made)


@dataclass(frozen=True)
class TwoSpaces:
    """Everything of one store."""

    settings: Settings
    old: Model
    new: Model
    stores: Any
    compute: InProcess
    migration: Migration


def other_space(model: Model, backbone_width: int, seed: int = 1) -> Model:
    """Return a model whose item tower differs: another space of the same width."""
    projection = np.random.default_rng(seed).normal(size=(backbone_width, WIDTH))
    tower = ItemTower(mean_B=model.tower.mean_B, projection_BD=projection.astype(np.float32))
    space_id = space_id_of(model.backbone, tower)
    return replace(model, model_version="m2", tower=tower, space_id=space_id)


def two_spaces(folder: Path, backbone: Any, **settings: Any) -> TwoSpaces:
    """Fill a store: m1 is live, m2 a candidate; nothing is published yet."""
    chosen = Settings(
        data_dir=folder / "data",
        bucket_count=BUCKETS,
        now=NOW,
        port=0,
        metrics_port=0,
        granularities="week",
        **settings,
    )
    layout = Layout(chosen.data_dir, BUCKETS)
    # Ranks by the interest vector, so that a recommendation shows its space.
    plain = make_model(backbone)
    eye = np.stack([np.eye(WIDTH, dtype=np.float32)] * len(plain.ranker.half_lives_days))
    old = replace(plain, ranker=replace(plain.ranker, query_HDD=eye))
    fill(layout, old, folder)
    new = other_space(old, backbone.spec.width)
    info = save_model(folder / "other", new)
    FolderRegistry(layout).add(DEFAULT_TENANT, str(folder / "other"), info)
    stores = open_stores(chosen)
    compute = InProcess(chosen, stores, lambda spec: backbone)
    migration = Migration(
        stores=stores,
        catalogues=FolderCatalogues(layout),
        compute=compute,
        settings=chosen,
    )
    return TwoSpaces(chosen, old, new, stores, compute, migration)
