"""A small store on disk for tests that run real processes: a live model, items, months of events."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from services.core.items import with_content_hash
from services.core.model import Model
from services.core.pooling import PoolingConfig
from services.core.ranker import neutral_ranker
from services.core.schema import DEFAULT_TENANT
from services.core.tower import ItemTower, space_id_of
from services.store.backbone import Backbone
from services.store.layout import Layout
from services.store.model_folder import save_model
from services.store.models import FolderRegistry
from services.store.tables import DeltaTables

NOW = datetime(2026, 4, 1, tzinfo=UTC)
WIDTH, BUCKETS, USERS = 16, 2, 60
TITLES = {"tea": "green tea", "milk": "whole milk", "socks": "wool socks", "blank": ""}


def make_model(backbone: Backbone) -> Model:
    projection = np.random.default_rng(0).normal(size=(backbone.width, WIDTH))
    tower = ItemTower(
        mean_B=np.zeros(backbone.width, np.float32), projection_BD=projection.astype(np.float32)
    )
    return Model(
        model_version="m1",
        space_id=space_id_of(backbone.spec, tower),
        backbone=backbone.spec,
        tower=tower,
        pooling=PoolingConfig(),
        ranker=neutral_ranker((21.0, 84.0, 420.0), (7.0, 28.0), WIDTH),
        trained_time=NOW,
        trained_until=NOW,
        data_sha256="1" * 64,
        metrics={},
    )


def fill(layout: Layout, model: Model, folder: Path) -> None:
    """Put a live model, four items and some months of events into a store."""
    info = save_model(folder / "model", model)
    registry = FolderRegistry(layout)
    registry.add(DEFAULT_TENANT, str(folder / "model"), info)
    registry.promote(DEFAULT_TENANT, model.model_version)
    tables = DeltaTables(layout)
    items = pl.DataFrame(
        {
            "item_id": list(TITLES),
            "title": list(TITLES.values()),
            "text": [""] * len(TITLES),
            "categories": [["all"]] * len(TITLES),
            "updated_time": [datetime(1970, 1, 1, tzinfo=UTC)] * len(TITLES),
            "ingest_time": [NOW] * len(TITLES),
        }
    )
    tables.append_items(DEFAULT_TENANT, with_content_hash(items), "items")
    rng = np.random.default_rng(1)
    count = 40 * USERS
    events = pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(count)],
            "user_id": [f"u{n % USERS}" for n in range(count)],
            "item_id": rng.choice(list(TITLES), count).tolist(),
            "kind": ["purchase"] * count,
            "value": [1.0] * count,
            "event_time": [NOW - timedelta(days=float(d)) for d in rng.uniform(0, 90, count)],
            "ingest_time": [NOW] * count,
        }
    )
    tables.append_events(DEFAULT_TENANT, events, "events")
