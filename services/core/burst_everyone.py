"""Bursts of everyone: told from the sums of all users, so that users are followed bucket by bucket.

A user's state does not depend on them; only what a burst is called does, and that is said on read.

Shape suffixes: G = topics.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from services.core.burst_state import BurstModel, BurstType, Moved, PopulationState
from services.core.bursts import advance_population, new_population
from services.core.periods import Period


@dataclass(frozen=True, slots=True, kw_only=True)
class PastBurst:
    """One burst of a user, as it is stored."""

    kind: BurstType
    first: Period
    last: Period
    # Row of the model's topics; -1 where it has none.
    topic: int
    # What the topic is called; empty where nobody knows.
    name: str
    # Largest share of a period's mass that it had, in [0, 1]; 0 where it has no topic.
    share: float
    # No active period has ended it.
    is_lasting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserBursts:
    """A user's last bursts, newest first."""

    bursts: tuple[PastBurst, ...]
    # Topics are rows of this model's.
    model_version: str
    # The close at which this became known.
    known_at: Period


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationBursts:
    """Topics that rose for everyone, by period; topics alike to one that rose are among them."""

    risen: Mapping[Period, Collection[int]]
    model_version: str


def sum_moved(parts: Iterable[Mapping[int, Moved]]) -> dict[int, Moved]:
    """Return the sums of users by period, of buckets' sums in a fixed order."""
    total: dict[int, Moved] = {}
    for part in parts:
        for period, moved in part.items():
            total[period] = total[period] + moved if period in total else moved
    return dict(sorted(total.items()))


def follow_population(
    model: BurstModel, moved: Mapping[int, Moved]
) -> tuple[PopulationState, dict[int, tuple[int, ...]]]:
    """Return the state after all periods, and rows of the topics that rose in each where any did.

    Args:
        model: what was fitted.
        moved: sums of all users by period, oldest first.
    """
    state, risen = new_population(model), {}
    for period, sums in moved.items():
        state, risen_G = advance_population(state, sums)
        if risen_G.any():
            alike_G = (model.alike_GG & risen_G).any(axis=1)
            risen[period] = tuple(np.flatnonzero(alike_G).tolist())
    return state, risen


def named_bursts(known: UserBursts, everyone: PopulationBursts | None) -> tuple[PastBurst, ...]:
    """Return a user's bursts, those that everyone had called so."""
    if everyone is None or everyone.model_version != known.model_version:
        return known.bursts
    return tuple(
        replace(one, kind=BurstType.POPULATION)
        if one.kind is BurstType.PERSONAL and one.topic in everyone.risen.get(one.first, ())
        else one
        for one in known.bursts
    )
