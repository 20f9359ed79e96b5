"""The rules of the protos, applied to the stubs' messages."""

import time

import pytest
from driftline.v1 import encoder_service_pb2 as enc
from driftline.v1 import event_pb2, event_service_pb2
from driftline.v1 import interest_service_pb2 as pb
from driftline.v1 import recommendation_service_pb2 as rec
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import InvalidRequest
from services.runtime.validation import Rules, shared_rules, validate


def event(**changes):
    fields = {
        "event_id": "e",
        "user_id": "u",
        "item_id": "i",
        "kind": event_pb2.EVENT_KIND_PURCHASE,
        "event_time": {"seconds": 5},
    }
    return event_pb2.Event(**(fields | changes))


def violations(message) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        validate(message)
    return dict(caught.value.violations)


def test_a_good_request_passes():
    validate(event_service_pb2.RecordEventsRequest(events=[event()]))


def test_every_bad_field_is_named_with_its_place():
    request = event_service_pb2.RecordEventsRequest(
        events=[event(), event(user_id="", value=float("nan")), event(item_id="é" * 129)]
    )
    assert violations(request) == {
        "events[1].user_id": "must be at least 1 bytes",
        "events[1].value": "must be finite",
        "events[2].item_id": "must be at most 256 bytes",
    }


def test_an_enum_outside_the_contract_lists_what_is_allowed():
    found = violations(event_service_pb2.RecordEventsRequest(events=[event(kind=99)]))
    assert found["events[0].kind"].startswith("must be one of EVENT_KIND_VIEW, EVENT_KIND_CLICK")
    found = violations(event_service_pb2.RecordEventsRequest(events=[event(kind=0)]))
    assert found["events[0].kind"].startswith("must be one of EVENT_KIND_VIEW, EVENT_KIND_CLICK")
    found = violations(pb.GetInterestRequest(user_id="u", granularity=9))
    assert found["granularity"] == (
        "must be one of GRANULARITY_DAY, GRANULARITY_WEEK, GRANULARITY_MONTH"
    )


def test_a_missing_time_is_named():
    bare = event_pb2.Event(event_id="e", user_id="u", item_id="i", kind=1)
    found = violations(event_service_pb2.RecordEventsRequest(events=[bare]))
    assert set(found) == {"events[0].event_time"}


def test_duplicates_in_a_distinct_list_are_refused():
    assert "user_ids" in violations(pb.BatchGetInterestsRequest(user_ids=["a", "a"]))


def test_nested_paths_reach_any_depth():
    request = enc.EncodeHistoriesRequest(
        histories=[enc.History(events=[enc.HistoryEvent(item_id="i", kind=1)])]
    )
    assert set(violations(request)) == {"histories[0].events[0].event_time"}


def test_bytes_that_do_not_parse_are_refused_not_crashed_on():
    with pytest.raises(InvalidRequest, match=r"is not a valid driftline\.v1\.GetInterestRequest"):
        shared_rules().check_bytes("driftline.v1.GetInterestRequest", b"\x0a\xff")
    # Strings must be UTF-8.
    with pytest.raises(InvalidRequest):
        shared_rules().check_bytes("driftline.v1.GetInterestRequest", b"\x0a\x01\xff")


@given(page_size=st.integers(-(2**31), 2**31 - 1))
def test_page_sizes_pass_in_their_range_only(page_size):
    request = rec.RecommendItemsRequest(user_id="u", page_size=page_size)
    if 0 <= page_size <= 200:
        validate(request)
    else:
        assert set(violations(request)) == {"page_size"}


def test_warming_takes_the_compilation_out_of_the_first_call():
    def first_call(rules: Rules) -> float:
        started = time.thread_time()
        rules.check(pb.GetInterestRequest(user_id="u"))
        return time.thread_time() - started

    warm = Rules()
    warm.warm(*warm.requests_of("driftline.v1.InterestService"))
    # CPU time, so that a busy machine does not matter: about 0.1 ms against 2.
    assert first_call(warm) < first_call(Rules()) / 2


def test_requests_of_a_service_are_known():
    assert shared_rules().requests_of("driftline.v1.EventService") == (
        "driftline.v1.RecordEventsRequest",
        "driftline.v1.UpsertItemsRequest",
        "driftline.v1.ListRejectsRequest",
    )
