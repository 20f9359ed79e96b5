"""What the raw writer stores in Redis is, byte for byte, what Feast's own writer stores."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
import redis
from feast import FeatureStore

from services.core import schema as names
from services.core.errors import DependencyUnavailable, NotReady
from services.core.schema import DEFAULT_TENANT as TENANT
from services.core.schema import Granularity, interest_view
from services.core.views import view_named, views_of
from services.store.feast_config import FeastConfig
from services.store.features import FeastFeatures
from services.store.frames import conform, rows_frame
from services.store.layout import Layout
from services.store.redis_writer import CHUNK_ROWS, write_rows
from services.store.wire import entity_key, redis_field, redis_key
from tests.feast_rows import as_pandas
from tests.store.test_readers import USERS, some_features

SPACE = "tiny_00000001"
NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
VIEWS = [view for view in views_of(SPACE).values() if view.is_online]
INTEREST = view_named(interest_view(Granularity.WEEK, SPACE))


@pytest.fixture(scope="module")
def world(valkey, tmp_path_factory):
    """Yield Feast's own store, a client of its Redis, and the URL."""
    layout = Layout(tmp_path_factory.mktemp("data"), 4)
    config = FeastConfig(online_store="redis", redis_url=valkey)
    FeastFeatures(layout, config).apply(TENANT, SPACE)
    store = FeatureStore(config=config.repo_config(TENANT, layout.feast_dir(TENANT)))
    with redis.Redis.from_url(valkey) as client:
        yield store, client, valkey


@pytest.fixture(autouse=True)
def emptied(world):
    world[1].flushdb()


def rows_of(view, ids, at=NOW, seed=7):
    rng = np.random.default_rng(seed)
    frame = rows_frame(view.name, ids, [some_features(view, rng) for _ in ids], computed_time=at)
    return conform(view, frame)


def stored(client):
    return {key: client.hgetall(key) for key in client.scan_iter()}


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name.partition("__")[0])
def test_every_view_is_stored_as_feast_stores_it(world, view):
    store, client, url = world
    rows = rows_of(view, USERS)
    store.write_to_online_store(view.name, df=as_pandas(rows))
    feasts = stored(client)
    client.flushdb()
    write_rows(url, TENANT, view, rows)
    assert len(feasts) == len(USERS)
    assert stored(client) == feasts


@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_a_row_that_is_not_newer_is_dropped_as_feast_drops_it(world, seconds):
    store, client, url = world
    first = rows_of(INTEREST, ["a", "b"])
    second = rows_of(INTEREST, ["b", "c"], NOW + timedelta(seconds=seconds), seed=8)
    write_rows(url, TENANT, INTEREST, first)
    write_rows(url, TENANT, INTEREST, second)
    ours = stored(client)
    client.flushdb()
    for rows in (first, second):
        store.write_to_online_store(INTEREST.name, df=as_pandas(rows))
    assert len(ours) == 3
    assert ours == stored(client)


def test_of_rows_with_one_key_the_newest_is_kept_whatever_their_order(world):
    store, client, url = world
    rows = pl.concat(
        rows_of(INTEREST, ["a"], NOW + timedelta(seconds=s), seed=10 + s) for s in (1, 3, 2)
    )
    write_rows(url, TENANT, INTEREST, rows)
    (ours,) = stored(client).values()
    client.flushdb()
    store.write_to_online_store(INTEREST.name, df=as_pandas(rows))
    assert [ours] == list(stored(client).values())
    newest = rows.row(1, named=True)[names.EVENT_COUNT]
    client.flushdb()
    write_rows(url, TENANT, INTEREST, rows.slice(1, 1))
    (alone,) = stored(client).values()
    field = redis_field(INTEREST.name, names.EVENT_COUNT)
    assert ours[field] == alone[field], newest


def test_other_views_of_a_user_stay(world):
    _, client, url = world
    for view in VIEWS[:2]:
        write_rows(url, TENANT, view, rows_of(view, ["a"]))
    fields = client.hlen(redis_key(TENANT, entity_key(names.USER_ID, "a")))
    assert fields == sum(len(view.features) + 1 for view in VIEWS[:2])


def test_more_rows_than_a_chunk_are_all_written(world):
    _, client, url = world
    ids = [f"u{n}" for n in range(CHUNK_ROWS + 1)]
    write_rows(url, TENANT, INTEREST, rows_of(INTEREST, ids))
    assert client.dbsize() == len(ids)


def test_a_redis_that_is_down_is_unavailable_and_an_unknown_view_is_not_ready(tmp_path, free_port):
    config = FeastConfig(online_store="redis", redis_url=f"redis://127.0.0.1:{free_port}/0")
    features = FeastFeatures(Layout(tmp_path, 4), config)
    with pytest.raises(NotReady, match="driftline refresh"):
        features.write_online(TENANT, INTEREST.name, rows_of(INTEREST, ["a"]))
    # What is applied is known; what is first published says so in the store.
    with pytest.raises(DependencyUnavailable, match="the Redis online store"):
        features.apply(TENANT, SPACE)
    with pytest.raises(DependencyUnavailable, match="the online store"):
        features.write_online(TENANT, INTEREST.name, rows_of(INTEREST, ["a"]))
