"""Stored values of interest views, as they come from a store, to packed interests.

Values are bytes, all of them or, where there is no row, none.
"""

from functools import lru_cache
from typing import Any

from services.core import schema as names
from services.core.packed import InterestFacts, PackedInterest, shared_facts
from services.core.periods import period_at, period_from_name
from services.core.schema import Granularity
from services.store.wire import decode_timestamp, decode_value, float_bytes

# What is read of interest_{g} and of interest_{g}_history; the row's time comes last.
INTEREST = (names.VEC, names.EVENT_COUNT, names.MODEL_VERSION, names.PERIOD_START)
HISTORY = (names.VECS, names.EVENT_COUNTS, names.MODEL_VERSION, names.PERIODS)


def interest_packed(
    values: list[Any], granularity: Granularity, space_id: str
) -> PackedInterest | None:
    """Return the interest in the values of `INTEREST` and a time; None where there is no time."""
    vec, count, version, start, time = values
    if time is None:
        return None
    facts = _facts(granularity, space_id, version, start, time)
    return PackedInterest(float_bytes(vec), decode_value(count), facts)


def history_packed(
    values: list[Any], granularity: Granularity, space_id: str
) -> list[PackedInterest]:
    """Return the interests in the values of `HISTORY` and a time, oldest first; none where there is no time."""
    vecs, counts, version, periods, time = values
    if time is None:
        return []
    packed, facts_P = (
        float_bytes(vecs),
        _facts_of_all(granularity, space_id, version, periods, time),
    )
    size = len(packed) // len(facts_P)
    return [
        PackedInterest(packed[row * size : (row + 1) * size], count, facts)
        for row, (count, facts) in enumerate(zip(decode_value(counts), facts_P, strict=True))
    ]


# A publish writes the same few for many users.
@lru_cache(maxsize=4096)
def _facts(
    granularity: Granularity, space_id: str, version: bytes, start: bytes, time: bytes
) -> InterestFacts:
    period = period_at(granularity, decode_value(start))
    return shared_facts(period, decode_value(version), decode_timestamp(time), space_id)


@lru_cache(maxsize=1024)
def _facts_of_all(
    granularity: Granularity, space_id: str, version: bytes, periods: bytes, time: bytes
) -> tuple[InterestFacts, ...]:
    model_version, computed_time = decode_value(version), decode_timestamp(time)
    return tuple(
        shared_facts(period_from_name(granularity, name), model_version, computed_time, space_id)
        for name in decode_value(periods)
    )
