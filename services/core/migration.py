"""Is a new space ready to take the place of the old one: what it covers, and what it finds.

Shape suffixes: U = users, N = items, D = width, K = items looked at, L = items a user had next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.core.metrics import Interval, bootstrap_mean
from services.core.pooling import F64, I64
from services.core.records import F32
from services.core.top import top_rows

# Items looked at, nearest first.
RECALL_ITEMS = 50
# Of what the old space has, the new one must have at least this share.
LEAST_COVERAGE = 0.999
# Bounds the memory of scores.
USERS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallComparison:
    """Recall of what users had next, by the vector of the time before, in both spaces."""

    users: int
    old: float
    new: float
    # New less old, users drawn whole and alike for both.
    gain: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a migration found before its switch."""

    # Share of what the old space has that the new one has too: vectors by granularity, forecasts by
    # granularity, items. 1 where the old one has nothing.
    coverage: dict[str, float]
    # None where nobody had a vector before the held-out period and an item in it.
    recall: RecallComparison | None
    # ISO name of the period whose items were looked for.
    held_out: str
    # False where one of the models was trained on it: the comparison is then no proof.
    is_unseen: bool


def coverage(old: set[tuple[str, ...]], new: set[tuple[str, ...]]) -> float:
    """Return the share of the old keys that the new ones have; 1 where there are none."""
    return len(old & new) / len(old) if old else 1.0


def next_recall(
    interest_UD: F32, items_ND: F32, next_UL: Sequence[I64], k: int = RECALL_ITEMS
) -> F64:
    """Return each user's recall of what they had next among the `k` items nearest to the vector.

    Args:
        interest_UD: unit-norm vectors of before.
        items_ND: unit-norm item vectors of the same space.
        next_UL: rows of the items that each user had next, at least one, without repeats.
        k: how many of the nearest are looked at.
    """
    recall_U = np.zeros(len(interest_UD))
    for start in range(0, len(interest_UD), USERS_AT_ONCE):
        score_UN = interest_UD[start : start + USERS_AT_ONCE] @ items_ND.T
        for offset, near_K in enumerate(top_rows(score_UN, k)):
            truth_L = next_UL[start + offset]
            found = np.isin(truth_L, near_K, assume_unique=True).sum()
            recall_U[start + offset] = found / min(k, len(truth_L))
    return recall_U


def compare_recall(old_U: F64, new_U: F64, rng: np.random.Generator) -> RecallComparison | None:
    """Compare recall of the same users in two spaces, paired; None for nobody."""
    if not len(old_U):
        return None
    gain = bootstrap_mean(new_U - old_U, np.arange(len(old_U)), rng)
    return RecallComparison(
        users=len(old_U), old=float(old_U.mean()), new=float(new_U.mean()), gain=gain
    )


def problems_of(found: Verification) -> list[str]:
    """Return why the switch must not happen, in words; empty where it may."""
    said = [
        f"only {share:.2%} of {name} of the old space are in the new one"
        for name, share in found.coverage.items()
        if share < LEAST_COVERAGE
    ]
    recall = found.recall
    if recall is not None and recall.gain.high < 0:
        said.append(
            f"recall at {RECALL_ITEMS} of {found.held_out} falls from {recall.old:.4f} to "
            f"{recall.new:.4f} ({recall.gain.low:.4f} to {recall.gain.high:.4f}, paired)"
        )
    return said
