"""What a user did in the last year, small enough to be stored: counts of items by week, and when.

It is the evidence of a portrait. It names items, not topics, so that new topics need no new rows.

Shape suffixes: E = events, U = users, C = cells (an item in a week, of one user).
"""

from dataclasses import dataclass

import numpy as np

from services.core.periods import ordinals_of_days
from services.core.pooling import I64
from services.core.schema import Granularity

# Weeks that count, up to the user's newest event.
WEEKS = 52
# Cells kept a user; older weeks go, whole, where there are more.
MOST_CELLS = 4_096

_HOUR_US = 3_600_000_000
_DAYS_A_WEEK, _HOURS_A_DAY = 7, 24
# The ordinal of a week counts from Monday 1969-12-29, three days before 1970.
_DAYS_BEFORE_1970 = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """One user's last year."""

    # Ascending; the items of the cells.
    item_ids: tuple[str, ...]
    # Rows of item_ids, week ordinals and counts, by week, then item.
    item_C: I64
    week_C: I64
    count_C: I64
    # Days with an event by weekday, Monday first, UTC.
    weekday_days: tuple[int, ...]
    # Hours with an event by hour of the day, UTC.
    hour_hours: tuple[int, ...]


NO_ACTIVITY = Activity(
    item_ids=(),
    item_C=np.zeros(0, np.int64),
    week_C=np.zeros(0, np.int64),
    count_C=np.zeros(0, np.int64),
    weekday_days=(0,) * _DAYS_A_WEEK,
    hour_hours=(0,) * _HOURS_A_DAY,
)


def make_activities(
    user_ix_E: I64, time_us_E: I64, item_ix_E: I64, item_ids: tuple[str, ...], user_count: int
) -> tuple[Activity, ...]:
    """Return one activity a user.

    Args:
        user_ix_E: user rows of the events that count (no bulk days).
        time_us_E: microseconds since 1970.
        item_ix_E: rows of `item_ids`; negative where the item is not known: left out.
        item_ids: ascending.
        user_count: users.
    """
    known_E = item_ix_E >= 0
    order = np.argsort(user_ix_E[known_E], kind="stable")
    user_E = user_ix_E[known_E][order]
    time_E, item_E = time_us_E[known_E][order], item_ix_E[known_E][order]
    start_U = np.searchsorted(user_E, np.arange(user_count + 1))
    return tuple(
        _activity(time_E[start:end], item_E[start:end], item_ids)
        for start, end in zip(start_U[:-1].tolist(), start_U[1:].tolist(), strict=True)
    )


def _activity(time_us_E: I64, item_E: I64, item_ids: tuple[str, ...]) -> Activity:
    if not len(time_us_E):
        return NO_ACTIVITY
    week_E = ordinals_of_days(Granularity.WEEK, time_us_E // (_HOURS_A_DAY * _HOUR_US))
    late_E = week_E > week_E.max() - WEEKS
    time_us_E, item_E, week_E = time_us_E[late_E], item_E[late_E], week_E[late_E]
    cell_C2, count_C = np.unique(np.stack([week_E, item_E], 1), axis=0, return_counts=True)
    if len(cell_C2) > MOST_CELLS:
        # Whole weeks go, so that what is left of a week is not a part of it; the newest stays.
        oldest = cell_C2[-MOST_CELLS, 0] + (cell_C2[-MOST_CELLS - 1, 0] == cell_C2[-MOST_CELLS, 0])
        kept_C = cell_C2[:, 0] >= min(oldest, cell_C2[-1, 0])
        cell_C2, count_C = cell_C2[kept_C], count_C[kept_C]
        time_us_E = time_us_E[week_E >= cell_C2[0, 0]]
    used, item_C = np.unique(cell_C2[:, 1], return_inverse=True)
    hours = np.unique(time_us_E // _HOUR_US)
    days = np.unique(hours // _HOURS_A_DAY)
    weekday = (days + _DAYS_BEFORE_1970) % _DAYS_A_WEEK
    return Activity(
        item_ids=tuple(item_ids[row] for row in used.tolist()),
        item_C=item_C.astype(np.int64),
        week_C=cell_C2[:, 0],
        count_C=count_C.astype(np.int64),
        weekday_days=tuple(np.bincount(weekday, minlength=_DAYS_A_WEEK).tolist()),
        hour_hours=tuple(np.bincount(hours % _HOURS_A_DAY, minlength=_HOURS_A_DAY).tolist()),
    )
