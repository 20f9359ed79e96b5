import asyncio
import threading
from datetime import UTC, datetime

import polars as pl
import pytest
from deltalake import DeltaTable

from services.core.errors import DependencyUnavailable, InvalidArgument, Overloaded
from services.store import delta
from services.store.inbox import DeltaInbox, InboxConfig, InboxWriter
from services.store.layout import Layout
from services.store.tables import DeltaTables

TENANT = "default"
T0 = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, 8)


def events(*ids):
    return pl.DataFrame(
        {
            "event_id": list(ids),
            "user_id": ["u1"] * len(ids),
            "item_id": ["i1"] * len(ids),
            "kind": ["view"] * len(ids),
            "value": [1.0] * len(ids),
            "event_time": [T0] * len(ids),
        }
    )


def event_log(layout, writer="gateway-0"):
    return layout.inbox_dir(TENANT, writer) / "events"


async def test_callers_at_once_share_a_commit(layout):
    inbox = DeltaInbox(layout, "gateway-0")
    before = DeltaTable(str(event_log(layout))).version()
    commits = await asyncio.gather(
        *(inbox.append_events(TENANT, events(f"e{n}")) for n in range(50))
    )
    assert DeltaTable(str(event_log(layout))).version() == before + 1
    assert {commit.row_count for commit in commits} == {1}
    assert len({commit.ingest_time for commit in commits}) == 1


async def test_a_full_group_does_not_wait(layout):
    inbox = DeltaInbox(layout, "gateway-0", InboxConfig(window_s=60, group_rows=2))
    calls = [inbox.append_events(TENANT, events(name)) for name in "ab"]
    await asyncio.wait_for(asyncio.gather(*calls), 10)


async def test_an_answer_means_the_rows_can_be_read(layout):
    inbox = DeltaInbox(layout, "gateway-0")
    await inbox.append_events(TENANT, events("a"))
    assert DeltaTables(layout).read_inbox(TENANT, {}).events["event_id"].to_list() == ["a"]


async def test_too_many_waiting_rows_are_refused_and_the_rest_is_kept(layout):
    inbox = DeltaInbox(layout, "gateway-0", InboxConfig(max_waiting_rows=3))
    calls = [inbox.append_events(TENANT, events(f"{n}a", f"{n}b")) for n in range(3)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["Commit", "Overloaded", "Overloaded"]
    assert isinstance(answers[1], Overloaded)
    await inbox.append_events(TENANT, events("later"))
    read = DeltaTables(layout).read_inbox(TENANT, {}).events["event_id"]
    assert sorted(read) == ["0a", "0b", "later"]


async def test_a_failed_commit_fails_its_callers_and_no_others(layout):
    inbox = DeltaInbox(layout, "gateway-0")
    folder = event_log(layout)
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    answers = await asyncio.gather(
        *(inbox.append_events(TENANT, events(name)) for name in "ab"), return_exceptions=True
    )
    assert all(isinstance(answer, DependencyUnavailable) for answer in answers)
    hidden.rename(folder)
    assert (await inbox.append_events(TENANT, events("c"))).row_count == 1
    assert DeltaTables(layout).read_inbox(TENANT, {}).events["event_id"].to_list() == ["c"]


async def test_a_bad_call_does_not_fail_the_group_it_came_with(layout):
    inbox = DeltaInbox(layout, "gateway-0")
    answers = await asyncio.gather(
        inbox.append_events(TENANT, events("a")),
        inbox.append_events(TENANT, events("b").drop("kind")),
        return_exceptions=True,
    )
    assert answers[0].row_count == 1
    assert isinstance(answers[1], InvalidArgument)


async def test_rows_of_a_caller_that_went_away_are_committed(layout):
    inbox = DeltaInbox(layout, "gateway-0")
    call = asyncio.create_task(inbox.append_events(TENANT, events("a")))
    await asyncio.sleep(0)
    call.cancel()
    await inbox.close()
    assert DeltaTables(layout).read_inbox(TENANT, {}).events["event_id"].to_list() == ["a"]


def test_writers_of_many_processes_may_open_at_once(layout):
    threads = [threading.Thread(target=InboxWriter, args=(layout, "gateway-0")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    InboxWriter(layout, "gateway-0").append("events", events("a"))
    assert DeltaTables(layout).read_inbox(TENANT, {}).events.height == 1


def test_rows_come_exactly_once_while_the_inbox_is_read_and_trimmed(layout):
    """Writers append while a reader consumes and trims; each acknowledged row is read once."""
    writers, per_writer = 3, 40
    acknowledged = []

    async def write(writer):
        inbox = DeltaInbox(layout, f"gateway-{writer}", InboxConfig(window_s=0.001))
        for n in range(per_writer):
            ids = [f"{writer}-{n}-{part}" for part in range(3)]
            await asyncio.gather(*(inbox.append_events(TENANT, events(part)) for part in ids))
            acknowledged.extend(ids)

    threads = [
        threading.Thread(target=lambda writer=writer: asyncio.run(write(writer)))
        for writer in range(writers)
    ]
    tables, position, read = DeltaTables(layout), {}, []
    for thread in threads:
        thread.start()
    trims = 0
    while True:
        is_over = not any(thread.is_alive() for thread in threads)
        batch = tables.read_inbox(TENANT, position)
        read += batch.events["event_id"].to_list()
        position = batch.position
        tables.trim_inbox(TENANT, position, is_forced=True)
        trims += 1
        if is_over:
            break
    assert trims > 2
    assert len(acknowledged) == writers * per_writer * 3
    assert sorted(read) == sorted(acknowledged)
    for writer in range(writers):
        folder = event_log(layout, f"gateway-{writer}")
        assert delta.files(folder) == {}
        assert list(folder.glob("*.parquet")) == []


def test_a_position_that_left_the_log_reads_again_and_loses_nothing(layout):
    writer = InboxWriter(layout, "gateway-0")
    tables = DeltaTables(layout)
    writer.append("events", events("a"))
    position = tables.read_inbox(TENANT, {}).position
    writer.append("events", events("b"))
    folder = event_log(layout)
    DeltaTable(str(folder)).create_checkpoint()
    for version in range(3):
        (folder / "_delta_log" / f"{version:020}.json").unlink()
    assert sorted(tables.read_inbox(TENANT, position).events["event_id"]) == ["a", "b"]


def test_a_large_backlog_comes_in_batches(layout):
    writer = InboxWriter(layout, "gateway-0")
    for n in range(5):
        writer.append("events", events(*(f"{n}-{part}" for part in range(4))))
    writer.append("events", events(*(f"big-{part}" for part in range(20))))
    tables, position, sizes = DeltaTables(layout, batch_rows=10), {}, []
    while True:
        batch = tables.read_inbox(TENANT, position)
        sizes.append(batch.events.height)
        position = batch.position
        if batch.is_last:
            break
    assert sizes == [8, 8, 4, 20]
