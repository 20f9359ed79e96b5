"""From scores to a list that is varied and tries something: diversity and exploration.

Diversity is maximal marginal relevance (Carbonell & Goldstein 1998): each next item maximises

    (1 - strength) * score scaled to [0, 1] - strength * max(0, cosine to the nearest item chosen)

over the best POOL_FACTOR * k items. Exploration gives a share of the places to items that the user
never had, drawn evenly from those nearest to the interest vector with popularity left out: so that
items which nobody had yet are seen by those who may want them.

Shape suffixes: N = items, K = items kept, P = pool, D = width.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import I64
from services.core.ranking import NEVER, top_items
from services.core.records import F32

# Items that diversity chooses from, for each place.
POOL_FACTOR = 5
# Items that exploration draws from, for each place it has.
EXPLORED_FACTOR = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Variety:
    """How a list departs from the plain order of scores."""

    # Strength of diversity, in [0, 1]; 0 is the order of scores.
    diversity: float = 0.0
    # Share of places given to exploration, in [0, 1].
    exploration_share: float = 0.0
    # What the draw depends on: the same key, the same items.
    exploration_key: str = ""


def diverse_items(score_N: F32, items_ND: F32, k: int, strength: float) -> I64:
    """Return rows of `k` items by maximal marginal relevance, in the order chosen.

    Args:
        score_N: scores; -inf is never chosen.
        items_ND: unit-norm item vectors.
        k: how many at most.
        strength: in [0, 1]; 0 is top_items.
    """
    if strength <= 0.0 or k <= 1:
        return top_items(score_N, k)
    pool_P = top_items(score_N, k * POOL_FACTOR)
    if not len(pool_P):
        return pool_P
    gain_P = score_N[pool_P].astype(np.float64)
    gain_P = (1.0 - strength) * (gain_P - gain_P[-1]) / max(gain_P[0] - gain_P[-1], 1e-12)
    vectors_PD = np.asarray(items_ND[pool_P])
    nearest_P = np.zeros(len(pool_P))
    chosen: list[int] = []
    for _ in range(min(k, len(pool_P))):
        # argmax takes the first of equals: the better score, then catalogue order.
        place = int(np.argmax(gain_P - strength * nearest_P))
        chosen.append(place)
        gain_P[place] = NEVER
        nearest_P = np.maximum(nearest_P, vectors_PD @ vectors_PD[place])
    return pool_P[chosen]


def explored_places(k: int, share: float) -> I64:
    """Return which of `k` places exploration has, evenly spread; the first place is the last to go."""
    count = int(np.floor(share * k + 0.5))
    return np.floor((np.arange(count) + 1) * k / max(count, 1)).astype(np.int64) - 1


def with_exploration(
    row_K: I64, interest_N: F32, open_N: NDArray[np.bool_], variety: Variety
) -> tuple[I64, NDArray[np.bool_]]:
    """Give some places of a list to items that are near the user's interest and new to them.

    Args:
        row_K: the list, best first.
        interest_N: the interest part of every item.
        open_N: which items exploration may draw: allowed ones that the user never had.
        variety: how many, and the key of the draw.

    Returns:
        row_K: the new list, as long as before.
        is_explored_K: which places were drawn. Fewer where fewer items are left.
    """
    is_explored_K = np.zeros(len(row_K), bool)
    places = explored_places(len(row_K), variety.exploration_share)
    if not len(places):
        return row_K, is_explored_K
    kept_K = row_K[: len(row_K) - len(places)]
    left_N = open_N.copy()
    left_N[kept_K] = False
    pool_P = top_items(
        np.where(left_N, interest_N, np.float32(NEVER)), EXPLORED_FACTOR * len(places)
    )
    places = places[: len(pool_P)]
    if not len(places):
        return row_K, is_explored_K
    seed = hashlib.sha256(variety.exploration_key.encode()).digest()[:8]
    rng = np.random.default_rng(int.from_bytes(seed, "little"))
    drawn = pool_P[rng.choice(len(pool_P), len(places), replace=False)]
    is_explored_K[places] = True
    mixed_K = np.empty(len(row_K), np.int64)
    mixed_K[places] = drawn
    # What keeps its place keeps its order; an item that was drawn does not come twice.
    rest = row_K[~np.isin(row_K, drawn)]
    mixed_K[~is_explored_K] = rest[: len(row_K) - len(places)]
    return mixed_K, is_explored_K


def novelty(row_K: I64, had_R: I64, items_ND: F32) -> F32:
    """Return 1 - cosine to the nearest item the user had, in [0, 1]; 1 where they had none."""
    if not len(had_R) or not len(row_K):
        return np.ones(len(row_K), np.float32)
    cosine_KR = np.asarray(items_ND[row_K]) @ np.asarray(items_ND[had_R]).T
    found_K: F32 = np.clip(1.0 - cosine_KR.max(axis=1), 0.0, 1.0).astype(np.float32)
    found_K[np.isin(row_K, had_R)] = 0.0
    return found_K
