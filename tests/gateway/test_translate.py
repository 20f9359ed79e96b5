"""What holds for any instant on its way through the wire."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import InvalidArgument
from services.core.schema import Granularity
from services.gateway.translate.instants import (
    granularity_from_pb,
    granularity_to_pb,
    instant_from_pb,
    instant_to_pb,
)
from services.gateway.translate.pages import before_from_token, trajectory_token

INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999))


@given(INSTANTS)
def test_instants_come_back_to_the_microsecond(naive):
    instant = naive.replace(tzinfo=UTC)
    assert instant_from_pb(instant_to_pb(instant), "f") == instant


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_any_timestamp_is_an_instant_or_names_its_field(seconds, nanos):
    try:
        instant = instant_from_pb(Timestamp(seconds=seconds, nanos=nanos), "events[3].event_time")
    except InvalidArgument as error:
        assert error.field == "events[3].event_time"
    else:
        assert datetime(1970, 1, 1, tzinfo=UTC) <= instant


def test_granularities_come_back():
    for granularity in Granularity:
        assert granularity_from_pb(granularity_to_pb(granularity)) is granularity
    assert granularity_from_pb(0) is Granularity.WEEK


@given(st.sampled_from(Granularity), st.integers(-9_000, 9_000_000))
def test_trajectory_tokens_come_back(granularity, before):
    token = trajectory_token(granularity, before)
    assert before_from_token(token, granularity) == before
    assert len(token) <= 64


@given(st.text(max_size=64))
def test_any_token_is_one_of_ours_or_refused(token):
    try:
        before_from_token(token, Granularity.WEEK)
    except InvalidArgument as error:
        assert error.field == "page_token"
