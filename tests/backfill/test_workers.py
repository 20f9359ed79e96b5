"""Buckets made by Ray tasks, in this process, and by both: all give the same. One start of Ray serves the file."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import polars as pl
import psutil
import pytest

from services.backfill.here import InThisProcess
from services.backfill.workers import open_workers
from services.core.errors import DependencyUnavailable
from services.core.schema import DEFAULT_TENANT, Granularity, by_period_view, forecast_view
from services.core.views import views_of
from services.pipeline.refresh import refresh
from services.pipeline.stores import open_stores
from tests.encoder.world import ToyText
from tests.whole_store import make_store, some_events

pytestmark = pytest.mark.xdist_group("serve")

USERS, EVENTS = 32, 640
# The wall clock's, not the data's.
CLOCK = {"computed_time", "known_time"}


def toy(spec):
    return ToyText()


def filled(folder):
    # Two users a chunk: a bucket is published little by little, and can be cut in between.
    store = make_store(folder, refresh_chunk_users=2)
    store.record(some_events(EVENTS, USERS))
    return store


def digest(store):
    """Return a hash of all that a store serves of users, online and offline, but for the clock."""
    found, features = hashlib.sha256(), open_stores(store.settings).features
    for view in views_of(store.space_id).values():
        if "user_id" not in view.join_keys:
            continue
        rows = [
            features.read_offline(DEFAULT_TENANT, view.name, bucket)
            for bucket in range(store.settings.bucket_count)
        ]
        table = pl.concat(rows)
        table = table.select(name for name in table.columns if name not in CLOCK)
        keys = [name for name in ("user_id", "period") if name in table.columns]
        found.update(view.name.encode())
        found.update(table.sort(keys).write_json().encode())
    online = store.online()
    for view, rows in sorted(online.items()):
        for user, features_of in sorted(rows.items()):
            kept = {name: value for name, value in features_of.items() if name not in CLOCK}
            found.update(repr((view, user, sorted(kept.items()))).encode())
    return found.hexdigest()


def offline(store, view):
    features = open_stores(store.settings).features
    buckets = range(store.settings.bucket_count)
    return pl.concat(features.read_offline(DEFAULT_TENANT, view, bucket) for bucket in buckets)


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """A store that one process refreshed, and what it did."""
    store = filled(tmp_path_factory.mktemp("serial"))
    compute = InThisProcess(store.settings, DEFAULT_TENANT, toy)
    summary = refresh(open_stores(store.settings), compute, store.settings)
    return store, summary


def test_in_this_process_everything_is_published_once(serial):
    store, summary = serial
    assert summary.users == USERS
    assert summary.vectors == len(offline(store, by_period_view(Granularity.WEEK, store.space_id)))
    assert summary.encoder_pids == (os.getpid(),)
    again = refresh(
        open_stores(store.settings),
        InThisProcess(store.settings, DEFAULT_TENANT, toy),
        store.settings,
    )
    assert (again.users, again.vectors, again.forecasts) == (0, 0, 0)


def running_tasks(driver):
    """Return the processes that run a task now: Ray names them after it."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if process.cmdline()[0].startswith("ray::") and "run_step" in process.cmdline()[0]:
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def kill_one_midway(driver, store, done):
    """Kill a worker once something of every bucket is published; return its id."""
    view = store.layout.offline_dir(
        DEFAULT_TENANT, by_period_view(Granularity.WEEK, store.space_id)
    )
    buckets = range(store.settings.bucket_count)
    while not done.is_set():
        is_published = all(any(view.glob(f"part-b{bucket:04}*.parquet")) for bucket in buckets)
        if is_published and (tasks := running_tasks(driver)):
            victim = tasks[0].pid
            os.kill(victim, signal.SIGKILL)
            return victim
        time.sleep(0.002)
    raise AssertionError("all was done before anyone could be killed")


def test_two_workers_one_of_them_killed_midway_publish_what_one_process_does(serial, tmp_path):
    alone, expected = serial
    store = filled(tmp_path)
    stores, done, made = open_stores(store.settings), threading.Event(), []
    with open_workers(store.settings, DEFAULT_TENANT, 2, toy) as compute:

        def run():
            try:
                made.append(refresh(stores, compute, store.settings, parallel_calls=2))
            finally:
                done.set()

        thread = threading.Thread(target=run)
        thread.start()
        victim = kill_one_midway(compute.pid, store, done)
        thread.join()
        (summary,) = made
        # It did not live to answer for what it ran.
        assert victim not in summary.encoder_pids or victim not in summary.forecaster_pids
        assert os.getpid() not in summary.forecaster_pids
        # What it had published is not published again, nor counted.
        assert 0 < summary.vectors <= expected.vectors
        assert 0 < summary.forecasts <= expected.forecasts
        again = refresh(stores, compute, store.settings, parallel_calls=2)
        assert (again.users, again.vectors, again.forecasts) == (0, 0, 0)
        with pytest.raises(DependencyUnavailable, match=r"buckets\[0\]"):
            compute.refresh_interests([99])
        processes = [psutil.Process(compute.pid), *psutil.Process(compute.pid).children(True)]
    assert digest(store) == digest(alone)
    rows = offline(store, forecast_view(Granularity.WEEK, store.space_id))
    assert rows["user_id"].is_unique().all()
    _gone, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []


def test_whoever_asks_is_told_when_the_driver_is_gone(tmp_path, monkeypatch):
    store = make_store(tmp_path)
    # Ray is given a folder that it cannot make: it ends before it answers.
    monkeypatch.setattr("services.backfill.workers.short_temp_dir", lambda: tmp_path / ("a" * 120))
    with (
        open_workers(store.settings, DEFAULT_TENANT, 2, toy) as compute,
        pytest.raises(DependencyUnavailable, match="log: "),
    ):
        compute.refresh_interests([0])


def test_nobody_but_the_child_imports_ray():
    code = "import sys, services.backfill.workers; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
