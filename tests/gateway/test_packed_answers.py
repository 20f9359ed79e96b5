"""Answers made as bytes are, byte for byte, what protobuf writes of the same messages."""

from datetime import UTC, datetime, timedelta

import numpy as np
from driftline.v1 import interest_service_pb2 as pb
from driftline.v1 import vector_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.core.packed import pack
from services.core.periods import Period
from services.core.records import InterestVector
from services.core.schema import Granularity
from services.gateway.answers import AsOf, Basis, BatchAnswer, InterestAnswer, TrajectoryAnswer
from services.gateway.translate.instants import basis_to_pb, granularity_to_pb, instant_to_pb
from services.gateway.translate.interests import (
    batch_to_wire,
    interest_to_wire,
    trajectory_to_wire,
)
from services.gateway.translate.pages import trajectory_token

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SPACES = st.sampled_from(["", "s_1", "x" * 64])
INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(
    lambda naive: naive.replace(tzinfo=UTC)
)
# Widths around what one byte of length holds, and beyond what two do.
WIDTHS = st.sampled_from([0, 1, 31, 32, 128, 5000])
COUNTS = st.one_of(st.integers(0, 300), st.integers(0, 2**31 - 1))


@st.composite
def vectors(draw):
    granularity = draw(st.sampled_from(Granularity))
    width = draw(WIDTHS)
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    return InterestVector(
        vec_D=rng.normal(size=width).astype(np.float32),
        period=Period(granularity, draw(st.integers(-10, 600))),
        event_count=draw(COUNTS),
        model_version=draw(st.sampled_from(["", "m1"])),
        known_time=NOW,
        computed_time=draw(INSTANTS),
    )


def basis(space_id: str) -> Basis:
    as_of = AsOf(event_time=NOW, ingest_time=NOW + timedelta(seconds=1), is_now=True)
    return Basis(as_of=as_of, model_version="m1", space_id=space_id, input_time=NOW)


def plain(vector: InterestVector, space_id: str) -> vector_pb2.InterestVector:
    """Return the message, field by field: what the bytes are held to."""
    return vector_pb2.InterestVector(
        vector=vector_pb2.Vector(
            space_id=space_id, values=np.asarray(vector.vec_D, "<f4").tobytes()
        ),
        granularity=granularity_to_pb(vector.period.granularity),
        period=vector.period.name,
        period_start_time=instant_to_pb(vector.period.start),
        period_end_time=instant_to_pb(vector.period.end),
        event_count=vector.event_count,
        computed_time=instant_to_pb(vector.computed_time),
    )


@given(vector=vectors(), space_id=SPACES)
def test_one_interest_is_what_protobuf_writes(vector, space_id):
    answer = InterestAnswer(interest=pack(vector), basis=basis(space_id))
    expected = pb.GetInterestResponse(
        interest=plain(vector, space_id), basis=basis_to_pb(answer.basis)
    )
    assert interest_to_wire(answer) == expected.SerializeToString()


@given(
    found=st.lists(st.tuples(st.text(min_size=1, max_size=200), vectors()), max_size=5),
    missing=st.lists(st.text(max_size=9), max_size=3),
    space_id=SPACES,
)
def test_a_batch_is_what_protobuf_writes(found, missing, space_id):
    answer = BatchAnswer(
        found=tuple((user, pack(vector)) for user, vector in found),
        missing_user_ids=tuple(missing),
        basis=basis(space_id),
    )
    expected = pb.BatchGetInterestsResponse(
        interests=[
            pb.UserInterest(user_id=user, interest=plain(vector, space_id))
            for user, vector in found
        ],
        missing_user_ids=missing,
        basis=basis_to_pb(answer.basis),
    )
    assert batch_to_wire(answer) == expected.SerializeToString()


@given(
    kept=st.lists(vectors(), max_size=5),
    before=st.one_of(st.none(), st.integers(0, 9)),
    space_id=SPACES,
)
def test_a_trajectory_is_what_protobuf_writes(kept, before, space_id):
    answer = TrajectoryAnswer(
        granularity=Granularity.WEEK,
        interests=tuple(map(pack, kept)),
        next_before=before,
        basis=basis(space_id),
    )
    token = "" if before is None else trajectory_token(Granularity.WEEK, before)
    expected = pb.GetTrajectoryResponse(
        interests=[plain(vector, space_id) for vector in kept],
        next_page_token=token,
        basis=basis_to_pb(answer.basis),
    )
    assert trajectory_to_wire(answer) == expected.SerializeToString()
