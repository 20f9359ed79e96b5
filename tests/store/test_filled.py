"""A Redis that came back empty is told from one that never knew the user."""

import pytest

from services.core.errors import DependencyUnavailable
from services.core.schema import DEFAULT_TENANT as TENANT
from services.core.schema import item_view
from services.store.filled import expect_rebuild, filled_key, mark_filled, was_filled
from services.store.layout import Layout
from services.store.redis_faults import unavailable
from services.store.redis_reader import RedisInterestReader

VIEW = item_view("toy_1f3c9a2b")


@pytest.fixture
async def store(valkey, tmp_path):
    import redis

    layout = Layout(tmp_path, 2)
    reader = RedisInterestReader(valkey, published=layout)
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
        yield layout, reader, client
    await reader.close()


async def refusal(reader):
    messages = []
    for call in (reader.check(TENANT), reader.fetch(TENANT, VIEW, ["x"])):
        with pytest.raises(DependencyUnavailable) as caught:
            await call
        messages.append(caught.value.message)
    assert messages[0] == messages[1]
    return messages[0]


async def test_a_store_that_was_never_filled_has_no_rows_and_that_is_no_fault(store):
    layout, reader, _ = store
    assert not was_filled(layout, TENANT)
    await reader.check(TENANT)
    assert await reader.fetch(TENANT, VIEW, ["x"]) == [None]


async def test_a_store_that_lost_its_rows_is_a_fault_until_it_is_filled_again(store, valkey):
    layout, reader, client = store
    mark_filled(valkey, layout, TENANT)
    assert await reader.fetch(TENANT, VIEW, ["x"]) == [None]
    client.flushall()
    assert "lost its rows" in await refusal(reader)
    assert "`driftline rebuild-online`" in await refusal(reader)
    mark_filled(valkey, layout, TENANT)
    await reader.check(TENANT)
    assert await reader.fetch(TENANT, VIEW, ["x"]) == [None]


async def test_who_mends_sees_what_is_there(store, valkey):
    layout, _, client = store
    mark_filled(valkey, layout, TENANT)
    client.flushall()
    mending = RedisInterestReader(valkey)
    assert await mending.fetch(TENANT, VIEW, ["x"]) == [None]
    await mending.check(TENANT)
    await mending.close()


async def test_tenants_lose_their_rows_each_for_itself(store, valkey):
    layout, reader, client = store
    for tenant in (TENANT, "acme"):
        mark_filled(valkey, layout, tenant)
    client.delete(filled_key("acme"))
    await reader.check(TENANT)
    with pytest.raises(DependencyUnavailable):
        await reader.check("acme")


async def test_a_restored_folder_expects_a_rebuild_of_any_redis(store, valkey):
    layout, reader, client = store
    client.hset(filled_key(TENANT), "since", "of rows that are newer than the folder")
    expect_rebuild(valkey, layout, TENANT)
    assert "rebuild-online" in await refusal(reader)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "raise its `maxmemory`"),
        ("command not allowed when used memory > 'maxmemory'.", "raise its `maxmemory`"),
        ("LOADING Redis is loading the dataset in memory", "try again with backoff"),
        ("MISCONF Redis is configured to save RDB snapshots", "free or mend its disk"),
        ("NOAUTH Authentication required.", "DRIFTLINE_REDIS_URL"),
        ("no answer in 2 s", "try again with backoff"),
        ("", "OSError"),
    ],
)
def test_what_redis_says_comes_with_what_to_do(said, remedy):
    error = unavailable("the Redis online store", OSError(said))
    assert error.message.startswith("the Redis online store failed (")
    assert remedy in error.message
    assert error.metadata == {"dependency": "the Redis online store"}
