"""What detection is compared with: a z-score on category shares, and `ruptures`.

zscore     a category's share of the user's events against its own running mean, in standard
           deviations of (its running variance + p (1 - p) / n); the highest category counts. Online.
ruptures   KernelCPD (Celisse et al. 2018) on the user's active periods, with all of them at hand:
           it sees the future. A burst is a segment of at most LONGEST active periods between two
           change points, or the last one.

Each raises no more alarms on users as they are than asked, by the same users as ours; of the
settings in `RUPTURES`, those users' planted bursts choose. Neither knows types: all is personal.

Shape suffixes: U = users, T = periods, G = categories, D = width, K = components.
"""

from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise

import numpy as np

from services.core.burst_state import Bursts, BurstType
from services.core.dataset import Dataset
from services.core.pooling import F64, I64
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch

# Part of a new period in the running mean of shares, at least.
KEEP = 0.05
LONGEST = 8
# Kernel and principal components.
RUPTURES = (("linear", 8), ("linear", 32), ("rbf", 8), ("rbf", 32), ("cosine", 32))
STEPS = 9


def category_shares(
    data: Dataset, group_N: I64, first: int, periods: int
) -> tuple[F32, I64]:  # fmt: skip
    """Return shares of the events with a category [U, T, G], and how many those are [U, T]."""
    group_E, column_E = group_N[data.item_ix_E], data.period_E - first
    kept = (group_E >= 0) & (column_E >= 0) & (column_E < periods)
    groups = int(group_N.max()) + 1
    cell = (data.user_ix_E[kept] * periods + column_E[kept]) * groups + group_E[kept]
    shape = (data.user_count, periods, groups)
    count_UTG = np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape).astype(np.float32)
    events_UT = count_UTG.sum(axis=2)
    count_UTG /= np.maximum(events_UT, 1.0)[:, :, None]
    return count_UTG, events_UT.astype(np.int64)


def zscore(share_UTG: F32, events_UT: I64, threshold: float) -> Bursts:
    """Return what passes the threshold; a burst lasts while its category stays above half of it."""
    users, periods, groups = share_UTG.shape
    usual_G = share_UTG[events_UT > 0].mean(axis=0) if events_UT.any() else np.zeros(groups)
    mean_UG = np.tile(usual_G.astype(np.float64), (users, 1))
    variance_UG, seen_U = np.zeros((users, groups)), np.zeros(users)
    lasting_U = np.full(users, -1)
    onset = np.zeros((users, periods), bool)
    topic = np.full((users, periods), -1)
    for t in range(periods):
        active = np.flatnonzero(events_UT[:, t])
        mean, n = mean_UG[active], events_UT[active, t][:, None]
        off = share_UTG[active, t] - mean
        level = np.maximum(mean, 1.0 / (20.0 * groups))
        z = off / np.sqrt(variance_UG[active] + level * (1 - level) / n)
        row, best = np.arange(len(active)), z.argmax(axis=1)
        was = lasting_U[active]
        goes_on = (was >= 0) & (z[row, np.maximum(was, 0)] > 0.5 * threshold)
        alarm = ~goes_on & (z[row, best] > threshold) & (seen_U[active] >= 3)
        now = np.where(goes_on, was, np.where(alarm, best, -1))
        onset[active, t], topic[active, t], lasting_U[active] = alarm, now, now
        rate = np.maximum(1.0 / (seen_U[active] + 2.0), KEEP)[:, None] * (now < 0)[:, None]
        mean_UG[active] += rate * off
        variance_UG[active] = (1 - rate) * (variance_UG[active] + rate * off**2)
        seen_U[active] += 1
    return _personal(onset, topic)


def has_ruptures() -> bool:
    """Tell whether the library is installed (extra `dev`)."""
    return find_spec("ruptures") is not None


def signals(batch: TrajectoryBatch, centre_D: F32, axes_DK: F32) -> list[F64]:
    """Return each user's active periods along principal components."""
    return [
        ((batch.vec_UTD[user, batch.mask_UT[user]] - centre_D) @ axes_DK).astype(np.float64)
        for user in range(len(batch.mask_UT))
    ]


def ruptures_bursts(
    batch: TrajectoryBatch, signal_U: list[F64], kernel: str, penalty: float
) -> Bursts:  # fmt: skip
    """Return short segments between change points of each user."""
    import ruptures

    onset = np.zeros(batch.mask_UT.shape, bool)
    topic = np.full(batch.mask_UT.shape, -1)
    for user, signal in enumerate(signal_U):
        if len(signal) < 4:
            continue
        ends = ruptures.KernelCPD(kernel=kernel, min_size=1).fit_predict(signal, pen=penalty)
        column = np.flatnonzero(batch.mask_UT[user])
        for start, end in pairwise(ends):
            if end - start <= LONGEST and not topic[user, column[max(start - 1, 0)]] >= 0:
                onset[user, column[start]] = True
                topic[user, column[start:end]] = 0
    return _personal(onset, topic)


def quietest(
    detect: Callable[[float], Bursts], is_quiet: Callable[[Bursts], bool], low: float, high: float
) -> float:
    """Return the lowest threshold whose alarms are few enough, by halving an interval."""
    for _ in range(STEPS):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if is_quiet(detect(middle)) else (middle, high)
    return high


def _personal(onset: np.ndarray, topic: I64) -> Bursts:
    kind = np.where(topic >= 0, int(BurstType.PERSONAL), int(BurstType.NONE))
    return Bursts(kind=kind, onset=onset, topic=topic, share=np.zeros(topic.shape))
