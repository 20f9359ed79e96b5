"""Interests whose components are not looked at: most reads only pass on what is stored."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from services.core.periods import Period
from services.core.records import InterestVector


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InterestFacts:
    """What many users' interests share. Compared by identity, so that what is made of it can be kept by it."""

    period: Period
    model_version: str
    computed_time: datetime
    space_id: str


class PackedInterest(NamedTuple):
    """An InterestVector less its `known_time`. A tuple: a batch makes a hundred."""

    # The vector: little-endian float32.
    values: bytes
    # Events that made it, at least 1.
    event_count: int
    facts: InterestFacts


def pack(vector: InterestVector) -> PackedInterest:
    """Return an interest, packed."""
    return PackedInterest(
        # Rows in order whatever the layout.
        np.asarray(vector.vec_D, "<f4").tobytes(),
        vector.event_count,
        shared_facts(vector.period, vector.model_version, vector.computed_time, vector.space_id),
    )


@lru_cache(maxsize=4096)
def shared_facts(
    period: Period, model_version: str, computed_time: datetime, space_id: str
) -> InterestFacts:
    """Return the facts, the same object for the same facts."""
    return InterestFacts(
        period=period,
        model_version=model_version,
        computed_time=computed_time,
        space_id=space_id,
    )
