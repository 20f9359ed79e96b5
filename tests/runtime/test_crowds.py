"""A crowd in a few bytes is refused before it is parsed."""

import contextlib
import subprocess
import sys
import time

import pytest
from driftline.v1 import encoder_service_pb2, event_pb2, event_service_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.crowds import crowded
from services.runtime.errors import InvalidRequest
from services.runtime.validation import shared_rules

EVENTS, ITEMS = "driftline.v1.RecordEventsRequest", "driftline.v1.UpsertItemsRequest"


def find(name, data):
    return crowded(memoryview(data), shared_rules()._shape_named(name))


def events(count):
    return event_service_pb2.RecordEventsRequest(
        events=[event_pb2.Event(event_id=str(number)) for number in range(count)]
    ).SerializeToString()


def items(*categories):
    return event_service_pb2.UpsertItemsRequest(
        items=[event_pb2.Item(item_id="i", categories=["c"] * count) for count in categories]
    ).SerializeToString()


def test_a_list_of_as_many_as_are_allowed_passes_and_one_more_does_not():
    assert find(EVENTS, events(1000)) is None
    assert find(EVENTS, events(1001)) == ("events", 1000)


def test_a_list_in_a_list_is_named_by_its_place():
    most = find(ITEMS, items(1, 1000))[1]
    assert find(ITEMS, items(1, most)) is None
    assert find(ITEMS, items(1, most + 1)) == ("items[1].categories", most)


def test_packed_numbers_count_by_their_bytes():
    name = "driftline.v1.RefreshInterestsRequest"
    few = encoder_service_pb2.RefreshInterestsRequest(buckets=range(64))
    assert find(name, few.SerializeToString()) is None
    many = encoder_service_pb2.RefreshInterestsRequest(buckets=[1] * 1_000_000)
    assert find(name, many.SerializeToString())[0] == "buckets"


@given(st.binary(max_size=200))
def test_any_bytes_are_looked_through_without_a_failure(data):
    for name in (EVENTS, ITEMS):
        find(name, data)
        with contextlib.suppress(InvalidRequest):
            shared_rules().check_bytes(name, data)


@pytest.mark.parametrize(
    ("name", "data", "field"),
    [
        (EVENTS, r"b'\x0a\x00' * (15 << 20)", "events"),
        (ITEMS, r"b'\x0a\x00' * (15 << 20)", "items"),
        # One item, of 30 MiB of empty categories.
        (ITEMS, r"b'\x0a\x80\x80\x80\x0f' + b'\x22\x00' * (15 << 20)", "items[0].categories"),
    ],
)
def test_thirty_megabytes_of_nothing_are_refused_at_once_within_little_memory(name, data, field):
    """A process of its own, so that the peak is its own."""
    code = f"""
import resource, time
from services.runtime.validation import shared_rules
from services.runtime.errors import InvalidRequest
rules = shared_rules()
rules.warm({name!r})
data = {data}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.process_time()
try:
    rules.check_bytes({name!r}, data)
except InvalidRequest as error:
    took = time.process_time() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(error.field, took < 1.0, grown < 16 << 10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [field, "True", "True"], done


def test_a_list_of_bad_entries_is_refused_by_its_first_in_little_time():
    data = event_service_pb2.RecordEventsRequest(
        events=[event_pb2.Event() for _ in range(1000)]
    ).SerializeToString()
    shared_rules().warm(EVENTS)
    started = time.process_time()
    with pytest.raises(InvalidRequest) as caught:
        shared_rules().check_bytes(EVENTS, data)
    assert time.process_time() - started < 0.05
    assert caught.value.violations == ((caught.value.field, caught.value.problem),)
    assert caught.value.field.startswith("events[0].")


def test_of_a_small_request_every_bad_field_is_named():
    with pytest.raises(InvalidRequest) as caught:
        shared_rules().check(event_service_pb2.RecordEventsRequest(events=[event_pb2.Event()]))
    assert {field for field, _ in caught.value.violations} >= {
        "events[0].event_id",
        "events[0].user_id",
        "events[0].item_id",
    }
