"""How much of a period's vector can be foretold at all: the ceiling of a forecast's R2.

What a user does in a period is a sample of what they are interested in then, so part of its vector
is chance. Split a period's items at random in two halves, pool each: the halves share the interest
and not the chance, so their correlation r is the reliability of half a period, and by the
Spearman-Brown formula 2 r / (1 + r) that of the whole. No forecast explains more of the variance.

The mean of several periods is more reliable, and its ceiling is higher.

Shape suffixes: U = users, T = periods, D = width, S = (user, close) samples.
"""

import numpy as np

from services.core.dataset import Dataset, vector_grid
from services.core.pooling import I64, PoolingConfig
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch, next_mean
from services.evaluation.forecast import AGGREGATE
from services.evaluation.protocol import Split


def forecast_ceiling(
    data: Dataset, split: Split, pooling: PoolingConfig, items_ND: F32, *, seed: int
) -> dict[str, float | None]:
    """Return the ceilings of R2 over the test block: `period`, and `mean4` of AGGREGATE periods.

    None where no user has two items in a period. Users without a second item are left out.

    Args:
        data: all events.
        split: where the origins stand.
        pooling: makes vectors of periods.
        items_ND: vectors of all items, of any space.
        seed: of the halves.
    """
    block = data.where((data.period_E >= split.origins[0]) & (data.period_E <= split.last))
    cell_E = (block.user_ix_E * (split.last + 1) + block.period_E) * block.item_count
    cells, cell_row_E = np.unique(cell_E + block.item_ix_E, return_inverse=True)
    is_first_E = _halves(cells // block.item_count, seed)[cell_row_E]
    one, two = (
        vector_grid(block.where(mask_E), items_ND, pooling, first=split.origins[0], last=split.last)
        for mask_E in (is_first_E, ~is_first_E)
    )
    both_UT = one.mask_UT & two.mask_UT
    centre_D = np.concatenate([one.vec_UTD[both_UT], two.vec_UTD[both_UT]]).mean(axis=0)
    periods = both_UT.shape[1]
    wholes = [_means(one, two, both_UT, t) for t in range(0, periods - AGGREGATE + 1, AGGREGATE)]
    whole = None
    if wholes:
        first_SD, second_SD = (np.concatenate(side) for side in zip(*wholes, strict=True))
        whole = _reliability(first_SD, second_SD, centre_D)
    period = _reliability(one.vec_UTD[both_UT], two.vec_UTD[both_UT], centre_D)
    return {"period": period, f"mean{AGGREGATE}": whole}


def _halves(owner_C: I64, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mark half of each owner's cells at random; owners are ascending."""
    order = np.lexsort((np.random.default_rng(seed).random(len(owner_C)), owner_C))
    starts = np.flatnonzero(np.diff(owner_C, prepend=-1))
    place = np.arange(len(owner_C)) - np.repeat(starts, np.diff(np.append(starts, len(owner_C))))
    is_first = np.empty(len(owner_C), bool)
    is_first[order] = place % 2 == 0
    return is_first


def _means(
    one: TrajectoryBatch, two: TrajectoryBatch, both_UT: np.ndarray, close: int
) -> tuple[F32, F32]:
    """Return means of both halves over AGGREGATE periods, of the periods that have both."""
    means = []
    for half in (one, two):
        shared = TrajectoryBatch(vec_UTD=half.vec_UTD, mask_UT=both_UT, count_UT=half.count_UT)
        mean_UD, users = next_mean(shared, close, AGGREGATE)
        means.append(mean_UD[users])
    return means[0], means[1]


def _reliability(one_SD: F32, two_SD: F32, centre_D: F32) -> float | None:
    """Return the reliability of the whole from that of its halves."""
    if len(one_SD) < 2:
        return None
    a_SD, b_SD = one_SD.astype(np.float64) - centre_D, two_SD.astype(np.float64) - centre_D
    r = float((a_SD * b_SD).sum() / np.sqrt((a_SD**2).sum() * (b_SD**2).sum()))
    return 2.0 * r / (1.0 + r)
