"""Corrections of portraits: one contract on memory, SQLite and Redis."""

from datetime import UTC, datetime

import pytest

from services.core.corrections import Correction, Wish
from services.core.errors import DependencyUnavailable
from services.core.schema import DEFAULT_TENANT as TENANT
from services.store.layout import Layout
from services.store.overlays import MemoryOverlays, RedisOverlays, SqliteOverlays, open_overlays

NOW = datetime(2026, 11, 24, 12, 0, 0, 250_000, tzinfo=UTC)


def correction(topic_id="t1", wish=Wish.MORE, made_time=NOW):
    return Correction(topic_id=topic_id, wish=wish, made_time=made_time)


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def pair(request, tmp_path):
    """Two processes' views of one store; in memory they are one."""
    if request.param == "memory":
        held = MemoryOverlays()
        yield held, held
    elif request.param == "sqlite":
        both = [SqliteOverlays(Layout(tmp_path, 4)) for _ in range(2)]
        yield both
        for one in both:
            one.close()
    else:
        import redis

        url = request.getfixturevalue("valkey")
        redis.Redis.from_url(url).flushdb()
        both = [RedisOverlays(url) for _ in range(2)]
        yield both
        for one in both:
            await one.close()


async def test_a_correction_is_in_the_next_read_of_every_process(pair):
    writer, reader = pair
    assert await reader.read(TENANT, "ä") == ()
    await writer.put(TENANT, "ä", correction("t2"))
    await writer.put(TENANT, "ä", correction("t1", Wish.NOT_INTERESTED))
    expected = (correction("t1", Wish.NOT_INTERESTED), correction("t2"))
    assert await reader.read(TENANT, "ä") == expected
    assert await writer.read(TENANT, "ä") == expected


async def test_the_last_word_on_a_topic_counts_and_can_be_taken_back(pair):
    writer, reader = pair
    await writer.put(TENANT, "u", correction(wish=Wish.MORE))
    await reader.put(TENANT, "u", correction(wish=Wish.NOT_INTERESTED))
    assert await writer.read(TENANT, "u") == (correction(wish=Wish.NOT_INTERESTED),)
    await writer.remove(TENANT, "u", "t1")
    await writer.remove(TENANT, "u", "never said")
    assert await reader.read(TENANT, "u") == ()


async def test_users_and_tenants_are_apart(pair):
    writer, reader = pair
    await writer.put(TENANT, "u", correction("t1"))
    await writer.put("other", "u", correction("t2"))
    assert await reader.read(TENANT, "u") == (correction("t1"),)
    assert await reader.read("other", "u") == (correction("t2"),)
    assert await reader.read(TENANT, "u2") == ()


async def test_erased_users_are_forgotten_and_others_are_not(pair):
    writer, reader = pair
    for user in ("u", "v", "w"):
        await writer.put(TENANT, user, correction())
    reader.erase(TENANT, [])
    reader.erase(TENANT, ["u", "w", "nobody"])
    reader.erase("never_there", ["u"])
    assert [await writer.read(TENANT, user) for user in "uvw"] == [(), (correction(),), ()]


async def test_an_erased_user_leaves_no_bytes_on_the_disk(tmp_path):
    overlays = SqliteOverlays(Layout(tmp_path, 4))
    await overlays.put(TENANT, "somebody-to-forget", correction())

    def bytes_of():
        return b"".join(path.read_bytes() for path in tmp_path.rglob("overlays.db*"))

    assert b"somebody-to-forget" in bytes_of()
    overlays.erase(TENANT, ["somebody-to-forget"])
    assert b"somebody-to-forget" not in bytes_of()
    overlays.close()


async def test_a_store_that_does_not_answer_is_unavailable(tmp_path, free_port):
    layout = Layout(tmp_path, 4)
    layout.overlays_file(TENANT).parent.mkdir(parents=True)
    layout.overlays_file(TENANT).write_bytes(b"no database" * 1000)
    down = RedisOverlays(f"redis://127.0.0.1:{free_port}/0", timeout_s=1)
    for overlays in (SqliteOverlays(layout), down):
        with pytest.raises(DependencyUnavailable, match="store of corrections"):
            await overlays.read(TENANT, "u")
        with pytest.raises(DependencyUnavailable, match="store of corrections"):
            await overlays.put(TENANT, "u", correction())
        with pytest.raises(DependencyUnavailable, match="store of corrections"):
            overlays.erase(TENANT, ["u"])
    await down.close()


def test_corrections_lie_where_the_online_store_is(tmp_path):
    layout = Layout(tmp_path, 4)
    assert isinstance(open_overlays(layout, "sqlite", ""), SqliteOverlays)
    assert isinstance(open_overlays(layout, "redis", "redis://127.0.0.1:1/0"), RedisOverlays)
