"""A store of planted events on disk, and a training of it that another process can be asked for.

python -m tests.training.store FOLDER      trains, saying each step
"""

import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from services.core.items import with_content_hash
from services.core.recurrent import RecurrentConfig
from services.core.schema import DEFAULT_TENANT, Granularity
from services.runtime.settings import Settings
from services.store.layout import Layout
from services.store.models import FolderRegistry
from services.store.tables import DeltaTables
from services.training.command import TrainRequest, run_train
from services.training.forecaster import ForecasterConfig
from services.training.ranker import RankerConfig
from services.training.train import TrainConfig
from tests.planted import START, planted_events

UNTIL = START + timedelta(weeks=12)
CONFIG = TrainConfig(
    ranker=RankerConfig(width=8, epochs=10, origins=4),
    forecaster=ForecasterConfig(horizons=2, components=0, net=RecurrentConfig(hidden=4, epochs=1)),
    forecast_granularities=(Granularity.WEEK,),
    checkpoint_every_s=0.0,
)


class Store:
    def __init__(self, root: Path):
        self.settings = Settings(data_dir=root, bucket_count=2)
        self.layout = Layout(root, 2)
        self.tables, self.models = DeltaTables(self.layout), FolderRegistry(self.layout)

    def append(self, events: pl.DataFrame, ingest_time: datetime = UNTIL) -> None:
        """Append events and the items they name."""
        at = pl.lit(ingest_time).cast(pl.Datetime("us", "UTC"))
        items = events.unique("item_id", maintain_order=True).select(
            "item_id", pl.lit("").alias("title"), "text",
            pl.lit(["all"]).alias("categories"),
            pl.lit(START).cast(pl.Datetime("us", "UTC")).alias("updated_time"),
            at.alias("ingest_time"),
        )  # fmt: skip
        name = f"at {ingest_time}"
        self.tables.append_items(DEFAULT_TENANT, with_content_hash(items), name)
        rows = events.drop("text").with_columns(
            pl.concat_str("user_id", "item_id", pl.col("event_time").cast(pl.String)).alias(
                "event_id"
            ),
            at.alias("ingest_time"),
        )
        self.tables.append_events(DEFAULT_TENANT, rows, name)

    def train(self, config=CONFIG, on_progress=lambda stage, done, total: None, **request):
        request = TrainRequest(**{"until": UNTIL, **request})
        return run_train(
            self.tables, self.models, self.settings, request,
            layout=self.layout, config=config, on_progress=on_progress,
        )  # fmt: skip

    def states(self) -> list[str]:
        """Return what a killed training left."""
        root = self.layout.training_dir(DEFAULT_TENANT)
        return sorted(path.name for path in root.glob("*/*.safetensors"))


def filled(root: Path, events: pl.DataFrame | None = None) -> Store:
    store = Store(root)
    store.append(planted_events(users=16) if events is None else events)
    return store


if __name__ == "__main__":
    Store(Path(sys.argv[1])).train(
        replace(CONFIG), lambda stage, done, total: print(stage, done, flush=True)
    )
