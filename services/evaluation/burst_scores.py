"""Scores of detection: alarms against planted bursts, figures with intervals over users.

An alarm finds a burst from its onset to one period after its end; the first one counts, every
other alarm is false. Bursts that moved less than LEAST of the mass are not part of the goal: they
are no misses, their alarms not false, and their recall stands apart.

Shape suffixes: U = users, T = periods, C = counts, M = resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.core.burst_state import Bursts, BurstType
from services.core.pooling import F64, I64
from services.evaluation.planted_bursts import PlantedBurst

LEAST = 0.3
GRACE = 1
RESAMPLES = 500
TYPES = (BurstType.PERSONAL, BurstType.POPULATION, BurstType.SEASONAL, BurstType.AUTOMATED)
# Counts of a user: found, missed, false; then for each type true, missed, false.
_COUNTS = 3 + 3 * len(TYPES)

Row = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """What came of a method's alarms."""

    # Rows are `users`.
    count_UC: F64
    # Of found bursts: their user's row, and periods from onset to alarm.
    delay_user: I64
    delays: F64
    # By planted burst: whether it was found.
    is_found: tuple[bool, ...]
    # (user, column) of false alarms.
    false: tuple[tuple[int, int], ...]


def match(
    found: Bursts, planted: Sequence[PlantedBurst], users: I64, first: int
) -> Matched:  # fmt: skip
    """Match alarms from column `first` on with bursts; rows of `found` are all users."""
    row_of = {int(user): row for row, user in enumerate(users)}
    count_UC = np.zeros((len(users), _COUNTS))
    spent: set[tuple[int, int]] = set()
    is_found, delay_user, delays = [], [], []
    for burst in planted:
        row, type_at = row_of[burst.user], 3 + 3 * TYPES.index(burst.kind)
        onsets = [
            burst.onset + int(column)
            for column in np.flatnonzero(found.onset[burst.user, burst.onset : burst.end + GRACE])
        ]
        onsets = [column for column in onsets if (burst.user, column) not in spent]
        is_found.append(bool(onsets))
        is_asked = burst.size >= LEAST
        if not is_asked:
            spent.update((burst.user, column) for column in onsets)
            continue
        kind = found.kind[burst.user, onsets[0]] if onsets else BurstType.NONE
        count_UC[row, 0 if onsets else 1] += 1
        count_UC[row, type_at + (0 if kind == burst.kind else 1)] += 1
        if onsets:
            spent.add((burst.user, onsets[0]))
            delay_user.append(row)
            delays.append(float(onsets[0] - burst.onset))
            if kind != burst.kind:
                count_UC[row, 3 + 3 * TYPES.index(BurstType(kind)) + 2] += 1
    false = []
    for user, column in zip(*np.nonzero(found.onset[users, first:]), strict=True):
        cell = (int(users[user]), int(column) + first)
        if cell not in spent:
            false.append(cell)
            count_UC[user, 2] += 1
            count_UC[user, 3 + 3 * TYPES.index(BurstType(found.kind[cell])) + 2] += 1
    return Matched(
        count_UC=count_UC, delay_user=np.array(delay_user, np.int64), delays=np.array(delays),
        is_found=tuple(is_found), false=tuple(false),
    )  # fmt: skip


def scores(found: Matched, years_a_user: float, rng: np.random.Generator) -> Row:
    """Return F1, precision, recall, false alarms a user-year, median delay and type macro-F1."""
    users = len(found.count_UC)
    drawn_MU = rng.multinomial(users, np.full(users, 1.0 / users), size=RESAMPLES)
    point = _figures(found.count_UC.sum(axis=0)[None], users * years_a_user)
    resampled = _figures(drawn_MU @ found.count_UC, users * years_a_user)
    row: Row = {}
    for name, value in point.items():
        low, high = np.quantile(resampled[name], [0.025, 0.975])
        row |= {name: float(value[0]), f"{name}_ci": [float(low), float(high)]}
    medians = [
        float(np.median(np.repeat(found.delays, drawn_U[found.delay_user])))
        for drawn_U in drawn_MU
        if len(found.delays) and drawn_U[found.delay_user].sum()
    ]
    row["median_delay_periods"] = float(np.median(found.delays)) if len(found.delays) else None
    row["median_delay_periods_ci"] = (
        [float(edge) for edge in np.quantile(medians, [0.025, 0.975])] if medians else None
    )
    return row


def f1(found: Matched) -> float:
    """Return the F1 alone."""
    return float(_figures(found.count_UC.sum(axis=0)[None], 1.0)["f1"][0])


def by_part(found: Matched, planted: Sequence[PlantedBurst]) -> dict[str, dict[str, list[float]]]:
    """Return {part: {name: [recall, bursts]}} by size, length, type, and events of a period."""
    hit = np.array(found.is_found, bool)
    size = np.array([burst.size for burst in planted])
    length = np.array([burst.end - burst.onset for burst in planted])
    events = np.array([burst.events for burst in planted])
    kind = np.array([burst.kind for burst in planted])
    moves = kind != BurstType.AUTOMATED
    asked = moves & (size >= LEAST)
    parts: dict[str, dict[str, np.ndarray]] = {
        "share moved": {
            f"{low:.0%} to {high:.0%}": moves & (size >= low) & (size < high)
            for low, high in ((0.0, 0.3), (0.3, 0.45), (0.45, 0.6), (0.6, 0.8), (0.8, 1.01))
        },
        "periods": {
            name: asked & (length >= low) & (length <= high)
            for name, low, high in (("1", 1, 1), ("2", 2, 2), ("3 to 4", 3, 4), ("5 to 8", 5, 8))
        },
        "events of its first period": {
            name: asked & (events >= low) & (events <= high)
            for name, low, high in (
                ("1 to 9", 1, 9), ("10 to 19", 10, 19), ("20 to 39", 20, 39), ("40 on", 40, 10**9),
            )
        },
        "type": {one.name.lower(): (kind == one) & (size >= LEAST) for one in TYPES},
    }  # fmt: skip
    return {
        part: {
            name: [float(hit[mask].mean()), int(mask.sum())]
            for name, mask in rows.items()
            if mask.any()
        }
        for part, rows in parts.items()
    }


def _figures(count_MC: F64, years: float) -> dict[str, F64]:
    true, missed, false = count_MC[:, 0], count_MC[:, 1], count_MC[:, 2]
    by_type = [
        _f1(count_MC[:, at], count_MC[:, at + 1], count_MC[:, at + 2])
        for at in range(3, _COUNTS, 3)
    ]
    return {
        "f1": _f1(true, missed, false),
        "precision": true / np.maximum(true + false, 1.0),
        "recall": true / np.maximum(true + missed, 1.0),
        "false_alarms_per_user_year": false / years,
        "type_macro_f1": np.mean(by_type, axis=0),
    }


def _f1(true: F64, missed: F64, false: F64) -> F64:
    value: F64 = 2.0 * true / np.maximum(2.0 * true + missed + false, 1.0)
    return value
