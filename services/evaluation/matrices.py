"""Events as sparse matrices.

Shape suffixes: U = users, N = items, E = events.
"""

import numpy as np
from scipy import sparse

from services.core.dataset import Dataset
from services.core.pooling import DAY_S
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
    periods = int(past.period_E.max(initial=0)) + 1
    cell_E = past.user_ix_E * past.item_count + past.item_ix_E
    key = np.unique(cell_E * periods + past.period_E)
    cell, period = np.divmod(key, periods)
    weight = np.exp2(-(periods - 1 - period) / half_life)
    user, item = np.divmod(cell, past.item_count)
    return sparse.csr_matrix((weight, (user, item)), shape=(past.user_count, past.item_count))


def recent_share(past: Dataset, now: float, window_days: float) -> F32:
    """Return each item's events of the last `window_days` over the most that an item has."""
    recent = past.between(now - window_days * DAY_S, now)
    count_N = np.bincount(recent.item_ix_E, minlength=past.item_count)
    share_N: F32 = (count_N / max(count_N.max(), 1)).astype(np.float32)
    return share_N
