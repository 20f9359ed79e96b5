"""The contract of the event log, held by the memory and the Delta adapter alike."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
import pytest

from services.core.errors import InvalidArgument
from services.core.schema import bucket_of
from services.store.inbox import DeltaInbox
from services.store.layout import Layout
from services.store.memory_events import EventMemory, MemoryInbox, MemoryTables
from services.store.tables import DeltaTables

TENANT = "default"
T0 = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass
class Log:
    tables: object
    open_inbox: object


@pytest.fixture(params=["memory", "delta"])
def log(request, tmp_path):
    if request.param == "memory":
        memory = EventMemory()
        return Log(MemoryTables(memory), lambda writer: MemoryInbox(memory, writer))
    layout = Layout(tmp_path, 8)
    return Log(DeltaTables(layout), lambda writer: DeltaInbox(layout, writer))


def events(*ids, user="u1", item="i1", time=T0):
    return pl.DataFrame(
        {
            "event_id": list(ids),
            "user_id": [user] * len(ids),
            "item_id": [item] * len(ids),
            "kind": ["view"] * len(ids),
            "value": [1.0] * len(ids),
            "event_time": pl.Series([time] * len(ids), dtype=pl.Datetime("us", "UTC")),
        }
    )


def stored(*ids, **kwargs):
    return events(*ids, **kwargs).with_columns(pl.lit(T0).alias("ingest_time"))


def item(item_id="i1", text="apple", updated_time=None):
    return pl.DataFrame(
        {
            "item_id": [item_id],
            "title": [""],
            "text": [text],
            "categories": [["fruit"]],
            "updated_time": pl.Series([updated_time], dtype=pl.Datetime("us", "UTC")),
        }
    )


async def test_rows_of_all_writers_are_read_once(log):
    for writer, ids in (("gateway-0", ("a", "b")), ("gateway-1", ("c",))):
        commit = await log.open_inbox(writer).append_events(TENANT, events(*ids))
        assert commit.row_count == len(ids)
    batch = log.tables.read_inbox(TENANT, {})
    assert sorted(batch.events["event_id"]) == ["a", "b", "c"]
    assert sorted(batch.events["source"].unique()) == ["gateway-0/events", "gateway-1/events"]
    assert log.tables.read_inbox(TENANT, batch.position).events.is_empty()


async def test_a_batch_can_be_asked_for_again(log):
    inbox = log.open_inbox("gateway-0")
    await inbox.append_events(TENANT, events("a"))
    first = log.tables.read_inbox(TENANT, {})
    await inbox.append_events(TENANT, events("b"))
    again = log.tables.read_inbox(TENANT, {}, until=first.position)
    assert again.events["event_id"].to_list() == ["a"]
    rest = log.tables.read_inbox(TENANT, again.position)
    assert rest.events["event_id"].to_list() == ["b"]


async def test_an_item_without_a_time_takes_the_time_of_its_commit(log):
    inbox = log.open_inbox("gateway-0")
    commit = await inbox.append_items(TENANT, item())
    await inbox.append_items(TENANT, item(updated_time=T0))
    times = log.tables.read_inbox(TENANT, {}).items.sort("updated_time")["updated_time"].to_list()
    assert times == [T0, commit.ingest_time]


async def test_erasures_are_told(log):
    await log.open_inbox("gateway-0").append_erasure(TENANT, "er-1", "u1")
    assert log.tables.read_inbox(TENANT, {}).erasures.row(0)[:2] == ("er-1", "u1")


async def test_trimming_removes_what_is_consumed_and_nothing_else(log):
    inbox = log.open_inbox("gateway-0")
    await inbox.append_events(TENANT, events("a"))
    position = log.tables.read_inbox(TENANT, {}).position
    await inbox.append_events(TENANT, events("b"))
    log.tables.trim_inbox(TENANT, position, is_forced=True)
    await inbox.append_events(TENANT, events("c"))
    assert sorted(log.tables.read_inbox(TENANT, position).events["event_id"]) == ["b", "c"]
    assert sorted(log.tables.read_inbox(TENANT, {}).events["event_id"]) == ["b", "c"]


async def test_tenants_are_apart(log):
    await log.open_inbox("gateway-0").append_events("other", events("a"))
    assert log.tables.read_inbox(TENANT, {}).events.is_empty()
    assert log.tables.read_inbox("other", {}).events.height == 1


def test_a_batch_is_appended_once(log):
    for table, rows in (("events", stored("a")), ("events", stored("b"))):
        getattr(log.tables, f"append_{table}")(TENANT, rows, "batch-1")
    log.tables.append_events(TENANT, stored("c"), "batch-2")
    log.tables.append_events(TENANT, stored("a"), "batch-1")
    assert log.tables.read_events(TENANT)["event_id"].to_list() == ["a", "c"]


def test_events_are_read_by_bucket_in_order(log):
    late = datetime(2026, 2, 1, tzinfo=UTC)
    rows = pl.concat([stored("z", time=late), stored("b", "a"), stored("q", user="u2")])
    log.tables.append_events(TENANT, rows, "batch-1")
    mine = log.tables.read_events(TENANT, bucket_of("u1", 8))
    assert mine.filter(pl.col("user_id") == "u1")["event_id"].to_list() == ["a", "b", "z"]
    assert log.tables.read_events(TENANT).height == 4
    assert sum(log.tables.read_events(TENANT, bucket).height for bucket in range(8)) == 4


def test_some_users_are_read_alone_however_many_files_hold_them(log):
    for n, user in enumerate(("u1", "u2", "u1")):
        log.tables.append_events(TENANT, stored(f"e{n}", user=user), f"batch-{n}")
    bucket = bucket_of("u1", 8)
    mine = log.tables.read_events(TENANT, bucket, ["u1", "nobody"])
    assert mine.equals(log.tables.read_events(TENANT, bucket).filter(pl.col("user_id") == "u1"))
    assert mine["event_id"].to_list() == ["e0", "e2"]
    assert log.tables.read_events(TENANT, bucket, []).is_empty()


def test_stored_ids_are_found_whatever_their_bucket(log):
    log.tables.append_events(TENANT, pl.concat([stored("a"), stored("b", user="u2")]), "1")
    found = log.tables.known_events(TENANT, pl.Series(["b", "a", "nope", "a"]))
    assert sorted(found["event_id"]) == ["a", "b"]


def test_users_with_new_events_are_told_by_version(log):
    first = log.tables.append_events(TENANT, stored("a"), "1")
    users, version = log.tables.changed_users(TENANT, bucket_of("u1", 8), 0)
    assert (users, version) == (["u1"], first)
    log.tables.append_events(TENANT, stored("b", user="u2"), "2")
    assert log.tables.changed_users(TENANT, bucket_of("u2", 8), first)[0] == ["u2"]
    assert log.tables.changed_users(TENANT, bucket_of("u1", 8), version + 1)[0] == []


def test_an_event_that_gives_way_is_gone_and_both_users_are_told(log):
    log.tables.append_events(TENANT, pl.concat([stored("a", "k"), stored("b", user="u2")]), "1")
    buckets = {user: bucket_of(user, 8) for user in ("u1", "u2", "u3")}
    version = log.tables.changed_users(TENANT, buckets["u1"], -1)[1]
    gone = log.tables.read_events(TENANT).filter(event_id="a")
    for _ in range(2):  # a retry changes nothing
        log.tables.append_events(TENANT, stored("a", user="u3"), "2", gone)
        rows = log.tables.read_events(TENANT).select("event_id", "user_id").rows()
        assert sorted(rows) == [("a", "u3"), ("b", "u2"), ("k", "u1")]
    told = {user: log.tables.changed_users(TENANT, at, version)[0] for user, at in buckets.items()}
    assert "u1" in told["u1"]
    assert "u3" in told["u3"]
    assert told["u2"] == [] or buckets["u2"] in (buckets["u1"], buckets["u3"])


def test_rejects_that_are_told_are_not_told_again(log):
    by_inbox = reject("u1").with_columns(pl.lit(None, pl.Int64).alias("line"))
    log.tables.append_rejects(TENANT, pl.concat([by_inbox, reject("u2")]), "1")
    again = pl.concat([by_inbox.with_columns(source=pl.lit("other")), reject("u2")])
    fresh = log.tables.untold_rejects(TENANT, pl.concat([again, reject("u3")]))
    assert sorted(fresh["user_id"]) == ["u2", "u3"]


def test_rows_of_a_wrong_shape_are_refused(log):
    with pytest.raises(InvalidArgument, match="item_id"):
        log.tables.append_events(TENANT, stored("a").drop("item_id"), "1")


async def test_rows_of_a_wrong_shape_are_refused_by_the_inbox(log):
    with pytest.raises(InvalidArgument, match="kind"):
        await log.open_inbox("gateway-0").append_events(TENANT, events("a").drop("kind"))


async def test_erasing_removes_a_user_and_keeps_the_others(log):
    inbox = log.open_inbox("gateway-0")
    await inbox.append_events(TENANT, pl.concat([events("a"), events("b", user="u2")]))
    log.tables.append_events(TENANT, pl.concat([stored("c"), stored("d", user="u2")]), "1")
    log.tables.append_rejects(TENANT, reject("u1"), "1")
    log.tables.erase(TENANT, ["u1"])
    assert log.tables.read_inbox(TENANT, {}).events["event_id"].to_list() == ["b"]
    assert log.tables.read_events(TENANT)["event_id"].to_list() == ["d"]
    assert log.tables.read_rejects(TENANT).is_empty()


async def test_events_after_the_request_survive_an_erasure(log):
    inbox = log.open_inbox("gateway-0")
    await inbox.append_events(TENANT, events("before"))
    request = await inbox.append_erasure(TENANT, "er-1", "u1")
    await asyncio.sleep(0.001)
    later = datetime.now(UTC)
    await inbox.append_events(TENANT, events("after", time=later))
    await inbox.append_events(TENANT, events("late"))
    log.tables.erase(TENANT, ["u1"], before=request.ingest_time)
    assert log.tables.read_inbox(TENANT, {}).events["event_id"].to_list() == ["after"]


async def test_counts_say_what_is_stored_and_what_waits(log):
    await log.open_inbox("gateway-0").append_events(TENANT, events("a", "b"))
    log.tables.append_events(TENANT, stored("c"), "1")
    log.tables.append_rejects(TENANT, pl.concat([reject("u1"), reject("u2")]), "1")
    counts = log.tables.counts(TENANT, {})
    assert (counts.events, counts.waiting_events, counts.waiting_items) == (1, 2, 0)
    assert counts.rejects == {"event_time cannot be read": 2}


def test_state_is_read_back(log):
    assert log.tables.read_state(TENANT, "intake") == {}
    log.tables.write_state(TENANT, "intake", {"position": {"gateway-0/events": 3}})
    assert log.tables.read_state(TENANT, "intake") == {"position": {"gateway-0/events": 3}}


def test_a_holder_of_the_lock_may_erase(log):
    with log.tables.intake_lock(TENANT):
        log.tables.erase(TENANT, ["u1"])


def reject(user):
    return pl.DataFrame(
        {
            "source": ["a.csv"],
            "line": [2],
            "reason": ["event_time cannot be read"],
            "event_id": [None],
            "user_id": [user],
            "raw": ["{}"],
            "ingest_time": [T0],
        }
    )
