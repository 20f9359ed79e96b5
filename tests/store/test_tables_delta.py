"""What the Delta adapter does beyond the contract: bytes on disk, many versions, merging."""

import threading
from datetime import UTC, datetime

import polars as pl
import pytest

from services.core.schema import bucket_of
from services.store import delta
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from services.store.tables import MERGE_FILES, DeltaTables

TENANT = "default"
T0 = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, 8)


def stored(*ids, user="u1"):
    return pl.DataFrame(
        {
            "event_id": list(ids),
            "user_id": [user] * len(ids),
            "item_id": ["i1"] * len(ids),
            "kind": ["view"] * len(ids),
            "value": [1.0] * len(ids),
            "event_time": [T0] * len(ids),
            "ingest_time": [T0] * len(ids),
        }
    )


def bytes_with(root, needle):
    return [path for path in root.rglob("*") if path.is_file() and needle in path.read_bytes()]


@pytest.mark.parametrize("user", ["secret-user", "o'brien; --", "héloïse%2F"])
def test_an_erased_user_leaves_no_bytes(layout, user):
    tables, needle = DeltaTables(layout), user.encode()
    writer = InboxWriter(layout, "gateway-0")
    writer.append("events", pl.concat([stored("a", user=user), stored("b", user="other")]))
    writer.append("erasures", pl.DataFrame({"erasure_id": ["er-1"], "user_id": [user]}))
    tables.append_events(TENANT, pl.concat([stored("c", user=user), stored("d")]), "1")
    assert len(bytes_with(layout.root, needle)) == 3
    tables.erase(TENANT, [user])
    assert bytes_with(layout.root, needle) == []
    assert tables.read_events(TENANT)["event_id"].to_list() == ["d"]
    assert tables.read_inbox(TENANT, {}).events["event_id"].to_list() == ["b"]


def test_an_append_during_an_erasure_is_kept(layout):
    tables, writer = DeltaTables(layout), InboxWriter(layout, "gateway-0")
    writer.append("events", stored("theirs"))
    kept = [f"e{n}" for n in range(30)]

    def write():
        for name in kept:
            writer.append("events", stored(name, user="other"))

    thread = threading.Thread(target=write)
    thread.start()
    while thread.is_alive():
        tables.erase(TENANT, ["u1"])
    thread.join()
    assert sorted(tables.read_inbox(TENANT, {}).events["event_id"]) == sorted(kept)


def test_many_small_batches_are_merged_and_tell_no_false_change(layout):
    tables, bucket = DeltaTables(layout), bucket_of("u1", 8)
    other = next(name for name in map(str, range(99)) if bucket_of(name, 8) == bucket)
    for n in range(MERGE_FILES - 2):
        tables.append_events(TENANT, stored(f"e{n}"), f"batch-{n}")
    _, version = tables.changed_users(TENANT, bucket, -1)
    tables.append_events(TENANT, stored("x", user=other), "x")
    tables.append_events(TENANT, stored("y", user=other), "y")
    assert len(delta.files(layout.events_dir(TENANT))) == 1
    assert tables.changed_users(TENANT, bucket, version)[0] == [other]
    assert tables.read_events(TENANT, bucket).height == MERGE_FILES


def test_a_user_whose_event_gave_way_is_told_even_after_the_old_files_went(layout):
    tables, bucket = DeltaTables(layout), bucket_of("u1", 8)
    other = next(name for name in map(str, range(99)) if bucket_of(name, 8) == bucket)
    tables.append_events(TENANT, pl.concat([stored("a"), stored("b", user=other)]), "1")
    version = tables.changed_users(TENANT, bucket, -1)[1]
    gone = tables.read_events(TENANT).filter(event_id="a")
    line = pl.lit(None, pl.Int64).alias("line")
    said = gone.with_columns(line, reason=pl.lit("x"), raw=pl.lit("{}"), source=pl.lit("events"))
    tables.append_rejects(TENANT, said, "2")
    tables.append_events(TENANT, stored("a", user=other), "2", gone)
    delta.sweep(layout.events_dir(TENANT), is_owner=True)
    assert tables.changed_users(TENANT, bucket, version)[0] == sorted(["u1", other])


def test_a_version_that_left_the_log_tells_every_user(layout):
    tables, bucket = DeltaTables(layout), bucket_of("u1", 8)
    tables.append_events(TENANT, stored("a"), "1")
    _, version = tables.changed_users(TENANT, bucket, -1)
    tables.append_events(TENANT, stored("b"), "2")
    folder = layout.events_dir(TENANT)
    delta.DeltaTable(str(folder)).create_checkpoint()
    for number in range(version + 1):
        (folder / "_delta_log" / f"{number:020}.json").unlink()
    assert tables.changed_users(TENANT, bucket, version)[0] == ["u1"]


def test_two_processes_that_append_a_batch_at_once_append_it_once(layout):
    tables = [DeltaTables(layout) for _ in range(4)]
    threads = [
        threading.Thread(target=each.append_events, args=(TENANT, stored("a"), "1"))
        for each in tables
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tables[0].read_events(TENANT).height == 1
