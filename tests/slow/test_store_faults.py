"""Redis fails under the write path: nothing is half published, it goes on by itself, and a rebuild is equal.

Encoder and forecaster are the deployments' own classes in this process. Gateways are in
tests/gateway/test_store_faults.py.
"""

import asyncio
import time

import polars as pl
import pytest

from services.core.errors import DependencyUnavailable
from services.core.schema import DEFAULT_TENANT, Granularity, forecast_view, interest_view
from services.pipeline.doctor import examine
from services.pipeline.follow import Follower
from services.pipeline.rebuild import rebuild_online
from services.pipeline.stores import open_stores
from services.store.online_reader import open_online_reader
from tests.faulty_redis import faulty_redis
from tests.whole_store import LocalCompute, make_store, some_events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LIMIT_S = 120.0
FAULTS = {
    "killed": (lambda redis: redis.kill(), lambda redis: redis.start()),
    "paused": (lambda redis: redis.pause(), lambda redis: redis.go_on()),
    "silent": (lambda redis: redis.silence(True), lambda redis: redis.silence(False)),
    "out of memory": (lambda redis: redis.limit_memory(), lambda redis: redis.unlimit_memory()),
}


@pytest.fixture
def redis():
    with faulty_redis() as server:
        yield server


def made(folder, redis, **settings):
    """Return a published store on a Redis, and one that nothing befell to compare it with."""
    faulty = make_store(folder / "a", online_store="redis", redis_url=redis.url, **settings)
    plain = make_store(folder / "b")
    for store in (faulty, plain):
        store.record(some_events())
        store.refresh()
    return faulty, plain


def more(number):
    """Return events of old users and of a new one."""
    rows = some_events(24, seed=number, prefix=f"more{number}-")
    is_new = pl.int_range(pl.len()) % 8 == 0
    return rows.with_columns(
        user_id=pl.when(is_new).then(pl.lit(f"new{number}")).otherwise("user_id")
    )


def same(held, wanted):
    """Return the views whose rows differ; when they were made is not compared."""
    return sorted(view for view in wanted if held[view] != wanted[view])


def diagnosed(store):
    async def run():
        reader = open_online_reader(store.settings.feast_config(), store.layout)
        try:
            return await examine(
                open_stores(store.settings), reader, store.settings, is_mending=False, is_idle=True
            )
        finally:
            await reader.close()

    return [one.what for one in asyncio.run(run())]


def rebuild(store):
    compute = LocalCompute(store.settings)

    async def run():
        reader = open_online_reader(store.settings.feast_config(), store.layout)
        try:
            return await rebuild_online(compute.stores, reader, compute, store.settings)
        finally:
            await reader.close()

    return asyncio.run(run())


def wait_for(is_so):
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < LIMIT_S
        time.sleep(0.1)
    return time.monotonic() - started


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refresh_that_redis_failed_says_so_and_the_next_makes_it_whole(
    tmp_path, redis, fault, trust
):
    store, plain = made(tmp_path, redis)
    cut, heal = FAULTS[fault]
    for each in (store, plain):
        each.record(more(1))
    cut(redis)
    try:
        started = time.monotonic()
        with pytest.raises(DependencyUnavailable, match="online store") as caught:
            store.refresh()
        print(f"{fault}: refresh ended after {time.monotonic() - started:.1f} s: {caught.value}")
    finally:
        heal(redis)
    summary = store.refresh()
    plain.refresh()
    differ = same(store.online(), plain.online())
    trust("faults injected", 1, len(differ))
    assert summary.users > 0
    assert differ == []
    assert diagnosed(store) == []
    assert store.refresh().vectors == 0


def test_a_follower_goes_on_by_itself_after_each_fault(tmp_path, redis, trust):
    store, plain = made(tmp_path, redis, poll_s=0.05)
    compute = LocalCompute(store.settings)
    follower = Follower(stores=compute.stores, compute=compute, settings=store.settings)
    follower.start()
    views = [view(Granularity.WEEK, store.space_id) for view in (interest_view, forecast_view)]
    try:
        for number, (cut, heal) in enumerate(FAULTS.values(), 2):
            cut(redis)
            try:
                for each in (store, plain):
                    each.record(more(number))
                time.sleep(1.0)  # the longer the more of it meets the fault; nothing hangs on it
            finally:
                heal(redis)
            user = f"new{number}"
            took = wait_for(lambda user=user: all(user in store.online()[v] for v in views))
            print(f"{list(FAULTS)[number - 2]}: served {took:.1f} s after the fault")
    finally:
        follower.stop()
    store.refresh()
    plain.refresh()
    differ = same(store.online(), plain.online())
    trust("faults injected", len(FAULTS), len(differ))
    assert differ == []
    assert diagnosed(store) == []


def test_a_redis_emptied_in_the_middle_is_rebuilt_equal_to_one_that_was_not(tmp_path, redis, trust):
    store, plain = made(tmp_path, redis)
    redis.restart_empty()
    for each in (store, plain):
        each.record(more(1))
        each.refresh()
    assert same(store.online(), plain.online())
    summary = rebuild(store)
    differ = same(store.online(), plain.online())
    trust("faults injected", 1, len(differ))
    assert summary.rows > 0
    assert differ == []
    assert rebuild(store).rows == 0

    async def stranger():
        reader = open_online_reader(store.settings.feast_config(), store.layout, serves=True)
        try:
            return await reader.interest(DEFAULT_TENANT, store.space_id, "x", Granularity.WEEK)
        finally:
            await reader.close()

    assert asyncio.run(stranger()) is None
