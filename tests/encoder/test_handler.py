"""The four RPCs without Ray: requests in, responses or errors out."""

import os

import numpy as np
import pytest
from driftline.v1 import encoder_service_pb2 as pb
from driftline.v1.event_pb2 import EVENT_KIND_PURCHASE, EVENT_KIND_VIEW, Item
from google.protobuf.timestamp_pb2 import Timestamp

from services.core.errors import ItemNotFound, NotReady, SpaceMismatch
from services.core.schema import DEFAULT_TENANT
from services.encoder.handler import EncoderHandler
from services.runtime.errors import InvalidRequest
from services.runtime.validation import validate
from tests.encoder.world import BUCKETS, WIDTH, event, item, world


@pytest.fixture
def w(tmp_path):
    made = world(tmp_path)
    made.add_items(item("tea"), item("milk"))
    made.encoder.refresh_items(DEFAULT_TENANT, is_full=False, cancelled=lambda: False)
    return made


@pytest.fixture
def handler(w):
    return EncoderHandler(w.encoder)


def rows(batch):
    return np.frombuffer(batch.values, "<f4").reshape(-1, batch.width)


def history(*items, kind=EVENT_KIND_PURCHASE, value=None):
    return pb.History(
        events=[
            pb.HistoryEvent(item_id=name, kind=kind, value=value, event_time=Timestamp(seconds=1))
            for name in items
        ]
    )


async def test_items_come_back_packed_in_order_and_equal_those_of_the_catalogue(w, handler):
    asked = pb.EncodeItemsRequest(
        items=[Item(item_id="x", title="tea"), Item(item_id="milk", title="milk")]
    )
    validate(asked)
    answer = await handler.EncodeItems(asked)
    assert (answer.model_version, answer.vectors.space_id) == ("m1", w.space_id)
    assert answer.vectors.width == WIDTH
    held = w.catalogues.current(DEFAULT_TENANT, w.space_id)
    assert np.array_equal(rows(answer.vectors), held.items_ND[[1, 0]])


async def test_title_and_text_are_read_together(w, handler):
    await handler.EncodeItems(
        pb.EncodeItemsRequest(items=[Item(item_id="x", title="Tea", text="green")])
    )
    assert w.text.encoded[-1] == "Tea. green"


async def test_a_history_pools_its_items(w, handler):
    answer = await handler.EncodeHistories(
        pb.EncodeHistoriesRequest(
            histories=[history("tea"), history("milk", "tea", "milk", "milk")]
        )
    )
    made, items = rows(answer.vectors), w.catalogues.current(DEFAULT_TENANT, w.space_id).items_ND
    assert np.allclose(made[0], items[1], atol=1e-6)
    mixed = 3**0.5 * items[0] + items[1]
    assert np.allclose(made[1], mixed / np.linalg.norm(mixed), atol=1e-6)


async def test_kinds_and_values_weigh(w, handler):
    views = history("tea", kind=EVENT_KIND_VIEW, value=60.0)
    views.events.extend(history("milk", value=15.0).events)
    (made,) = rows(
        (await handler.EncodeHistories(pb.EncodeHistoriesRequest(histories=[views]))).vectors
    )
    items = w.catalogues.current(DEFAULT_TENANT, w.space_id).items_ND
    mixed = 0.3**0.5 * items[1] + 4**0.5 * items[0]
    assert np.allclose(made, mixed / np.linalg.norm(mixed), atol=1e-6)


async def test_an_item_that_is_not_in_the_catalogue_is_named(handler):
    asked = pb.EncodeHistoriesRequest(histories=[history("tea"), history("ghost")])
    with pytest.raises(ItemNotFound) as caught:
        await handler.EncodeHistories(asked)
    assert caught.value.metadata == {"item_id": "ghost"}


async def test_another_expected_space_is_refused(w, handler):
    for method, asked in (
        (handler.EncodeItems, pb.EncodeItemsRequest(items=[Item(item_id="x")])),
        (handler.EncodeHistories, pb.EncodeHistoriesRequest(histories=[history("tea")])),
    ):
        asked.expected_space_id = w.space_id
        await method(asked)
        asked.expected_space_id = "other_1"
        with pytest.raises(SpaceMismatch) as caught:
            await method(asked)
        assert caught.value.metadata["expected_space_id"] == "other_1"


def test_the_rules_refuse_what_the_proto_forbids():
    for bad in (
        pb.EncodeItemsRequest(),
        pb.EncodeItemsRequest(items=[Item(title="no id")]),
        pb.EncodeHistoriesRequest(histories=[pb.History()]),
        pb.RefreshInterestsRequest(buckets=[-1]),
    ):
        with pytest.raises(InvalidRequest):
            validate(bad)


async def test_refreshes_answer_with_counts_and_the_process_that_did_them(w, handler):
    w.add_events(event("ann", "tea"), event("bob", "milk"))
    items = await handler.RefreshItems(pb.RefreshItemsRequest())
    assert (items.item_count, items.encoded_text_count, items.replica_pid) == (2, 0, os.getpid())
    made = await handler.RefreshInterests(pb.RefreshInterestsRequest())
    assert (made.user_count, made.vector_count, made.bucket_count) == (2, 6, BUCKETS)
    assert (made.space_id, made.replica_pid) == (w.space_id, os.getpid())


async def test_without_a_model_everything_says_so(w, handler):
    w.models.live = None
    with pytest.raises(NotReady):
        await handler.EncodeItems(pb.EncodeItemsRequest(items=[Item(item_id="x")]))
    with pytest.raises(NotReady):
        await handler.RefreshInterests(pb.RefreshInterestsRequest())
