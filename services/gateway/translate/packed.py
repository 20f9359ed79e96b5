"""Packed interests as they go over the wire: the bytes of InterestVector, without a message for each.

protobuf joins messages by joining their bytes, so an answer is its interests' bytes and then the message of the
rest. `interests.py` has the plain way; tests hold both equal, byte for byte.
"""

from functools import lru_cache

from driftline.v1 import vector_pb2

from services.core.packed import InterestFacts, PackedInterest
from services.gateway.translate.instants import granularity_to_pb, instant_to_pb
from services.store.wire import varint

# Tags, one for each number of a field that holds bytes: Vector and InterestVector have no larger ones.
_FIRST, _SECOND = b"\x0a", b"\x12"


def interest_bytes(row: PackedInterest, space_id: str) -> bytes:
    """Return an interest as a serialized InterestVector."""
    values, event_count, facts = row
    return b"".join(
        (
            _vector_head(space_id, len(values)),
            values,
            _period_bytes(facts),
            _count_bytes(event_count),
            _time_bytes(facts),
        )
    )


def first_field(content: bytes) -> bytes:
    """Return a message, a text or bytes as field 1 of the message around it."""
    return _FIRST + _length(len(content)) + content


def user_bytes(user_id: str, row: PackedInterest, space_id: str) -> bytes:
    """Return an interest with whose it is as a serialized UserInterest."""
    interest = interest_bytes(row, space_id)
    return first_field(user_id.encode()) + _SECOND + _length(len(interest)) + interest


@lru_cache(maxsize=256)
def _vector_head(space_id: str, size: int) -> bytes:
    """Return all that comes before a vector's components: field 1 of InterestVector up to there."""
    space = space_id.encode()
    head = (first_field(space) if space else b"") + (_SECOND + varint(size) if size else b"")
    return _FIRST + varint(len(head) + size) + head


@lru_cache(maxsize=4096)
def _period_bytes(facts: InterestFacts) -> bytes:
    period = facts.period
    return vector_pb2.InterestVector(
        granularity=granularity_to_pb(period.granularity),
        period=period.name,
        period_start_time=instant_to_pb(period.start),
        period_end_time=instant_to_pb(period.end),
    ).SerializeToString()


@lru_cache(maxsize=4096)
def _count_bytes(event_count: int) -> bytes:
    return vector_pb2.InterestVector(event_count=event_count).SerializeToString()


@lru_cache(maxsize=4096)
def _time_bytes(facts: InterestFacts) -> bytes:
    return vector_pb2.InterestVector(
        computed_time=instant_to_pb(facts.computed_time)
    ).SerializeToString()


_length = lru_cache(maxsize=4096)(varint)
