"""What a look at a store sees: memory stores, filled by the encoder."""

import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from driftline.v1.encoder_service_pb2 import RefreshInterestsResponse, RefreshItemsResponse
from driftline.v1.forecaster_service_pb2 import (
    RefreshForecastsResponse,
    RefreshPopulationResponse,
)

from services.core.errors import DependencyUnavailable, NotReady
from services.core.schema import DEFAULT_TENANT, Granularity, interest_view
from services.pipeline.follow import Follower
from services.pipeline.health import StoreCheck, is_due, keep_health
from services.pipeline.refresh import Stores
from services.store.demand_files import MemoryDemand
from services.store.health import HEALTH, REFRESHED
from services.store.memory_features import MemoryFeatures
from services.store.overlays import MemoryOverlays
from tests.encoder.world import NOW, event, item, model, world

WEEKS = 20
USERS = [f"u{n:02}" for n in range(40)]


class Registry:
    """Only says what is live."""

    def live(self, tenant):
        return model().info("live")

    def shadow(self, tenant):
        return None


def filled(folder, weeks=WEEKS):
    """A store that was refreshed once: each user has a taste, and buys each week."""
    w = world(folder, granularities="week")
    w.add_items(*[item(name) for name in ("tea", "milk", "socks", "jam")])
    rng = np.random.default_rng(0)
    rows = []
    for number, user in enumerate(USERS):
        for week in range(weeks):
            day = NOW - timedelta(weeks=week + 1, days=int(rng.integers(3)))
            name = ("tea", "milk", "socks", "jam")[(number + int(rng.integers(2))) % 4]
            rows.append(event(user, name, day.date().isoformat()))
    w.add_events(*rows)
    w.encoder.refresh_items(DEFAULT_TENANT, is_full=False, cancelled=lambda: False)
    refresh(w)
    return w


def refresh(w):
    w.encoder.refresh_interests(DEFAULT_TENANT, (), is_full=False, cancelled=lambda: False)


def stores(w):
    return Stores(
        tables=w.tables,
        features=w.features,
        models=Registry(),
        overlays=MemoryOverlays(),
        catalogues=w.catalogues,
        demand=MemoryDemand(),
    )


def check(w, reader=None):
    @asynccontextmanager
    async def opened():
        yield reader or w.features

    return StoreCheck(stores(w), w.catalogues, opened, w.settings)


def test_a_store_in_order_is_covered_and_neither_drifts_nor_diverges(tmp_path):
    health = check(filled(tmp_path)).look()
    assert (health.users_covered, health.items_covered, health.divergence) == (1.0, 1.0, 0.0)
    assert health.space_id == model().space_id
    assert abs(health.vector_drift["week"]) < 6
    assert abs(health.score_drift["week"]) < 6


def test_users_and_items_that_were_not_refreshed_are_uncovered(tmp_path):
    w = filled(tmp_path)
    w.add_events(*[event(f"new{n}", "tea", "2026-03-25") for n in range(10)])
    w.add_items(item("rye"))
    health = check(w).look()
    assert health.users_covered == 40 / 50
    assert health.items_covered == 4 / 5
    # An event of an item that nobody described makes no vector, and is not asked for.
    w.add_events(event("stranger", "unknown", "2026-03-25"))
    assert check(w).look().users_covered == 40 / 50


@pytest.mark.parametrize("fault", ["lost", "another vector", "another period"])
def test_an_online_store_that_says_otherwise_diverges(tmp_path, fault):
    w = filled(tmp_path)
    view = interest_view(Granularity.WEEK, w.space_id)
    restored = MemoryFeatures(2)
    restored.apply(DEFAULT_TENANT, w.space_id)
    held = w.features._online[DEFAULT_TENANT, view]
    rows = pl.DataFrame(
        [{"user_id": user, **row.features, "computed_time": row.computed_time}
         for user, row in held.items() if user != USERS[0]]
    )  # fmt: skip
    if fault == "another vector":
        rows = rows.with_columns(pl.col("vec").list.reverse())
    if fault == "another period":
        rows = rows.with_columns(pl.col("period_start") - timedelta(weeks=1))
    restored.write_online(DEFAULT_TENANT, view, rows)
    health = check(w, restored).look()
    assert health.divergence == pytest.approx(1 / 40 if fault == "lost" else 1.0)


def test_a_period_of_other_vectors_drifts(tmp_path):
    w = filled(tmp_path)
    # Everybody buys one thing in the last closed week.
    day = (NOW - timedelta(days=4)).date().isoformat()
    w.add_events(*[event(user, "tea", day, hour=n / 10) for user in USERS for n in range(9)])
    refresh(w)
    assert check(w).look().vector_drift["week"] > 6


def test_a_young_store_says_nothing_of_drift(tmp_path):
    health = check(filled(tmp_path, weeks=5)).look()
    assert (health.vector_drift, health.score_drift) == ({}, {})
    assert health.users_covered == 1.0


def test_a_look_is_kept_and_is_due_again_after_an_hour(tmp_path):
    w = filled(tmp_path)
    assert is_due(stores(w), DEFAULT_TENANT)
    health = keep_health(stores(w), check(w), DEFAULT_TENANT)
    assert not is_due(stores(w), DEFAULT_TENANT)
    said = w.tables.read_state(DEFAULT_TENANT, HEALTH)
    assert said["users_covered"] == health.users_covered
    old = {**said, "measured_time": (datetime.now(UTC) - timedelta(hours=2)).isoformat()}
    w.tables.write_state(DEFAULT_TENANT, HEALTH, old)
    assert is_due(stores(w), DEFAULT_TENANT)


def test_without_an_index_there_is_nothing_to_look_at(tmp_path):
    with pytest.raises(NotReady):
        check(world(tmp_path))


class Compute:
    """Answers that all is done."""

    def refresh_items(self, **options):
        return RefreshItemsResponse()

    def refresh_interests(self, buckets, **options):
        return RefreshInterestsResponse()

    def refresh_forecasts(self, buckets, **options):
        return RefreshForecastsResponse()

    def refresh_population(self, **options):
        return RefreshPopulationResponse()


def test_a_follower_says_up_to_when_all_is_served_and_looks_at_the_store(tmp_path):
    w = filled(tmp_path)
    settings = w.settings.model_copy(update={"poll_s": 0.02})
    began = datetime.now(UTC)
    follower = Follower(
        stores=stores(w), compute=Compute(), settings=settings, open_check=lambda: check(w)
    )
    follower.start()
    try:
        for _ in range(500):
            said = w.tables.read_state(DEFAULT_TENANT, REFRESHED)
            if said and not is_due(stores(w), DEFAULT_TENANT):
                break
            time.sleep(0.02)
    finally:
        follower.stop()
    assert datetime.fromisoformat(said["time"]) >= began
    assert w.tables.read_state(DEFAULT_TENANT, HEALTH)["items_covered"] == 1.0


def test_a_follower_whose_intake_fails_does_not_say_that_all_is_served(tmp_path):
    w = filled(tmp_path)

    class Down:
        """A store whose inbox cannot be read."""

        def __getattr__(self, name):
            return getattr(w.tables, name)

        def read_inbox(self, *asked, **named):
            raise DependencyUnavailable("the inbox")

    settings = w.settings.model_copy(update={"poll_s": 0.02})
    broken = replace(stores(w), tables=Down())
    follower = Follower(stores=broken, compute=Compute(), settings=settings)
    follower.start()
    time.sleep(0.3)
    follower.stop()
    assert w.tables.read_state(DEFAULT_TENANT, REFRESHED) == {}
