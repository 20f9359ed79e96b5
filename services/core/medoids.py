"""Several interests of one period: medoids where one vector hides the second.

A period's items are parted around k of them, its medoids, so that the weighted cosine to the own
medoid is greatest: greedy starts, then swaps with the best item of each part until nothing moves.
k is the least for which a further medoid would win too little, or hold too little.
Medoids are items of the user, so a medoid is never a mean that nobody wants.

Shape suffixes: M = items of a period, D = width, K = medoids.
"""

from dataclasses import dataclass

import numpy as np

from services.core.pooling import F64, I64
from services.core.records import F32

MOST_MEDOIDS = 3
# A further medoid must win this share of 1 - the mean cosine to the one medoid,
LEAST_GAIN = 0.3
# this much of mean cosine,
LEAST_RISE = 0.05
# and hold this share of the weight: one stray event is no interest.
LEAST_SHARE = 0.15
_ROUNDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Medoids:
    """A period's interests, heaviest first."""

    # Rows of the given items.
    row_K: I64
    # Share of the period's weight, sums to 1.
    share_K: F64
    # Which of them each item belongs to.
    part_M: I64


def medoids(items_MD: F32, weight_M: F64) -> Medoids:
    """Return the interests of one period.

    Args:
        items_MD: unit-norm vectors of its items, at least one.
        weight_M: weights, > 0.
    """
    share_M = weight_M / weight_M.sum()
    cosine_MM = np.asarray(items_MD @ items_MD.T, np.float64)
    chosen = [_best(cosine_MM, share_M)]
    left = 1.0 - _value(chosen, cosine_MM, share_M)
    while len(chosen) < min(MOST_MEDOIDS, len(items_MD)):
        nearest_M = cosine_MM[:, chosen].max(axis=1)
        added = _best(np.maximum(cosine_MM, nearest_M[:, None]), share_M)
        more = _settled([*chosen, added], cosine_MM, share_M)
        won = _value(more, cosine_MM, share_M) - _value(chosen, cosine_MM, share_M)
        least = _shares(more, cosine_MM, share_M).min()
        if won < max(LEAST_GAIN * left, LEAST_RISE) or least < LEAST_SHARE:
            break
        chosen = more
    share_K = _shares(chosen, cosine_MM, share_M)
    order = np.argsort(-share_K, kind="stable")
    row_K = np.asarray(chosen, np.int64)[order]
    return Medoids(row_K=row_K, share_K=share_K[order], part_M=cosine_MM[:, row_K].argmax(axis=1))


def _best(cosine_MM: F64, share_M: F64) -> int:
    return int(np.argmax(share_M @ cosine_MM))


def _value(chosen: list[int], cosine_MM: F64, share_M: F64) -> float:
    return float(share_M @ cosine_MM[:, chosen].max(axis=1))


def _shares(chosen: list[int], cosine_MM: F64, share_M: F64) -> F64:
    own_M = cosine_MM[:, chosen].argmax(axis=1)
    share_K = np.zeros(len(chosen))
    np.add.at(share_K, own_M, share_M)
    return share_K


def _settled(chosen: list[int], cosine_MM: F64, share_M: F64) -> list[int]:
    """Swap each medoid with the best item of its part until nothing moves."""
    for _ in range(_ROUNDS):
        own_M = cosine_MM[:, chosen].argmax(axis=1)
        moved = []
        for place, row in enumerate(chosen):
            part = np.flatnonzero(own_M == place)
            inner = share_M[part] @ cosine_MM[np.ix_(part, part)] if len(part) else np.zeros(0)
            moved.append(int(part[np.argmax(inner)]) if len(part) else row)
        if moved == chosen:
            break
        chosen = moved
    return chosen
