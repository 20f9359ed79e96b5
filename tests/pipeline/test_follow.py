"""The follower goes on by itself when what failed is back: what was due is still due."""

import time

import polars as pl
import pytest

from services.core.errors import DependencyUnavailable
from services.core.schema import Granularity, forecast_view, interest_view
from services.pipeline.follow import Follower
from tests.whole_store import LocalCompute, make_store, some_events

LIMIT_S = 60.0


class Failing(LocalCompute):
    """Fails in the steps that it is told, before or after they did their work."""

    def __init__(self, settings):
        super().__init__(settings)
        self.before, self.after, self.failed = set(), set(), 0

    def refresh_items(self, **by):
        return self.tried("items", super().refresh_items, **by)

    def refresh_interests(self, buckets, **by):
        return self.tried("interests", super().refresh_interests, buckets, **by)

    def refresh_forecasts(self, buckets, **by):
        return self.tried("forecasts", super().refresh_forecasts, buckets, **by)

    def tried(self, name, step, *arguments, **by):
        made = None if name in self.before else step(*arguments, **by)
        if name in self.before | self.after:
            self.failed += 1
            raise DependencyUnavailable("a store", "failed in a test")
        return made


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("followed"), poll_s=0.02)
    compute = Failing(store.settings)
    follower = Follower(stores=compute.stores, compute=compute, settings=store.settings)
    store.record(some_events())
    follower.start()
    try:
        wait_for(lambda: served(store, "u0") == {"vector", "forecast"})
        yield store, compute
    finally:
        follower.stop()


def wait_for(is_so):
    give_up = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def served(store, user):
    """Return which of the user's vector and forecast are online."""
    try:
        held = store.online()
    except Exception:  # nothing was published yet
        return set()
    views = {
        "vector": interest_view(Granularity.WEEK, store.space_id),
        "forecast": forecast_view(Granularity.WEEK, store.space_id),
    }
    return {name for name, view in views.items() if user in held.get(view, {})}


def new_user(store, name):
    rows = some_events(30, users=1, prefix=f"{name}-").with_columns(user_id=pl.lit(f"u-{name}"))
    store.record(rows)
    return f"u-{name}"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["items", "interests", "forecasts"])
def test_what_a_fault_cut_is_served_without_new_events(followed, step, when, trust):
    store, compute = followed
    failing, count = getattr(compute, when), compute.failed
    failing.add(step)
    try:
        user = new_user(store, f"{step}-{when}")
        wait_for(lambda: compute.failed >= count + 3)
    finally:
        failing.clear()
    trust("faults injected")
    wait_for(lambda: served(store, user) == {"vector", "forecast"})
