"""A small world for the encoder: events and items in memory, a toy text model."""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from services.core.errors import NotReady
from services.core.items import with_content_hash
from services.core.model import Model
from services.core.pooling import PoolingConfig
from services.core.ranker import neutral_ranker
from services.core.schema import DEFAULT_TENANT, Granularity
from services.core.tower import BackboneSpec, ItemTower, space_id_of
from services.encoder.encoder import Encoder
from services.encoder.stores import EncoderStores
from services.runtime.settings import Settings
from services.store.layout import Layout
from services.store.memory_events import EventMemory, MemoryTables
from services.store.memory_features import MemoryFeatures
from services.store.memory_index import MemoryCatalogues
from services.store.text_vectors import TextVectors

WIDTH, BACKBONE_WIDTH = 4, 8
BUCKETS = 2
NOW = datetime(2026, 4, 1, tzinfo=UTC)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
BACKBONE = BackboneSpec(name="toy", weights_sha256="0" * 64, width=BACKBONE_WIDTH)


def tower(seed: int = 0) -> ItemTower:
    rng = np.random.default_rng(seed)
    return ItemTower(
        mean_B=np.zeros(BACKBONE_WIDTH, np.float32),
        projection_BD=rng.normal(size=(BACKBONE_WIDTH, WIDTH)).astype(np.float32),
    )


def model(version: str = "m1", **changes: object) -> Model:
    made = Model(
        model_version=version,
        space_id=space_id_of(BACKBONE, tower()),
        backbone=BACKBONE,
        tower=tower(),
        pooling=PoolingConfig(),
        ranker=neutral_ranker((21.0, 84.0, 420.0), (7.0, 28.0), WIDTH),
        trained_time=NOW,
        trained_until=NOW,
        data_sha256="1" * 64,
        metrics={},
    )
    return replace(made, **changes)


class ToyText:
    """A text's vector is drawn from its hash; counts what it encoded."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, texts):
        self.encoded += texts
        rows = [
            np.random.default_rng(
                int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
            ).normal(size=BACKBONE_WIDTH)
            for text in texts
        ]
        vec = np.array(rows, np.float32).reshape(len(texts), BACKBONE_WIDTH)
        return vec / np.maximum(np.linalg.norm(vec, axis=1, keepdims=True), 1e-12)


class HeldModels:
    """Stands for LiveModels: serves the model it holds, and others by name."""

    def __init__(self, live: Model | None, *others: Model) -> None:
        self.live, self.others = live, others

    def model(self, tenant: str) -> Model:
        if self.live is None:
            raise NotReady("live model", "run `driftline train`")
        return self.live

    def named(self, tenant: str, model_version: str) -> Model:
        for other in self.others:
            if other.model_version == model_version:
                return other
        return self.model(tenant)


class CountingCatalogues(MemoryCatalogues):
    """Counts generations and segments."""

    def __init__(self) -> None:
        super().__init__()
        self.generations = 0
        self.segments = 0

    def publish(self, tenant, catalogue) -> None:
        self.generations += 1
        super().publish(tenant, catalogue)

    def publish_segment(self, tenant, catalogue) -> None:
        self.segments += 1
        super().publish_segment(tenant, catalogue)


class CountingFeatures(MemoryFeatures):
    """Memory features that tell what was written, and fail where asked to."""

    def __init__(self) -> None:
        super().__init__(BUCKETS)
        self.online: list[tuple[str, int]] = []
        self.parts: list[tuple[str, int]] = []
        self.fail_offline_after: int | None = None
        # Users named by each read of the history; None for all of a bucket.
        self.asked: list[list[str] | None] = []

    def read_offline(self, tenant, view, bucket, users=None, columns=None, parts=None):
        self.asked.append(None if users is None else list(users))
        return super().read_offline(tenant, view, bucket, users, columns, parts)

    def write_online(self, tenant, view, rows):
        self.online.append((view, len(rows)))
        super().write_online(tenant, view, rows)

    def append_offline(self, tenant, view, bucket, part, rows):
        if self.fail_offline_after is not None and len(self.parts) >= self.fail_offline_after:
            raise ConnectionError("cut")
        self.parts.append((view, len(rows)))
        super().append_offline(tenant, view, bucket, part, rows)

    def offline_rows(self, view: str) -> int:
        """Rows in all parts of a view, copies counted."""
        parts = self._offline.get((DEFAULT_TENANT, view), {})
        return sum(len(rows) for rows in parts.values())

    def user_ids(self, view: str) -> set[str]:
        return set(self._online[DEFAULT_TENANT, view])


@dataclass
class World:
    """Everything the encoder touches, and the encoder."""

    folder: Path
    settings: Settings
    tables: MemoryTables = field(default_factory=lambda: MemoryTables(EventMemory(), BUCKETS))
    features: CountingFeatures = field(default_factory=CountingFeatures)
    catalogues: CountingCatalogues = field(default_factory=CountingCatalogues)
    models: HeldModels = field(default_factory=lambda: HeldModels(model()))
    text: ToyText = field(default_factory=ToyText)
    _batch: int = 0

    @property
    def space_id(self) -> str:
        return self.models.live.space_id

    @property
    def encoder(self) -> Encoder:
        return self.encoder_at(self.settings)

    def encoder_at(self, settings: Settings) -> Encoder:
        stores = EncoderStores(
            models=self.models,
            tables=self.tables,
            features=self.features,
            catalogues=self.catalogues,
            vectors=TextVectors(Layout(self.folder, BUCKETS)),
            load_encoder=lambda spec: self.text,
        )
        return Encoder(stores, settings)

    def add_events(self, *rows) -> None:
        self._batch += 1
        frame = pl.DataFrame(
            [
                {"event_id": f"{self._batch}-{i}", "ingest_time": datetime.now(UTC), **row}
                for i, row in enumerate(rows)
            ],
            schema_overrides={"value": pl.Float64},
        )
        self.tables.append_events(DEFAULT_TENANT, frame, f"events-{self._batch}")

    def add_items(self, *rows) -> None:
        self._batch += 1
        frame = pl.DataFrame(
            [{"ingest_time": datetime.now(UTC), **row} for row in rows],
            schema_overrides={"categories": pl.List(pl.String)},
        )
        self.tables.append_items(DEFAULT_TENANT, with_content_hash(frame), f"items-{self._batch}")


def world(folder: Path, **settings: object) -> World:
    return World(
        folder=folder,
        settings=Settings(data_dir=folder, bucket_count=BUCKETS, now=NOW, **settings),
    )


def event(user="ann", item="tea", when="2026-03-03", kind="purchase", hour=12.0):
    at = datetime.fromisoformat(when).replace(tzinfo=UTC) + timedelta(hours=hour)
    return {"user_id": user, "item_id": item, "kind": kind, "value": 1.0, "event_time": at}


def item(item_id="tea", text="", title="", categories=("food",), updated=LONG_AGO):
    return {
        "item_id": item_id,
        "title": title or item_id,
        "text": text,
        "categories": list(categories),
        "updated_time": updated,
    }


WEEK = Granularity.WEEK
