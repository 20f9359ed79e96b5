"""Many users' trajectories on one grid of periods, gaps marked: the input of every forecaster.

Shape suffixes: U = users, T = periods (the last column is the last closed period), D = width,
P = (user, period) vectors, L = one user's vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import I64
from services.core.records import F32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryBatch:
    """Vectors by user and period. A gap has mask False, a zero vector and count 0."""

    vec_UTD: F32
    mask_UT: NDArray[np.bool_]
    # Events of the period.
    count_UT: I64

    def until(self, columns: int) -> "TrajectoryBatch":
        """Return the first `columns` periods: what was known when the last of them closed."""
        return TrajectoryBatch(
            vec_UTD=self.vec_UTD[:, :columns],
            mask_UT=self.mask_UT[:, :columns],
            count_UT=self.count_UT[:, :columns],
        )

    def users(self, rows: I64) -> "TrajectoryBatch":
        """Return some users, in the order of `rows`."""
        return TrajectoryBatch(
            vec_UTD=self.vec_UTD[rows], mask_UT=self.mask_UT[rows], count_UT=self.count_UT[rows]
        )

    def gap_U(self) -> I64:  # noqa: N802 - a shape suffix
        """Return periods since each user's last active one; T for a user without any."""
        periods = self.mask_UT.shape[1]
        last_U = np.where(self.mask_UT, np.arange(periods), -1).max(axis=1, initial=-1)
        return np.asarray(periods - 1 - last_U, np.int64)


def grid(
    user_ix_P: I64, period_P: I64, vec_PD: F32, count_P: I64, *, users: int, first: int, last: int
) -> TrajectoryBatch:
    """Lay vectors on a grid of the periods first..last, both included; others are left out.

    Args:
        user_ix_P: rows in [0, users); a user and period come once.
        period_P: ordinals.
        vec_PD: unit-norm vectors.
        count_P: events.
        users: U.
        first: ordinal of the first column.
        last: ordinal of the last column.
    """
    kept = (period_P >= first) & (period_P <= last)
    cell = (user_ix_P[kept], period_P[kept] - first)
    shape = (users, max(last - first + 1, 0))
    vec_UTD = np.zeros((*shape, vec_PD.shape[1]), np.float32)
    mask_UT = np.zeros(shape, bool)
    count_UT = np.zeros(shape, np.int64)
    vec_UTD[cell], mask_UT[cell], count_UT[cell] = vec_PD[kept], True, count_P[kept]
    return TrajectoryBatch(vec_UTD=vec_UTD, mask_UT=mask_UT, count_UT=count_UT)


def build_batch(
    trajectories: Sequence[tuple[I64, F32, I64]], last_periods: Sequence[int]
) -> TrajectoryBatch:
    """Lay ragged trajectories on one grid; each user's last column is their own last period.

    Args:
        trajectories: per user (period_L ascending, vec_LD, count_L); not empty for all of them.
        last_periods: per user, the ordinal of the last closed period; later vectors are left out.
    """
    spans = [
        last - int(periods[0]) + 1
        for (periods, _, _), last in zip(trajectories, last_periods, strict=True)
        if len(periods)
    ]
    shape = (len(trajectories), max([1, *spans]))
    width = next((vec.shape[1] for _, vec, _ in trajectories if len(vec)), 0)
    vec_UTD = np.zeros((*shape, width), np.float32)
    mask_UT = np.zeros(shape, bool)
    count_UT = np.zeros(shape, np.int64)
    for u, ((periods, vec_LD, count_L), last) in enumerate(
        zip(trajectories, last_periods, strict=True)
    ):
        column_L = np.asarray(periods, np.int64) - last + shape[1] - 1
        kept = column_L < shape[1]
        columns = column_L[kept]
        vec_UTD[u, columns] = vec_LD[kept]
        mask_UT[u, columns], count_UT[u, columns] = True, np.asarray(count_L)[kept]
    return TrajectoryBatch(vec_UTD=vec_UTD, mask_UT=mask_UT, count_UT=count_UT)


def next_mean(batch: TrajectoryBatch, close: int, periods: int) -> tuple[F32, I64]:
    """Return the mean of each user's vectors over the next `periods` periods, and who has any.

    Active periods count alike; the mean is not normalised.
    """
    mask_UA = batch.mask_UT[:, close : close + periods]
    vec_UAD = batch.vec_UTD[:, close : close + periods] * mask_UA[:, :, None]
    active_U = mask_UA.sum(axis=1)
    mean_UD: F32 = (vec_UAD.sum(axis=1) / np.maximum(active_U, 1)[:, None]).astype(np.float32)
    return mean_UD, np.flatnonzero(active_U)
