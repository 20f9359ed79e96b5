"""What a crash leaves behind is found and mended; what is damaged is named, and the rest still opens."""

import asyncio
import os
import shutil
import time
from contextlib import closing

import pytest

from services.core.burst_everyone import PopulationBursts
from services.core.errors import DependencyUnavailable
from services.core.periods import period_from_name
from services.core.schema import (
    DEFAULT_TENANT,
    EVERYONE,
    KNOWN_TIME,
    Granularity,
    interest_view,
    population_bursts_view,
)
from services.pipeline.doctor import examine
from services.pipeline.rebuild import rebuild_online
from services.pipeline.stores import open_stores
from services.store import delta
from services.store.frames import rows_frame
from services.store.online_reader import open_online_reader
from services.store.rows import features_of_population
from tests.whole_store import NOW, LocalCompute, make_store, some_events


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A store with everything published; tests take copies."""
    folder = tmp_path_factory.mktemp("store")
    store = make_store(folder)
    store.record(some_events())
    store.refresh()
    return folder, store


@pytest.fixture
def store(published, tmp_path):
    folder, made = published
    shutil.copytree(folder / "data", tmp_path / "data")
    made.settings = made.settings.model_copy(update={"data_dir": tmp_path / "data"})
    return made


def diagnose(store, *, is_mending=False, is_idle=True):
    async def run():
        reader = open_online_reader(store.settings.feast_config(), store.layout)
        return await examine(
            open_stores(store.settings), reader, store.settings,
            is_mending=is_mending, is_idle=is_idle,
        )  # fmt: skip

    return asyncio.run(run())


def whats(found):
    return sorted(one.what for one in found)


def test_a_healthy_store_has_no_findings(store):
    assert diagnose(store) == []


def leave_behind(root):
    """Leave what a process leaves that is killed: the names are those that the writers give."""
    tenant = root / "default"
    left = [
        tenant / "events" / "bucket=0" / ("part-" + "0" * 32 + ".parquet"),
        tenant / "state" / (".intake.json." + "1" * 32),
        tenant / "feast" / "offline" / (".part-x.parquet." + "2" * 32 + ".draft"),
        tenant / "events" / "_delta_log" / "_commit_00000000-0000-0000-0000-000000000000.json.tmp",
        tenant / "models" / (".m2." + "3" * 32) / "weights.safetensors",
        next((tenant / "index").glob("*/CURRENT")).parent / "half" / "vectors.npy",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    return left


def test_what_a_killed_process_leaves_is_found_and_mended(store, trust):
    left = leave_behind(store.settings.data_dir)
    found = diagnose(store)
    assert whats(found) == [
        "file that no log entry names",
        "generation never published",
        *["half-written file"] * 4,
    ]
    mended = diagnose(store, is_mending=True)
    assert all(one.is_mended for one in mended)
    after = diagnose(store)
    trust("faults injected", len(left), len(after))
    assert after == []
    assert not any(path.exists() for path in left)
    assert store.refresh().vectors == 0


def test_what_may_belong_to_a_write_under_way_is_left_alone(store):
    left = leave_behind(store.settings.data_dir)
    assert diagnose(store, is_idle=False) == []
    for path in (*left, *(path.parent for path in left[-2:])):
        os.utime(path, (time.time() - 7200,) * 2)
    assert len(diagnose(store, is_idle=False)) == 6


def test_a_truncated_file_is_named_and_the_other_buckets_are_read(store, trust):
    folder = store.layout.events_dir(DEFAULT_TENANT)
    name = next(name for name, facts in delta.files(folder).items() if facts[1] == 0)
    os.truncate(folder / name, 100)
    [found] = diagnose(store)
    assert found.what.startswith("truncated file (100 bytes of")
    assert (found.where, found.is_mended) == (f"default/events/{name}", False)
    assert "driftline restore" in found.remedy
    tables = open_stores(store.settings).tables
    with pytest.raises(DependencyUnavailable, match=r"bucket=0.*driftline doctor"):
        tables.read_events(DEFAULT_TENANT, 0)
    assert tables.read_events(DEFAULT_TENANT, 1).height > 0
    trust("faults injected")


@pytest.mark.parametrize("content", [b"", b'{"add": {"pa'])
def test_a_damaged_log_entry_is_named_and_the_other_tables_are_read(store, content, trust):
    log = store.layout.events_dir(DEFAULT_TENANT) / "_delta_log"
    entry = max(log.glob("*.json"))
    entry.write_bytes(content)
    found = diagnose(store)
    assert found[0].what in ("damaged log entry", "table that cannot be opened")
    assert f"default/events/_delta_log/{entry.name}" in {one.where for one in found}
    tables = open_stores(store.settings).tables
    with pytest.raises(DependencyUnavailable, match="driftline doctor"):
        tables.read_events(DEFAULT_TENANT)
    assert tables.read_items(DEFAULT_TENANT).height > 0
    trust("faults injected")


def test_a_damaged_position_is_made_anew(store):
    for name in ("intake", f"interests_{store.space_id}_0000"):
        (store.layout.state_dir(DEFAULT_TENANT) / f"{name}.json").write_text("{")
    assert whats(diagnose(store, is_mending=True)) == ["damaged state"] * 2
    assert diagnose(store) == []
    again = store.refresh()
    assert (again.preprocess.events, again.vectors) == (0, 0)


def test_a_damaged_index_and_offline_part_are_named(store):
    index = next(store.layout.index_dir(DEFAULT_TENANT, store.space_id).glob("*/vectors.npy"))
    index.write_bytes(index.read_bytes()[:-4])
    part = next((store.layout.feast_dir(DEFAULT_TENANT) / "offline").glob("*by_period*/part-b*"))
    os.truncate(part, 50)
    found = diagnose(store)
    assert {"damaged index (vectors.npy)", "damaged offline part"} <= set(whats(found))


def spoil_sqlite(store):
    """Take one user's rows away and put another's in the place of a third's."""
    import sqlite3

    path = store.layout.feast_dir(DEFAULT_TENANT) / "online.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        table = f"default_{interest_view(Granularity.WEEK, store.space_id)}"
        keys = [key for (key,) in connection.execute(f'SELECT DISTINCT entity_key FROM "{table}"')]
        connection.execute(f'DELETE FROM "{table}" WHERE entity_key = ?', (keys[0],))
        connection.execute(
            f'UPDATE "{table}" SET value = (SELECT value FROM "{table}" t WHERE t.entity_key = ? AND '
            f"t.feature_name = 'vec') WHERE entity_key = ? AND feature_name = 'vec'",
            (keys[1], keys[2]),
        )


def test_online_rows_that_differ_are_found_and_mended(store, trust):
    before = store.online()
    spoil_sqlite(store)
    found = diagnose(store)
    assert set(whats(found)) == {"online rows that differ from offline"}
    assert sum(int(one.where.split(": ")[1].split()[0]) for one in found) == 2
    diagnose(store, is_mending=True)
    trust("faults injected", 2, int(store.online() != before))
    assert diagnose(store) == []
    assert store.online() == before


def rebuilt(store):
    compute = LocalCompute(store.settings)

    async def run():
        reader = open_online_reader(store.settings.feast_config(), store.layout)
        return await rebuild_online(compute.stores, reader, compute, store.settings)

    return asyncio.run(run())


def test_an_online_store_that_is_gone_is_rebuilt_equal(store, trust):
    before = store.online()
    for path in store.layout.feast_dir(DEFAULT_TENANT).glob("online.db*"):
        path.unlink()
    summary = rebuilt(store)
    assert summary.rows > 0
    assert summary.items == 4
    trust("faults injected", 1, int(store.online() != before))
    assert store.online() == before
    assert diagnose(store) == []
    assert rebuilt(store).rows == 0


def test_a_redis_that_came_back_empty_is_rebuilt_equal(tmp_path, valkey, trust):
    import redis

    store = make_store(tmp_path, online_store="redis", redis_url=valkey)
    store.record(some_events())
    store.refresh()
    before = store.online()
    assert sum(map(bool, before.values())) >= 6
    everyone = publish_of_everyone(store)
    assert serves_strangers(store)
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    assert not any(store.online().values())
    assert "online rows that differ from offline" in whats(diagnose(store))
    # A refresh of some does not make it whole.
    store.record(some_events(8, prefix="more"))
    store.refresh()
    assert not serves_strangers(store)
    rebuilt(store)
    before = store.online()
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    rebuilt(store)
    trust("faults injected", 2, int(store.online() != before))
    assert store.online() == before
    assert of_everyone(store) == everyone
    assert serves_strangers(store)
    assert diagnose(store) == []


def serves_strangers(store):
    """Tell whether a gateway's reader says that a user has no history; else it must say what to do."""

    async def ask():
        reader = open_online_reader(store.settings.feast_config(), store.layout, serves=True)
        try:
            return await reader.interest(DEFAULT_TENANT, store.space_id, "x", Granularity.WEEK)
        finally:
            await reader.close()

    try:
        return asyncio.run(ask()) is None
    except DependencyUnavailable as error:
        assert "driftline rebuild-online" in error.message
        return False


def publish_of_everyone(store):
    """Publish what rose for everyone; return it as it is online."""
    view = population_bursts_view(Granularity.WEEK, store.space_id)
    week = period_from_name(Granularity.WEEK, "2026-W12")
    known = PopulationBursts(risen={week: (0,)}, model_version="m1")
    features = features_of_population(known, ("tea",), week)
    rows = rows_frame(view, [EVERYONE], [features], computed_time=NOW)
    writer = open_stores(store.settings).features
    writer.append_offline(DEFAULT_TENANT, view, 0, "w12", rows)
    writer.write_online(DEFAULT_TENANT, view, rows.drop(KNOWN_TIME))
    return of_everyone(store)


def of_everyone(store):
    """Return the row of what rose for everyone."""

    async def ask():
        reader = open_online_reader(store.settings.feast_config(), store.layout)
        view = population_bursts_view(Granularity.WEEK, store.space_id)
        try:
            (row,) = await reader.fetch(DEFAULT_TENANT, view, [EVERYONE])
        finally:
            await reader.close()
        return row and row.features

    return asyncio.run(ask())
