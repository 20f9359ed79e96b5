"""PrivacyService over a real server: receipts, copies of what is held, and refused replays."""

from datetime import timedelta

import polars as pl
from driftline.v1 import privacy_service_pb2 as pb

from services.core.receipts import ErasedPlace, Receipt, to_json
from services.core.schema import DEFAULT_TENANT
from services.gateway.erasure import PART
from services.store.erasures import finish_erasures, record_erasures
from services.store.receipts import SignedReceipt
from services.store.user_records import UserRecord
from tests.gateway.test_events import event, record
from tests.gateway.world import NOW, refusal, stamp


async def test_a_request_is_pending_until_its_receipt_says_otherwise(world):
    asked = await world.privacy_service.EraseUser(pb.EraseUserRequest(user_id="u"))
    waiting = await receipt_of(world, asked.erasure_id)
    assert waiting.state == pb.ERASURE_STATE_PENDING
    assert waiting.requested_time == asked.requested_time
    assert not waiting.places
    made = Receipt(
        erasure_id=asked.erasure_id, subject="00", requested_time=NOW, removed_time=NOW,
        completed_time=NOW, places=(ErasedPlace(name="events", removed=3),),
        predated_models=("m1",),
    )  # fmt: skip
    world.privacy.receipts[asked.erasure_id] = SignedReceipt(
        content=to_json(made), signature=b"s", key_id="k"
    )
    done = await receipt_of(world, asked.erasure_id)
    assert done.state == pb.ERASURE_STATE_DONE
    assert [(place.name, place.removed_count) for place in done.places] == [("events", 3)]
    assert (done.signed_json, done.signature, done.key_id) == (to_json(made), b"s", "k")
    assert done.predated_model_count == 1


async def receipt_of(world, erasure_id):
    reply = await world.privacy_service.GetErasure(pb.GetErasureRequest(erasure_id=erasure_id))
    return reply.receipt


async def test_a_request_that_nobody_made_is_not_found(world):
    refused = await refusal(
        world.privacy_service.GetErasure(pb.GetErasureRequest(erasure_id="nothing"))
    )
    assert (refused.code, refused.reason) == ("NOT_FOUND", "ERASURE_NOT_FOUND")
    assert refused.metadata == {"erasure_id": "nothing"}


async def test_a_copy_streams_in_parts_and_of_a_stranger_is_empty(world):
    world.privacy.held["u"] = [
        UserRecord(source="events", time=NOW, content={"item_id": f"i{n}"}) for n in range(PART + 1)
    ]
    parts = await copy_of(world, "u")
    assert [len(part.records) for part in parts] == [PART, 1]
    assert parts[1].records[0].content_json == f'{{"item_id": "i{PART}"}}'
    assert parts[1].records[0].time == stamp(NOW)
    assert await copy_of(world, "nobody") == []
    await world.privacy_service.EraseUser(pb.EraseUserRequest(user_id="u"))
    assert await copy_of(world, "u") == []


async def copy_of(world, user_id):
    return [
        part
        async for part in world.privacy_service.ExportUser(pb.ExportUserRequest(user_id=user_id))
    ]


async def test_replayed_events_of_an_erased_user_are_refused_by_position(world):
    rows = {"erasure_id": ["e-1"], "user_id": ["u"], "ingest_time": [NOW - timedelta(minutes=10)]}
    record_erasures(world.tables, DEFAULT_TENANT, pl.DataFrame(rows))
    finish_erasures(world.tables, DEFAULT_TENANT, ["e-1"])
    reply = await record(
        world, event("old"), event("new", event_time=stamp(NOW)), event("other", user_id="v"),
        event("old"),
    )  # fmt: skip
    assert (reply.event_count, list(reply.refused_positions)) == (2, [0, 3])
    assert world.events().events["event_id"].to_list() == ["new", "other"]
    again = await record(world, event("old"))
    assert (again.event_count, list(again.refused_positions)) == (0, [0])
