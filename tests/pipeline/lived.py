"""A store in which one marked user has lived everywhere, and a search for what is left of them."""

import json
import sqlite3
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from driftline import Client, Event

from services.core.schema import DEFAULT_TENANT, Granularity
from services.encoder.encoder import Encoder
from services.encoder.opening import open_stores as open_encoder_stores
from services.forecaster.forecaster import InterestForecaster
from services.forecaster.opening import open_stores as open_forecaster_stores
from services.pipeline.erasure import erase_requested
from services.pipeline.importer import import_files
from services.pipeline.preprocess import preprocess
from services.pipeline.stores import open_stores
from services.runtime.settings import Settings
from services.store.backbone import load_backbone
from tests.planted import START
from tests.training.store import Store, filled

TENANT = DEFAULT_TENANT
# In the id of the user and of each of their events.
MARK = "qz7marker"
USER = f"{MARK}-user"
NOW = START + timedelta(weeks=16)
SOURCES = {
    "inbox", "events", "rejects", "offline features", "online features", "corrections",
}  # fmt: skip


def never() -> bool:
    return False


@dataclass
class Lived:
    """The store, and the steps of the write path in this process."""

    root: Path
    settings: Settings
    store: Store
    texts: Any = field(default_factory=lambda: load_backbone(""))

    def refresh(self, *, is_full: bool = False) -> None:
        """Take all that came in to served features; every part opened anew, as another process has it."""
        stores = open_stores(self.settings)
        preprocess(stores.tables, self.settings)
        self.erase()
        encoder = Encoder(
            replace(open_encoder_stores(self.settings), load_encoder=lambda spec: self.texts),
            self.settings,
        )
        encoder.refresh_items(TENANT, is_full=is_full, cancelled=never)
        encoder.refresh_interests(TENANT, [], is_full=is_full, cancelled=never)
        forecaster = InterestForecaster(open_forecaster_stores(self.settings), self.settings)
        forecaster.refresh_forecasts(TENANT, [], is_full=is_full, cancelled=never)

    def erase(self) -> int:
        """Carry out what was asked for."""
        stores = open_stores(self.settings)
        return erase_requested(
            stores.tables, stores.features, stores.models, stores.overlays, self.settings
        )

    def import_file(self) -> Any:
        """Import the user's file: good rows, a bad row, and a line that nobody can read."""
        return import_files([self.root.parent / "theirs.jsonl"], self.settings)


def lived(root: Path, **settings: Any) -> Lived:
    """Train a model on planted users and the marked one, who came in by a file."""
    chosen = Settings(
        data_dir=root, bucket_count=2, now=NOW, granularities=(Granularity.WEEK,), port=0,
        metrics_port=0, **settings,
    )  # fmt: skip
    made = Lived(root=root, settings=chosen, store=filled(root))
    write_file(root.parent / "theirs.jsonl")
    made.import_file()
    preprocess(made.store.tables, chosen)
    made.store.train()
    return made


def write_file(path: Path) -> None:
    rows = [
        {
            "event_id": f"{MARK}-file-{week}-{turn}",
            "user_id": USER,
            "item_id": f"tea-0{turn}",
            "kind": "purchase",
            "event_time": (START + timedelta(weeks=week, hours=turn)).isoformat(),
        }
        for week in range(14)
        for turn in range(3)
    ]
    bad = {**rows[0], "event_id": f"{MARK}-bad", "kind": "teleported"}
    lines = [*map(json.dumps, [*rows, bad]), '{"user_id": "%s", "item_id": ' % USER]  # noqa: UP031
    path.write_text("\n".join(lines) + "\n")


def event(number: int, at: datetime = NOW - timedelta(days=2)) -> Event:
    return Event(
        event_id=f"{MARK}-live-{number}", user_id=USER, item_id="tea-03", kind="purchase",
        event_time=at,
    )  # fmt: skip


def use_everything(client: Client) -> None:
    """Ask for all that is made of the user, and correct the portrait."""
    assert client.get_interest(USER).event_count
    assert client.get_trajectory(USER, as_of=NOW).interests
    assert client.get_forecast(USER).steps
    assert client.recommend(USER).items
    assert [user for user, _ in client.export_recommendations([USER])] == [USER]
    profile = client.get_profile(USER)
    client.correct_profile(USER, profile.topics[0].topic_id, "more")


def traces(root: Path, mark: str = MARK) -> list[str]:
    """Return the files below a folder that hold the mark: raw bytes, rows of Parquet, rows of SQLite."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and _holds(path, mark):
            found.append(str(path.relative_to(root)))
    return found


def _holds(path: Path, mark: str) -> bool:
    content = path.read_bytes()
    if mark.encode() in content or mark.encode("utf-16-le") in content:
        return True
    if content[:4] == b"PAR1":
        rows = pl.read_parquet(path, hive_partitioning=False, glob=False)
        return mark in rows.write_ndjson() if rows.height else False
    if content[:6] == b"SQLite":
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return any(mark in line for line in connection.iterdump())
    return False
