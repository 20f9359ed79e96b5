"""The clock stood an hour fast, then was set right: later rows stay later, and nothing is promised too early."""

import os
import shutil
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from services.core.schema import (
    COMPUTED_TIME,
    DEFAULT_TENANT,
    INGEST_TIME,
    KNOWN_TIME,
    Granularity,
    by_period_view,
)
from services.pipeline.backup import back_up
from services.pipeline.erasure import erase_requested, request_erasures
from services.pipeline.preprocess import preprocess
from services.pipeline.stores import open_stores
from services.store import delta
from services.store.clock import CLOCK_FILE
from services.store.leases import reading
from services.store.overlays import SqliteOverlays
from services.store.receipts import Receipts
from tests.pipeline.test_doctor import diagnose, whats
from tests.whole_store import Store, make_store, some_events

HOUR = timedelta(hours=1)


def set_fast(store):
    """Let what is written from now on be of an hour later, as if the machine had said so; returns that hour."""
    fast = datetime.now(UTC) + HOUR
    os.utime(store.settings.data_dir / CLOCK_FILE, (fast.timestamp(),) * 2)
    return fast - timedelta(seconds=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store that was written while the clock was fast; by now it is right again. Tests take copies."""
    store = make_store(tmp_path_factory.mktemp("store"))
    fast = set_fast(store)
    store.record(some_events())
    store.refresh()
    return store, fast


@pytest.fixture
def store(made, tmp_path):
    source, fast = made
    shutil.copytree(source.settings.data_dir, tmp_path / "data")
    store = Store(source.settings.model_copy(update={"data_dir": tmp_path / "data"}))
    store.fast = fast
    return store


def offline(store):
    view = by_period_view(Granularity.WEEK, store.space_id)
    features = open_stores(store.settings).features
    rows = [features.read_offline(DEFAULT_TENANT, view, bucket) for bucket in range(2)]
    return pl.concat(rows)


def test_what_comes_in_later_is_known_later(store, trust):
    tables = open_stores(store.settings).tables
    before, rows = tables.read_events(DEFAULT_TENANT), offline(store)
    assert before[INGEST_TIME].min() > store.fast
    last = max(rows[COMPUTED_TIME].max(), before[INGEST_TIME].max())
    store.record(some_events(40, seed=1, prefix="later"))
    store.refresh()
    fresh = tables.read_events(DEFAULT_TENANT).join(before, on="event_id", how="anti")
    made = offline(store).join(rows, on=["user_id", "period", COMPUTED_TIME], how="anti")
    wrong = fresh.filter(pl.col(INGEST_TIME) <= last).height
    wrong += made.filter(pl.col(COMPUTED_TIME) <= last).height
    trust("faults injected", 1, wrong)
    assert (fresh.height, wrong) == (40, 0)
    # Of one user and period the row that was made later is not known earlier: a point-in-time join takes it.
    both = made.join(rows, on=["user_id", "period"], suffix="_before")
    assert both.height > 0
    assert both.filter(pl.col(KNOWN_TIME) < pl.col(f"{KNOWN_TIME}_before")).is_empty()
    # Online holds the newer row too.
    assert [what for what in whats(diagnose(store)) if "online" in what] == []


def test_redis_takes_the_newer_row(tmp_path, valkey):
    store = make_store(tmp_path, online_store="redis", redis_url=valkey)
    set_fast(store)
    store.record(some_events())
    store.refresh()
    before = store.online()
    store.record(some_events(40, seed=1, prefix="later"))
    store.refresh()
    assert store.online() != before
    assert [what for what in whats(diagnose(store)) if "online" in what] == []


def erased(store, user):
    request_erasures(store.settings, DEFAULT_TENANT, [user])
    stores, overlays = open_stores(store.settings), SqliteOverlays(store.layout)
    try:
        preprocess(stores.tables, store.settings)
        erase_requested(
            stores.tables, stores.features, stores.models, overlays, store.settings, DEFAULT_TENANT
        )  # fmt: skip
    finally:
        overlays.close()
    [receipt] = Receipts(store.layout).list(DEFAULT_TENANT)
    return receipt.receipt


def test_an_erasure_covers_what_came_in_before_it(store, trust):
    receipt = erased(store, "u3")
    events = open_stores(store.settings).tables.read_events(DEFAULT_TENANT)
    left = events.filter(pl.col("user_id") == "u3").height
    trust("faults injected", 1, left)
    assert left == 0
    assert receipt.state == "DONE"
    assert receipt.requested_time <= receipt.removed_time <= receipt.completed_time


def test_a_receipt_waits_for_the_backup_that_was_made_before(store, tmp_path):
    back_up(store.settings, tmp_path / "backup", timedelta(days=30))
    receipt = erased(store, "u3")
    pending = {place.name for place in receipt.places if place.pending}
    assert (receipt.state, pending) == ("PENDING", {"backups"})


def test_a_receipt_waits_for_the_reader_that_was_there_before(store):
    with reading(store.layout, DEFAULT_TENANT, "backup", HOUR):
        receipt = erased(store, "u3")
    assert receipt.state == "PENDING"
    assert any("backup reads" in place.pending for place in receipt.places)


def test_a_file_of_the_future_is_no_file_that_is_gone(store):
    folder = store.layout.events_dir(DEFAULT_TENANT)
    stray = folder / "bucket=0" / ("part-" + "0" * 32 + ".parquet")
    stray.write_bytes(b"bytes of somebody")
    os.utime(stray, (store.fast.timestamp(),) * 2)
    assert delta.strays(folder, datetime.now(UTC)) == 1


def test_the_doctor_says_that_the_store_is_ahead(store):
    [found] = diagnose(store)
    assert found.what.startswith("the store's time is 0:59")
    assert "set right" in found.remedy
