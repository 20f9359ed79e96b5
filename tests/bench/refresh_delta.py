"""`python -m tests.bench.refresh_delta`: new events of 1% of users in an open period, against a full refresh.

The whole write path on the embedded store, in one process without Ray: inbox, items, interests, forecasts,
every granularity that is served by default. Writes build/bench/refresh-delta.json; the cost of closing a
week stands in it apart.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from services.core.model import Model
from services.core.pooling import PoolingConfig
from services.core.ranker import neutral_ranker
from services.core.schema import DEFAULT_TENANT, EVENT_ID, EVENT_TIME, ITEM_ID, TEXT, USER_ID
from services.core.tower import space_id_of
from services.encoder.encoder import Encoder
from services.encoder.opening import open_stores as open_encoder_stores
from services.encoder.stores import EncoderStores
from services.forecaster.forecaster import InterestForecaster
from services.forecaster.opening import open_stores as open_forecaster_stores
from services.pipeline.complete_journey import complete_journey_events
from services.pipeline.preprocess import preprocess
from services.pipeline.refresh import calls_of
from services.runtime.settings import Settings
from services.store.backbone import load_backbone
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from services.store.model_folder import save_model
from services.store.models import FolderRegistry
from services.store.ports import TextEncoder
from services.store.tables import DeltaTables
from services.training.start import start_tower
from tests.bench.page import write_page
from tests.bench.pairs import OUT, Bench, Goal, line, write
from tests.bench.work import Work, compared, timed

SHARE = 0.01
WIDTH = 128
# A Wednesday: its week, its month and its day are open.
OPEN_DAYS = timedelta(days=2, hours=20)


@dataclass(kw_only=True)
class WritePath:
    """A store that is refreshed, and new events to come."""

    settings: Settings
    backbone: TextEncoder
    now: datetime
    # Of the days before `now`: what new events are made like.
    recent: pl.DataFrame
    users: list[str]
    published: list[int] = field(default_factory=list)
    _turn: int = 0

    def __post_init__(self) -> None:
        self.at(self.now)

    def at(self, now: datetime) -> None:
        """Open encoder and forecaster as they are at an instant."""
        self.settings = self.settings.model_copy(update={"now": now})
        self._layout = Layout(self.settings.data_dir, self.settings.bucket_count)
        self._tables = DeltaTables(self._layout)
        self._encoder = Encoder(self._stores(), self.settings)
        self._forecaster = InterestForecaster(open_forecaster_stores(self.settings), self.settings)

    def _stores(self) -> EncoderStores:
        return replace(open_encoder_stores(self.settings), load_encoder=lambda spec: self.backbone)

    def refresh(
        self, *, is_full: bool, on_step: Callable[[str], None] = lambda step: None
    ) -> tuple[int, int]:
        """Take everything that waits to served features; returns vectors and forecasts published."""
        never: Any = {"is_full": is_full, "cancelled": lambda: False}
        preprocess(self._tables, self.settings)
        on_step("intake")
        self._encoder.refresh_items(DEFAULT_TENANT, **never)
        on_step("items")
        vectors = forecasts = 0
        for buckets in calls_of(self.settings.bucket_count):
            made = self._encoder.refresh_interests(DEFAULT_TENANT, buckets, **never)
            vectors += made.vector_count
        on_step("interests")
        for buckets in calls_of(self.settings.bucket_count):
            ahead = self._forecaster.refresh_forecasts(DEFAULT_TENANT, buckets, **never)
            forecasts += ahead.forecast_count
        on_step("forecasts")
        return vectors, forecasts

    def delta(self) -> Work:
        """Record events of 1% of users in the open week, and refresh."""
        self._turn += 1
        rng = np.random.default_rng(self._turn)
        count = max(round(len(self.users) * SHARE), 1)
        users = rng.choice(self.users, count, replace=False).tolist()
        new = pl.concat(
            self.recent.sample(10, seed=self._turn, with_replacement=True).with_columns(
                pl.lit(user).alias(USER_ID),
                pl.format("new-{}-{}-{}", pl.lit(self._turn), pl.lit(user), pl.int_range(pl.len())).alias(EVENT_ID),
            )
            for user in users
        )  # fmt: skip
        InboxWriter(self._layout, "bench").append("events", new)
        published = 0

        def run() -> None:
            nonlocal published
            published, _ = self.refresh(is_full=False)

        work = timed(1, run)
        assert published >= count, "a user's new events made no new vector"
        self.published.append(published)
        return work

    def full(self) -> Work:
        """Make everything anew."""
        return timed(1, lambda: self.refresh(is_full=True))


def make(folder: Path, events: pl.DataFrame, backbone: TextEncoder) -> WritePath:
    """Fill a store with events and a model, and publish all of it once."""
    last = events[EVENT_TIME].max()
    assert isinstance(last, datetime)
    monday = (last - timedelta(days=14)).replace(hour=0, minute=0, second=0, microsecond=0)
    monday -= timedelta(days=monday.weekday())
    now = monday + OPEN_DAYS
    settings = Settings(data_dir=folder / "data", now=now)
    layout = Layout(settings.data_dir, settings.bucket_count)
    events = events.filter(pl.col(EVENT_TIME) < now)
    inbox = prepare(layout, folder / "model", events, backbone, monday)
    rows = events.drop(TEXT, "categories")
    inbox.append("events", rows)
    path = WritePath(
        settings=settings,
        backbone=backbone,
        now=now,
        recent=rows.filter(pl.col(EVENT_TIME) >= monday),
        users=events[USER_ID].unique().sort().to_list(),
    )
    path.refresh(is_full=False)
    return path


def prepare(
    layout: Layout, folder: Path, events: pl.DataFrame, backbone: TextEncoder, until: datetime
) -> InboxWriter:
    """Put a live model, made in a folder, and the events' items into a store; returns its inbox."""
    items = events.drop_nulls(TEXT).unique(ITEM_ID, keep="first", maintain_order=True)
    model = _model(backbone, items[TEXT].to_list(), until)
    info = save_model(folder, model)
    registry = FolderRegistry(layout)
    registry.add(DEFAULT_TENANT, str(folder), info)
    registry.promote(DEFAULT_TENANT, model.model_version)
    inbox = InboxWriter(layout, "bench")
    inbox.append(
        "items",
        items.select(
            ITEM_ID,
            pl.col(TEXT).alias("title"),
            pl.lit("").alias("text"),
            "categories",
            pl.lit(datetime(1970, 1, 1, tzinfo=until.tzinfo)).alias("updated_time"),
        ),
    )
    return inbox


def _model(backbone: TextEncoder, texts: list[str], until: datetime) -> Model:
    tower = start_tower(backbone.encode(texts), WIDTH)
    return Model(
        model_version="m1",
        space_id=space_id_of(backbone.spec, tower),
        backbone=backbone.spec,
        tower=tower,
        pooling=PoolingConfig(),
        ranker=neutral_ranker((21.0, 84.0, 420.0), (7.0, 28.0), WIDTH),
        trained_time=until,
        trained_until=until,
        data_sha256="1" * 64,
        metrics={},
    )


def measure(path: WritePath, pairs: int) -> dict[str, Any]:
    """Return the result, with the cost of closing a week beside."""
    bench = Bench(
        name="refresh-delta",
        what=f"refresh after 10 new events of each of {SHARE:.0%} of {len(path.users)} households, open period",
        peer_name="a full refresh of the same store",
        goals=(Goal(figure="per_s", at_least=20.0),),
        notes=(
            "one process, one thread for numpy, SQLite online store, days, weeks and months; the forecaster "
            "is the untrained one",
        ),
    )
    found = compared(bench, path.delta, path.full, pairs)
    path.at(path.now + timedelta(days=5))
    started = time.process_time()
    vectors, forecasts = path.refresh(is_full=False)
    found["closing_a_week"] = {
        "cpu_s": time.process_time() - started,
        "vectors": vectors,
        "forecasts": forecasts,
        "full_refresh_cpu_s": 1 / found["peer"]["per_cpu_s"],
    }
    found["notes"].append(
        f"closing a week: {found['closing_a_week']['cpu_s']:.1f} CPU s, a full refresh "
        f"{found['closing_a_week']['full_refresh_cpu_s']:.1f}, a delta {1 / found['ours']['per_cpu_s']:.2f}"
    )
    return found


def households(events: pl.DataFrame, count: int) -> pl.DataFrame:
    """Return the events of some households, drawn by a hash."""
    users = events[USER_ID].unique().sort()
    chosen = users.sample(min(count, len(users)), seed=1)
    return events.filter(pl.col(USER_ID).is_in(chosen.implode()))


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--households", type=int, default=2500, help="at most; all there are: 2,467"
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    events = households(complete_journey_events(), args.households)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(make(Path(folder), events, load_backbone(is_bf16=True)), args.pairs)
    write(found, args.out)
    print(line(found), *found["notes"], sep="\n  ")
    print(write_page(args.out))


if __name__ == "__main__":
    main()
