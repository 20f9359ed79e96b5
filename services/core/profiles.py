"""Portraits: what a user's events are about, of late and in all.

Shape suffixes: E = events, V = item versions, U = users, L = (user, category) pairs.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import I64
from services.core.records import Profile

# A share forgets half of an event in this time.
HALF_LIFE_DAYS = 84.0
# "Of late": this long before the user's newest event.
RECENT_DAYS = 28
# Categories kept per user, strongest first.
LABEL_LIMIT = 32

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000


def make_profiles(
    *,
    user_ix_E: I64,
    time_us_E: I64,
    version_E: I64,
    categories_V: tuple[tuple[str, ...], ...],
    seen_us_U2: I64,
    session_count_U: I64,
    is_suspected_bot_U: NDArray[np.bool_],
) -> tuple[Profile, ...]:
    """Return one portrait a user.

    A category's share is the part of the user's events, each decayed by its age at the newest one,
    whose item is in the category. An item in several categories counts in each, so shares need not
    sum to 1.

    Args:
        user_ix_E: user rows of the events that count (no bulk days).
        time_us_E: microseconds since 1970.
        version_E: row of `categories_V`; negative where the item is not known.
        categories_V: categories of each item version.
        seen_us_U2: first and last event of each user, bulk days included.
        session_count_U: sessions of each user, bulk days left out.
        is_suspected_bot_U: flag of each user.
    """
    user_count = len(seen_us_U2)
    count_U = np.bincount(user_ix_E, minlength=user_count)
    known_E = version_E >= 0
    labels_U = _labels(user_ix_E[known_E], time_us_E[known_E], version_E[known_E], categories_V)
    return tuple(
        Profile(
            labels=tuple(label for label, _, _ in labels_U.get(user, ())),
            shares=tuple(share for _, share, _ in labels_U.get(user, ())),
            recent_shares=tuple(recent for _, _, recent in labels_U.get(user, ())),
            event_count=int(count_U[user]),
            session_count=int(session_count_U[user]),
            first_event_time=_instant(seen_us_U2[user, 0]),
            last_event_time=_instant(seen_us_U2[user, 1]),
            is_suspected_bot=bool(is_suspected_bot_U[user]),
        )
        for user in range(user_count)
    )


def _labels(
    user_E: I64, time_us_E: I64, version_E: I64, categories_V: tuple[tuple[str, ...], ...]
) -> dict[int, list[tuple[str, float, float]]]:
    """Return (category, share, recent share) by user, strongest first."""
    if not len(user_E):
        return {}
    # Sums are taken in time order, so that they do not depend on the order of arrival.
    order = np.lexsort((version_E, time_us_E, user_E))
    user_E, time_us_E, version_E = user_E[order], time_us_E[order], version_E[order]
    newest_us = np.zeros(int(user_E[-1]) + 1, np.int64)
    np.maximum.at(newest_us, user_E, time_us_E)
    age_us_E = newest_us[user_E] - time_us_E
    decay_E = np.exp2(-age_us_E / (HALF_LIFE_DAYS * _DAY_US))
    recent_E = (age_us_E < RECENT_DAYS * _DAY_US).astype(np.float64)
    total_U = np.bincount(user_E, weights=decay_E)
    recent_total_U = np.bincount(user_E, weights=recent_E)
    names, event_C, label_C = _memberships(version_E, categories_V)
    pair_C = user_E[event_C] * len(names) + label_C
    pairs_L, inverse_C = np.unique(pair_C, return_inverse=True)
    share_L = np.bincount(inverse_C, weights=decay_E[event_C])
    late_L = np.bincount(inverse_C, weights=recent_E[event_C])
    labels_U: dict[int, list[tuple[str, float, float]]] = {}
    for pair, share, late in zip(pairs_L.tolist(), share_L, late_L, strict=True):
        user, label = divmod(pair, len(names))
        row = (names[label], float(share / total_U[user]), float(late / recent_total_U[user]))
        labels_U.setdefault(user, []).append(row)
    for rows in labels_U.values():
        rows.sort(key=lambda row: (-row[1], row[0]))
        del rows[LABEL_LIMIT:]
    return labels_U


def _memberships(
    version_E: I64, categories_V: tuple[tuple[str, ...], ...]
) -> tuple[list[str], I64, I64]:
    """Return names, and one (event, row of names) for each category of each event's item."""
    used, inverse_E = np.unique(version_E, return_inverse=True)
    names = sorted({name for row in used for name in categories_V[row]})
    row_of = {name: row for row, name in enumerate(names)}
    # A category named twice by an item counts once.
    labels = [sorted({row_of[name] for name in categories_V[row]}) for row in used]
    length = np.array([len(part) for part in labels], np.int64)
    flat = np.array([label for part in labels for label in part], np.int64)
    start = np.cumsum(length) - length
    count_E = length[inverse_E]
    event_C = np.repeat(np.arange(len(version_E)), count_E)
    within_C = np.arange(len(event_C)) - np.repeat(np.cumsum(count_E) - count_E, count_E)
    return names, event_C, flat[start[inverse_E[event_C]] + within_C]


def _instant(us: np.int64) -> datetime:
    return _EPOCH + timedelta(microseconds=int(us))
