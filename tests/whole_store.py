"""The write path on real stores in one process, without Ray: what a refresh does, on a data folder.

Encoder and forecaster are the deployments' own classes over Delta, Feast and the folder registry;
texts are encoded by a toy, so that it starts in a second.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from services.core.schema import DEFAULT_TENANT
from services.encoder.encoder import Encoder
from services.encoder.stores import EncoderStores
from services.forecaster.forecaster import ForecasterStores, InterestForecaster
from services.pipeline.refresh import RefreshSummary, refresh
from services.pipeline.stores import open_stores
from services.runtime.settings import Settings
from services.store.inbox import InboxWriter
from services.store.index import FolderCatalogues
from services.store.layout import Layout
from services.store.live_models import LiveModels
from services.store.model_folder import save_model
from services.store.models import FolderRegistry
from services.store.online_reader import open_online_reader
from services.store.text_vectors import TextVectors
from tests.encoder.world import ToyText, model

NOW = datetime(2026, 4, 1, tzinfo=UTC)
BUCKETS = 2
ITEMS = ("tea", "milk", "socks", "rye")


class LocalCompute:
    """ComputeClient without a wire."""

    def __init__(self, settings: Settings) -> None:
        self.stores = open_stores(settings)
        layout = Layout(settings.data_dir, settings.bucket_count)
        models = LiveModels(FolderRegistry(layout))
        self.encoder = Encoder(
            EncoderStores(
                models=models,
                tables=self.stores.tables,
                features=self.stores.features,
                catalogues=FolderCatalogues(layout),
                vectors=TextVectors(layout),
                load_encoder=lambda spec: ToyText(),
            ),
            settings,
        )
        self.forecaster = InterestForecaster(
            ForecasterStores(
                models=models, tables=self.stores.tables, features=self.stores.features
            ),
            settings,
        )

    def refresh_items(self, **by: Any) -> Any:
        by = {"is_full": False, "cancelled": _never, **by}
        return _Answer(self.encoder.refresh_items(DEFAULT_TENANT, **by))

    def refresh_interests(self, buckets: list[int], **by: Any) -> Any:
        by = {"is_full": False, "cancelled": _never, **by}
        return _Answer(self.encoder.refresh_interests(DEFAULT_TENANT, buckets, **by))

    def refresh_forecasts(self, buckets: list[int], **by: Any) -> Any:
        by = {"is_full": False, "cancelled": _never, **by}
        return _Answer(self.forecaster.refresh_forecasts(DEFAULT_TENANT, buckets, **by))

    def refresh_population(self, **by: Any) -> Any:
        return _Population(self.forecaster.refresh_population(DEFAULT_TENANT, **by))


@dataclass(frozen=True)
class _Population:
    rise_count: int
    replica_pid: int = 0


class _Answer:
    """A summary that has a pid too, as a reply on the wire does."""

    replica_pid = 0

    def __init__(self, summary: Any) -> None:
        self._summary = summary

    def __getattr__(self, name: str) -> Any:
        return getattr(self._summary, name)


@dataclass
class Store:
    """A data folder with a live model and four items."""

    settings: Settings

    @property
    def layout(self) -> Layout:
        return Layout(self.settings.data_dir, BUCKETS)

    @property
    def space_id(self) -> str:
        return FolderRegistry(self.layout).live(DEFAULT_TENANT).space_id

    def record(self, rows: pl.DataFrame, writer: str = "gateway-0") -> None:
        InboxWriter(self.layout, writer).append("events", rows)

    def refresh(self) -> RefreshSummary:
        compute = LocalCompute(self.settings)
        return refresh(compute.stores, compute, self.settings)  # type: ignore[arg-type]

    def online(self) -> dict[str, dict[str, Any]]:
        """Return {view: {user: features}} of every user with events, of all online views."""
        from services.core.schema import USER_ID
        from services.core.views import views_of

        users = sorted(set(open_stores(self.settings).tables.read_events(DEFAULT_TENANT)[USER_ID]))
        return asyncio.run(self._online(users, views_of(self.space_id).values()))

    async def _online(self, users: list[str], views: Any) -> dict[str, dict[str, Any]]:
        reader = open_online_reader(self.settings.feast_config(), self.layout)
        found: dict[str, dict[str, Any]] = {}
        for view in views:
            if view.is_online and view.join_keys == ("user_id",):
                rows = await reader.fetch(DEFAULT_TENANT, view.name, users)
                found[view.name] = {
                    user: {name: _plain(value) for name, value in row.features.items()}
                    for user, row in zip(users, rows, strict=True)
                    if row is not None
                }
        return found


def make_store(folder: Path, **settings: Any) -> Store:
    """Make a data folder with a live model and items in the inbox."""
    chosen = Settings(
        data_dir=folder / "data", bucket_count=BUCKETS, now=NOW, granularities="week", **settings
    )
    layout = Layout(chosen.data_dir, BUCKETS)
    add_model(layout, folder, "m1")
    FolderRegistry(layout).promote(DEFAULT_TENANT, "m1")
    items = pl.DataFrame(
        {
            "item_id": list(ITEMS),
            "title": list(ITEMS),
            "text": [""] * len(ITEMS),
            "categories": [["all"]] * len(ITEMS),
            "updated_time": [datetime(1970, 1, 1, tzinfo=UTC)] * len(ITEMS),
        }
    )
    InboxWriter(layout, "gateway-0").append("items", items)
    return Store(chosen)


def add_model(layout: Layout, folder: Path, version: str) -> None:
    """Put a candidate into the registry; all are of one space."""
    info = save_model(folder / version, model(version))
    FolderRegistry(layout).add(DEFAULT_TENANT, str(folder / version), info)


def some_events(count: int = 120, users: int = 8, seed: int = 0, prefix: str = "e") -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "event_id": [f"{prefix}{n}" for n in range(count)],
            "user_id": [f"u{n % users}" for n in range(count)],
            "item_id": rng.choice(list(ITEMS), count).tolist(),
            "kind": ["purchase"] * count,
            "value": [1.0] * count,
            "event_time": [NOW - timedelta(days=float(d)) for d in rng.uniform(0, 80, count)],
        }
    )


def _never() -> bool:
    return False


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
