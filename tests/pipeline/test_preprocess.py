import threading
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from services.core.schema import EVENT_COLUMNS
from services.pipeline.preprocess import preprocess
from services.pipeline.status import status
from services.runtime.settings import Settings
from services.store.erasures import (
    ErasedUsers,
    finish_erasures,
    pending_erasures,
)
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from services.store.tables import DeltaTables

TENANT = "default"
T0 = datetime(2026, 1, 5, tzinfo=UTC)
NOW = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path, bucket_count=4, now=NOW)


@pytest.fixture
def layout(settings):
    return Layout(settings.data_dir, settings.bucket_count)


@pytest.fixture
def tables(layout):
    return DeltaTables(layout)


@pytest.fixture
def writer(layout):
    return InboxWriter(layout, "gateway-0")


def events(*ids, user="u1", item="i1", kind="view", value=1.0, time=T0):
    return pl.DataFrame(
        {
            "event_id": list(ids),
            "user_id": [user] * len(ids),
            "item_id": [item] * len(ids),
            "kind": [kind] * len(ids),
            "value": [value] * len(ids),
            "event_time": [time] * len(ids),
        }
    )


def item(item_id="i1", text="apple", updated_time=T0):
    return pl.DataFrame(
        {
            "item_id": [item_id],
            "title": [""],
            "text": [text],
            "categories": [["fruit"]],
            "updated_time": [updated_time],
        },
        schema_overrides={"updated_time": pl.Datetime("us", "UTC")},
    )


def ids(frame):
    return sorted(frame["event_id"])


def test_events_reach_the_table_once(writer, tables, settings):
    writer.append("events", events("a", "b"))
    assert preprocess(tables, settings).events == 2
    again = preprocess(tables, settings)
    assert (again.events, again.duplicates, again.rejected) == (0, 0, 0)
    assert ids(tables.read_events(TENANT)) == ["a", "b"]
    assert tuple(tables.read_events(TENANT).columns) == EVENT_COLUMNS


def test_an_event_sent_again_is_counted_and_dropped(writer, tables, settings):
    writer.append("events", events("a", "a"))
    assert preprocess(tables, settings).duplicates == 1
    writer.append("events", events("a"))
    assert preprocess(tables, settings).duplicates == 1
    assert tables.read_events(TENANT).height == 1
    assert status(settings).duplicates == 2


@pytest.mark.parametrize("change", [{"item": "i2"}, {"value": 2.0}, {"user": "u2"}])
def test_a_used_id_with_larger_content_is_rejected_and_the_stored_event_stays(
    writer, tables, settings, change
):
    writer.append("events", events("a", time=T0))
    preprocess(tables, settings)
    for _ in range(2):  # sent again, it is told once
        writer.append("events", pl.concat([events("a", **change), events("b")]))
        summary = preprocess(tables, settings)
    assert (summary.events, summary.duplicates, summary.rejected) == (0, 2, 0)
    assert status(settings).reasons == {"event_id was used before with different content": 1}
    kept = tables.read_events(TENANT).filter(event_id="a")
    assert kept.select("user_id", "item_id", "value").row(0) == ("u1", "i1", 1.0)
    reject = tables.read_rejects(TENANT).row(0, named=True)
    assert (reject["event_id"], reject["source"]) == ("a", "gateway-0/events")


def test_a_used_id_with_earlier_content_takes_the_place_of_the_stored_event(
    writer, tables, settings
):
    writer.append("events", pl.concat([events("a", time=T0), events("b")]))
    preprocess(tables, settings)
    earlier = T0 - timedelta(hours=1)
    writer.append("events", events("a", user="u2", time=earlier))
    summary = preprocess(tables, settings)
    assert (summary.events, summary.duplicates, summary.rejected) == (0, 0, 1)
    assert tables.read_events(TENANT).select("event_id", "user_id").sort(pl.all()).rows() == [
        ("a", "u2"),
        ("b", "u1"),
    ]
    reject = tables.read_rejects(TENANT).row(0, named=True)
    assert (reject["event_id"], reject["user_id"], reject["source"]) == ("a", "u1", "events")


def test_a_bad_event_is_rejected_and_the_rest_is_kept(writer, tables, settings):
    bad = [
        events("x1", user="u" * 257),
        events("x2", item=""),
        events("x3", kind="stare"),
        events("x4", value=float("nan")),
        events("x5", time=NOW + timedelta(minutes=6)),
        events("x6", time=datetime(1969, 12, 31, tzinfo=UTC)),
    ]
    writer.append("events", pl.concat([events("ok1"), *bad, events("ok2")]))
    summary = preprocess(tables, settings)
    assert (summary.events, summary.rejected) == (2, 6)
    assert ids(tables.read_events(TENANT)) == ["ok1", "ok2"]
    assert sorted(tables.read_rejects(TENANT)["event_id"]) == [f"x{n}" for n in range(1, 7)]


def test_items_become_versions_once(writer, tables, settings):
    days = [T0 + timedelta(days=n) for n in range(4)]
    for text, time in zip(("apple", "apple", "pear", "apple"), days, strict=True):
        writer.append("items", item(text=text, updated_time=time))
    writer.append("items", item(text="apple", updated_time=T0))
    assert preprocess(tables, settings).items == 3
    assert tables.read_items(TENANT).select("text", "updated_time").rows() == [
        ("apple", days[0]),
        ("pear", days[2]),
        ("apple", days[3]),
    ]
    writer.append("items", item(text="apple", updated_time=T0))
    assert preprocess(tables, settings).items == 0


def test_a_version_at_the_same_time_with_other_text_is_rejected(writer, tables, settings):
    writer.append("items", item(text="apple"))
    preprocess(tables, settings)
    writer.append("items", item(text="pear"))
    summary = preprocess(tables, settings)
    assert (summary.items, summary.rejected) == (0, 1)
    assert tables.read_items(TENANT)["text"].to_list() == ["apple"]


def test_an_item_without_words_or_from_the_future_is_rejected(writer, tables, settings):
    writer.append("items", item("i1", text="  "))
    writer.append("items", item("i2", updated_time=datetime.now(UTC) + timedelta(hours=1)))
    writer.append("items", item("i3"))
    summary = preprocess(tables, settings)
    assert (summary.items, summary.rejected) == (1, 2)
    assert tables.read_items(TENANT)["item_id"].to_list() == ["i3"]


class CrashingTables(DeltaTables):
    """Dies before or after one of the appends."""

    def __init__(self, layout, method, when):
        super().__init__(layout)
        self.method, self.when = method, when

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name.startswith(("append_", "write_state")) and name == self.method:

            def crash(*args, **kwargs):
                if self.when == "before":
                    raise KeyboardInterrupt
                found(*args, **kwargs)
                raise KeyboardInterrupt

            return crash
        return found


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "method", ["append_events", "append_items", "append_rejects", "write_state"]
)
def test_a_crash_anywhere_loses_and_doubles_nothing(layout, writer, settings, method, when):
    writer.append("events", events("a"))
    preprocess(DeltaTables(layout), settings)
    # This one takes the place of the stored one.
    came = [events("a", user="u0"), events("b"), events("bad", item="")]
    writer.append("events", pl.concat(came))
    writer.append("items", item())
    with pytest.raises(KeyboardInterrupt):
        preprocess(CrashingTables(layout, method, when), settings)
    # More came in before the next run.
    writer.append("events", events("c"))
    tables = DeltaTables(layout)
    preprocess(tables, settings)
    assert ids(tables.read_events(TENANT)) == ["a", "b", "c"]
    assert tables.read_events(TENANT).filter(event_id="a")["user_id"].to_list() == ["u0"]
    assert tables.read_items(TENANT).height == 1
    assert sorted(tables.read_rejects(TENANT)["event_id"]) == ["a", "bad"]


def test_two_jobs_at_once_take_each_row_once(layout, writer, settings):
    for n in range(20):
        writer.append("events", events(f"e{n}"))
    sums = []
    threads = [
        threading.Thread(target=lambda: sums.append(preprocess(DeltaTables(layout), settings)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found.events for found in sums) == [0, 0, 20]
    assert DeltaTables(layout).read_events(TENANT).height == 20


def test_order_of_arrival_does_not_matter(tmp_path):
    rows = [
        events("a", item="late", time=T0 + timedelta(hours=1)),
        events("a", item="early", time=T0),
        events("a", item="also early", time=T0),
    ]
    kept = []
    for n, order in enumerate(([0, 1, 2], [2, 1, 0], [1, 0, 2])):
        settings = Settings(data_dir=tmp_path / str(n), bucket_count=4, now=NOW)
        layout = Layout(settings.data_dir, 4)
        writer = InboxWriter(layout, "gateway-0")
        for row in order:
            writer.append("events", rows[row])
        tables = DeltaTables(layout)
        preprocess(tables, settings)
        kept.append(tables.read_events(TENANT)["item_id"].to_list())
    assert kept == [["also early"]] * 3


def test_a_large_backlog_is_taken_in_batch_by_batch(layout, writer, settings):
    for n in range(6):
        writer.append("events", events(f"{n}-a", f"{n}-b"))
    steps = []
    tables = DeltaTables(layout, batch_rows=4)
    summary = preprocess(tables, settings, on_progress=lambda *step: steps.append(step))
    assert summary.events == 12
    assert len(steps) == 3


def test_an_erased_users_events_from_before_the_request_are_dropped(
    layout, writer, tables, settings
):
    erased = ErasedUsers(layout)
    writer.append("events", events("before"))
    writer.append("erasures", pl.DataFrame({"erasure_id": ["er-1"], "user_id": ["u1"]}))
    assert erased.users(TENANT) == {"u1"}
    writer.append("events", events("after", time=datetime.now(UTC)))
    settings = settings.model_copy(update={"now": None})
    summary = preprocess(tables, settings)
    assert (summary.erasures, summary.erased_events, summary.events) == (1, 1, 1)
    assert summary.reasons == {"erased": 1}
    assert ids(tables.read_events(TENANT)) == ["after"]
    [request] = pending_erasures(tables, TENANT)
    assert (request.erasure_id, request.user_id) == ("er-1", "u1")
    assert erased.users(TENANT) == {"u1"}
    tables.erase(TENANT, [request.user_id], before=request.requested_time)
    finish_erasures(tables, TENANT, ["er-1"])
    assert erased.users(TENANT) == frozenset()
    assert ids(tables.read_events(TENANT)) == ["after"]


def test_an_event_that_comes_in_late_does_not_outlive_its_users_erasure(
    layout, writer, tables, settings
):
    writer.append("erasures", pl.DataFrame({"erasure_id": ["er-1"], "user_id": ["u1"]}))
    preprocess(tables, settings)
    finish_erasures(tables, TENANT, ["er-1"])
    late = events("late").with_columns(pl.lit(T0).alias("ingest_time"))
    from services.store import delta
    from services.store.event_frames import EVENTS, shape

    delta.append(layout.inbox_dir(TENANT, "gateway-0") / "events", shape(late, EVENTS))
    assert preprocess(tables, settings).erased_events == 1
    assert tables.read_events(TENANT).is_empty()


def test_no_trace_of_a_user_is_left_after_an_erasure(layout, writer, tables, settings):
    writer.append("events", pl.concat([events("a", user="secret-user"), events("b")]))
    writer.append("events", events("c", user="secret-user", item=""))
    writer.append("erasures", pl.DataFrame({"erasure_id": ["er-1"], "user_id": ["secret-user"]}))
    preprocess(tables, settings)
    tables.erase(TENANT, ["secret-user"])
    finish_erasures(tables, TENANT, ["er-1"])
    files = [path for path in layout.root.rglob("*") if path.is_file()]
    assert [path for path in files if b"secret-user" in path.read_bytes()] == []
    assert ids(tables.read_events(TENANT)) == ["b"]
