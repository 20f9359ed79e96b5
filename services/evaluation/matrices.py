"""Events as sparse matrices.

Shape suffixes: U = users, N = items, E = events.
"""

from functools import lru_cache

import numpy as np
from scipy import sparse

from services.core.dataset import Dataset
from services.core.pooling import DAY_S, I64
from services.core.records import F32


def counts(past: Dataset) -> sparse.csr_matrix:
    """Return events of every (user, item) [U, N]."""
    shape = (past.user_count, past.item_count)
    return sparse.csr_matrix(
        (np.ones(past.event_count), (past.user_ix_E, past.item_ix_E)), shape=shape
    )


def incidence(past: Dataset) -> sparse.csr_matrix:
    """Return 1 for every (user, item) that has an event [U, N]."""
    matrix = counts(past)
    matrix.data[:] = 1.0
    return matrix


def decayed_periods(past: Dataset, half_life: float) -> sparse.csr_matrix:
    """Sum 2 ** (-age / half_life) over the distinct periods in which a user had an item [U, N].

    Ages count from the newest period with an event; an infinite half-life counts periods.
    """
    user, item, age = _had_in_periods(_Same(past))
    weight = np.exp2(-age / half_life)
    return sparse.csr_matrix((weight, (user, item)), shape=(past.user_count, past.item_count))


class _Same:
    """A dataset as a key: the same object, not equal events."""

    def __init__(self, data: Dataset) -> None:
        self.data = data

    def __hash__(self) -> int:
        return id(self.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.data is self.data


# Every constant of every neighbour method asks it of the same few origins.
@lru_cache(maxsize=8)
def _had_in_periods(key: _Same) -> tuple[I64, I64, I64]:
    """Return user, item and age of every distinct (user, item, period)."""
    past = key.data
    periods = int(past.period_E.max(initial=0)) + 1
    cell_E = past.user_ix_E * past.item_count + past.item_ix_E
    cell, period = np.divmod(distinct(cell_E * periods + past.period_E), periods)
    user, item = np.divmod(cell, past.item_count)
    return user, item, periods - 1 - period


def distinct(key_E: I64) -> I64:
    """Return distinct keys, ascending; numpy's own way hashes, at twenty times the cost."""
    ordered_E = np.sort(key_E)
    distinct_E: I64 = ordered_E[np.diff(ordered_E, prepend=ordered_E[:1] - 1) != 0]
    return distinct_E


def recent_share(past: Dataset, now: float, window_days: float) -> F32:
    """Return each item's events of the last `window_days` over the most that an item has."""
    recent = past.between(now - window_days * DAY_S, now)
    count_N = np.bincount(recent.item_ix_E, minlength=past.item_count)
    share_N: F32 = (count_N / max(count_N.max(), 1)).astype(np.float32)
    return share_N
