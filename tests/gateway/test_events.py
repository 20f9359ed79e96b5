"""EventService over a real server, with a memory inbox."""

from datetime import UTC, datetime, timedelta

import polars as pl
from driftline.v1 import event_pb2
from driftline.v1 import event_service_pb2 as pb
from driftline.v1 import privacy_service_pb2 as privacy

from services.core.errors import DependencyUnavailable, Overloaded
from services.core.schema import DEFAULT_TENANT
from tests.gateway.world import NOW, World, refusal, serve, stamp


def event(event_id="e1", **changes):
    fields = {
        "event_id": event_id,
        "user_id": "u",
        "item_id": "jam",
        "kind": event_pb2.EVENT_KIND_PURCHASE,
        "event_time": stamp(NOW - timedelta(hours=1)),
    }
    return event_pb2.Event(**(fields | changes))


def item(item_id="jam", **changes):
    return event_pb2.Item(**({"item_id": item_id, "title": item_id.title()} | changes))


async def record(world, *events):
    return await world.event_service.RecordEvents(pb.RecordEventsRequest(events=events))


async def upsert(world, *items):
    return await world.event_service.UpsertItems(pb.UpsertItemsRequest(items=items))


async def test_an_answer_means_the_events_are_in_the_inbox(world):
    exact = datetime(2026, 11, 24, 11, 59, 59, 123_456, tzinfo=UTC)
    reply = await record(
        world, event("e1", value=2.5, event_time=stamp(exact)), event("e2", kind=1)
    )
    rows = world.events().events
    assert reply.event_count == 2
    assert rows["event_id"].to_list() == ["e1", "e2"]
    assert rows["user_id"].to_list() == ["u", "u"]
    assert rows["item_id"].to_list() == ["jam", "jam"]
    assert rows["kind"].to_list() == ["purchase", "view"]
    assert rows["value"].to_list() == [2.5, 1.0]
    assert rows["event_time"][0] == exact
    assert rows["ingest_time"][0] == reply.ingest_time.ToDatetime(UTC)


async def test_every_kind_of_the_contract_is_taken(world):
    kinds = [value for value in event_pb2.EventKind.values() if value]
    await record(world, *(event(f"e{kind}", kind=kind) for kind in kinds))
    stored = world.events().events["kind"].to_list()
    assert [f"EVENT_KIND_{kind.upper()}" for kind in stored] == [
        event_pb2.EventKind.Name(kind) for kind in kinds
    ]


async def test_the_same_event_twice_in_a_call_counts_once(world):
    reply = await record(world, event("e1"), event("e2"), event("e1"))
    assert reply.event_count == 2
    assert world.events().events["event_id"].to_list() == ["e1", "e2"]


async def test_an_unset_value_is_the_same_as_one(world):
    assert (await record(world, event("e1"), event("e1", value=1.0))).event_count == 1


async def test_one_id_with_two_contents_stores_nothing(world):
    failed = await refusal(record(world, event("e0"), event("e1"), event("e1", value=2.0)))
    assert (failed.code, failed.reason) == ("ALREADY_EXISTS", "EVENT_CONFLICT")
    assert failed.metadata == {"event_id": "e1", "field": "events[2].event_id"}
    assert list(failed.fields) == ["events[2].event_id"]
    assert world.events().events.is_empty()


async def test_clocks_may_differ_by_five_minutes(world):
    await record(world, event("e1", event_time=stamp(NOW + timedelta(minutes=5))))
    await upsert(world, item(updated_time=stamp(NOW + timedelta(minutes=5))))
    late = event("e2", event_time=stamp(NOW + timedelta(minutes=5, microseconds=1)))
    failed = await refusal(record(world, event("e3"), late))
    assert failed.code == "INVALID_ARGUMENT"
    assert failed.fields == {
        "events[1].event_time": "lies more than 5 minutes ahead of the server's clock"
    }
    assert world.events().events["event_id"].to_list() == ["e1"]


async def test_items_are_stored_as_described(world):
    updated = datetime(2026, 10, 1, tzinfo=UTC)
    reply = await upsert(
        world,
        item("jam", text="sweet", categories=["food", "sweet"], updated_time=stamp(updated)),
        item("tea"),
    )
    rows = world.events().items
    assert reply.item_count == 2
    assert rows["item_id"].to_list() == ["jam", "tea"]
    assert rows["title"].to_list() == ["Jam", "Tea"]
    assert rows["text"].to_list() == ["sweet", ""]
    assert rows["categories"].to_list() == [["food", "sweet"], []]
    assert rows["updated_time"][0] == updated
    # Unset means the server's now: the replayed one, else the item would lie in a replay's future.
    assert rows["updated_time"][1] == NOW


async def test_an_item_comes_once_a_call_and_says_something(world):
    failed = await refusal(upsert(world, item("jam"), item("tea"), item("jam")))
    assert list(failed.fields) == ["items[2].item_id"]
    failed = await refusal(upsert(world, item("jam"), item("tea", title=" ")))
    assert list(failed.fields) == ["items[1].title"]
    assert world.events().items.is_empty()


class Failing:
    """An inbox that does not take anything."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def append_events(self, tenant, rows):
        raise self._error

    append_items = append_events


async def test_a_store_that_takes_no_writes_is_unavailable():
    async with serve(World(inbox=Failing(DependencyUnavailable("event store")))) as world:
        failed = [await refusal(record(world, event())), await refusal(upsert(world, item()))]
    for one in failed:
        assert (one.code, one.reason) == ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")
        assert one.metadata == {"dependency": "event store"}


def refused(event_id, user="u", at=NOW):
    return pl.DataFrame(
        {
            "source": ["gateway-0/events"],
            "line": [None],
            "reason": ["kind is missing"],
            "event_id": [event_id],
            "user_id": [user],
            "raw": [f'{{"event_id":"{event_id}"}}'],
            "ingest_time": [at],
        }
    )


async def rejects(world, **request):
    return await world.event_service.ListRejects(pb.ListRejectsRequest(**request))


async def test_rejects_come_page_by_page_oldest_first(world):
    for number in range(5):
        # Two of one instant, as rows of one commit are.
        at = NOW + timedelta(minutes=number // 2)
        world.tables.append_rejects(DEFAULT_TENANT, refused(f"e{number}", at=at), f"b{number}")
    seen, token = [], ""
    while not seen or token:
        page = await rejects(world, page_size=2, page_token=token)
        seen, token = [*seen, *page.rejects], page.next_page_token
        # What comes in meanwhile does not shift the pages.
        world.tables.append_rejects(DEFAULT_TENANT, refused("old", at=NOW - timedelta(1)), "old")
    assert sorted(row.event_id for row in seen) == ["e0", "e1", "e2", "e3", "e4"]
    assert [row.ingest_time.ToDatetime(UTC) for row in seen] == [
        NOW + timedelta(minutes=n // 2) for n in range(5)
    ]
    first = seen[0]
    assert (first.source, first.line, first.reason) == ("gateway-0/events", 0, "kind is missing")
    assert first.excerpt == f'{{"event_id":"{first.event_id}"}}'


async def test_no_rejects_are_an_empty_page(world):
    assert not (await rejects(world)).rejects


async def test_a_foreign_page_token_is_refused(world):
    failed = await refusal(rejects(world, page_token="no token"))
    assert (failed.code, list(failed.fields)) == ("INVALID_ARGUMENT", ["page_token"])


async def test_an_erased_users_rejects_are_hidden_at_once(world):
    world.tables.append_rejects(DEFAULT_TENANT, refused("theirs", user="gone"), "1")
    world.tables.append_rejects(DEFAULT_TENANT, refused("others"), "2")
    await world.privacy_service.EraseUser(privacy.EraseUserRequest(user_id="gone"))
    assert [row.event_id for row in (await rejects(world)).rejects] == ["others"]


async def test_a_full_inbox_is_overload():
    async with serve(World(inbox=Failing(Overloaded("50000 rows")))) as world:
        failed = await refusal(record(world, event()))
    assert (failed.code, failed.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
