"""A user's portrait: named interests with their weight, trend, standing and change, each with evidence.

Nothing is said that a test did not tell from the user's own noise (core/noise.py), and each
statement cites items and weeks that it rests on.

Shape suffixes: T = topics of the space, K = topics that the user had, P = weeks, C = cells
(core/activity.py), I = items of the activity.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

import numpy as np

from services.core import noise
from services.core.activity import Activity
from services.core.pooling import F64, I64
from services.core.profiles import HALF_LIFE_DAYS
from services.core.topics import NO_TOPIC, Topics

# A weight leans on the population's as if that had been seen in this many independent events of the
# user. Chosen among 0 to 80 on Complete Journey, 13 weeks predicting the next 13 of the first half
# year: error of topics 0.332 at 0, 0.306 at 30, 0.305 at 50; of categories 0.521, 0.512, 0.515.
PRIOR_DRAWS = 30.0
# A trend is one of the last weeks; both need so many of the user's active weeks and topic's events.
TREND_WEEKS, TREND_ACTIVE_WEEKS, TREND_EVENTS = 26, 8, 6
# Active weeks on either side of a change, and events of the topic. With 4 weeks up to 14% of steady
# users were told of a change that was none, with 8 up to 7% (5.0 and 4 events in tests/core/test_noise.py).
CHANGE_SIDE_WEEKS, CHANGE_EVENTS = 8, 8
# Of the trends (and changes, and flings) said of a user, so many may be false.
FALSE_RATE = 0.05
# Core: seen in this part of the user's active blocks of 4 weeks, of which there are enough.
BLOCK_WEEKS, CORE_BLOCKS, CORE_PART = 4, 4, 0.5
# A fling: this part of the topic's active weeks lies within 4 weeks in a row.
FLING_PART, FLING_ACTIVE_WEEKS = 0.8, 3
# Items that a statement cites, at most.
CITED_ITEMS = 5
# The first hours of the parts of a day.
_DAY_PART_HOURS = 6


class Trend(StrEnum):
    """Where a share is going. Empty: too few events to tell."""

    UNKNOWN = ""
    RISING = "rising"
    STEADY = "steady"
    FADING = "fading"


class Standing(StrEnum):
    """How lasting an interest is. Empty: neither."""

    NEITHER = ""
    CORE = "core"
    FLING = "fling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Events that a statement rests on."""

    # Most frequent first.
    item_ids: tuple[str, ...]
    # Ordinals of the first and the last week.
    first_week: int
    last_week: int
    # Events of the topic in these weeks.
    event_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The week from which on a topic's share is another."""

    # Ordinal.
    week: int
    share_before: float
    share_after: float
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicInterest:
    """One topic in a user's life."""

    topic_id: str
    name: str
    terms: tuple[str, ...]
    categories: tuple[str, ...]
    # Expected share of the user's events, and its 95% interval.
    weight: float
    weight_low: float
    weight_high: float
    # None where the user asked for the topic and never had it.
    evidence: Evidence | None
    trend: Trend
    trend_evidence: Evidence | None
    standing: Standing
    standing_evidence: Evidence | None
    change: Change | None
    # The user asked for more of it (core/corrections.py).
    is_wanted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """When the user is active."""

    active_weeks: int
    # From the first to the last active week.
    weeks: int
    events_per_active_week: float
    # Day with most activity, Monday 0, and first hour of the six with most, UTC; None where the
    # days, or the hours, are even but for noise.
    weekday: int | None
    day_part_hour: int | None
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Portrait:
    """What is said of a user."""

    # Heaviest first.
    interests: tuple[TopicInterest, ...]
    # None where there is no activity.
    pattern: Pattern | None


NO_PORTRAIT = Portrait(interests=(), pattern=None)


def cited_items(portrait: Portrait) -> tuple[str, ...]:
    """Return every item that a statement cites, ascending."""
    of_topic = [
        evidence
        for one in portrait.interests
        for evidence in (
            one.evidence,
            one.trend_evidence,
            one.standing_evidence,
            one.change.evidence if one.change else None,
        )
    ]
    pattern = portrait.pattern.evidence if portrait.pattern else None
    return tuple(sorted({i for e in (*of_topic, pattern) if e for i in e.item_ids}))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A user's activity by topic and week."""

    activity: Activity
    first_week: int
    # Rows of Topics, ascending.
    topic_K: I64
    count_KP: F64
    total_P: F64
    # (item, week as a row of P, count) of each topic's cells: few, so that plain loops beat arrays.
    cells_K: tuple[list[tuple[int, int, int]], ...]

    @property
    def last(self) -> int:
        """Newest week, a row of P."""
        return len(self.total_P) - 1

    def evidence(self, cells: Iterable[tuple[int, int, int]], first: int, last: int) -> Evidence:
        """Return what cells say in some weeks (rows of P)."""
        events: dict[int, int] = {}
        for item, week, count in cells:
            if first <= week <= last:
                events[item] = events.get(item, 0) + count
        best = heapq.nsmallest(CITED_ITEMS, events, key=lambda item: (-events[item], item))
        return Evidence(
            item_ids=tuple(self.activity.item_ids[item] for item in best),
            first_week=self.first_week + first,
            last_week=self.first_week + last,
            event_count=sum(events.values()),
        )


def paint_portrait(
    activity: Activity, topic_of: Mapping[str, int], topics: Topics, prior_T: F64
) -> Portrait:
    """Return what the activity says.

    Args:
        activity: of the last year.
        topic_of: row of `topics` by item; others count for nothing.
        topics: of the space.
        prior_T: the population's shares; sums to 1.
    """
    seen = _seen(activity, topic_of)
    if seen is None:
        return NO_PORTRAIT
    weight_K, low_K, high_K = _weights(seen, prior_T)
    trend_K, trend_from = _trends(seen)
    changes = _changes(seen)
    last = seen.last
    whole_K = [seen.evidence(cells, 0, last) for cells in seen.cells_K]
    standings = _standings(seen, whole_K)
    middle = (trend_from + last + 1) // 2
    interests = []
    for row in np.argsort(-weight_K, kind="stable").tolist():
        topic, trend = int(seen.topic_K[row]), trend_K[row]
        standing, standing_evidence = standings[row]
        span = (trend_from, middle - 1) if trend is Trend.FADING else (middle, last)
        if trend is Trend.STEADY:
            span = (trend_from, last)
        interests.append(
            TopicInterest(
                topic_id=topics.ids[topic],
                name=topics.names[topic],
                terms=topics.terms[topic],
                categories=topics.categories[topic],
                weight=float(weight_K[row]),
                weight_low=float(low_K[row]),
                weight_high=float(high_K[row]),
                evidence=whole_K[row],
                trend=trend,
                trend_evidence=seen.evidence(seen.cells_K[row], *span) if trend else None,
                standing=standing,
                standing_evidence=standing_evidence,
                change=changes[row],
            )
        )
    return Portrait(interests=tuple(interests), pattern=_pattern(seen))


def topic_shares(activity: Activity, topic_of: Mapping[str, int], prior_T: F64) -> F64:
    """Return the expected share of every topic, those never had included; sums to 1."""
    seen = _seen(activity, topic_of)
    if seen is None:
        return prior_T
    share_T, sample = np.zeros(len(prior_T)), _decayed(seen)
    share_T[seen.topic_K], draws, _ = sample
    return (draws * share_T + PRIOR_DRAWS * prior_T) / (draws + PRIOR_DRAWS)


def _seen(activity: Activity, topic_of: Mapping[str, int]) -> _Seen | None:
    topic_I = np.array([topic_of.get(item, NO_TOPIC) for item in activity.item_ids], np.int64)
    topic_C = topic_I[activity.item_C] if len(activity.item_C) else np.zeros(0, np.int64)
    known_C = topic_C != NO_TOPIC
    if not known_C.any():
        return None
    week_C = activity.week_C[known_C]
    first = int(week_C.min())
    topic_K, row_C = np.unique(topic_C[known_C], return_inverse=True)
    count_KP = np.zeros((len(topic_K), int(week_C.max()) - first + 1))
    np.add.at(count_KP, (row_C, week_C - first), activity.count_C[known_C])
    cells_K: tuple[list[tuple[int, int, int]], ...] = tuple([] for _ in topic_K)
    columns = (row_C, activity.item_C[known_C], week_C - first, activity.count_C[known_C])
    for row, *cell in zip(*(column.tolist() for column in columns), strict=True):
        cells_K[row].append((cell[0], cell[1], cell[2]))
    return _Seen(
        activity=activity,
        first_week=first,
        topic_K=topic_K,
        count_KP=count_KP,
        total_P=count_KP.sum(0),
        cells_K=cells_K,
    )


def _decayed(seen: _Seen) -> tuple[F64, float, F64]:
    """Return decayed shares, and the draws they are worth: together, and of each topic."""
    age_P = np.arange(len(seen.total_P))[::-1]
    weight_P = np.exp2(-age_P * 7 / HALF_LIFE_DAYS)
    share_K = (seen.count_KP * weight_P).sum(1) / (seen.total_P * weight_P).sum()
    draws, draws_K = noise.independent_draws(seen.count_KP, seen.total_P, weight_P)
    return share_K, draws, draws_K


def _weights(seen: _Seen, prior_T: F64) -> tuple[F64, F64, F64]:
    """Return weights with their intervals."""
    share_K, draws, draws_K = _decayed(seen)
    weight_K = (draws * share_K + PRIOR_DRAWS * prior_T[seen.topic_K]) / (draws + PRIOR_DRAWS)
    least_K = np.minimum(draws_K, draws) + PRIOR_DRAWS
    bounds = [
        noise.share_interval(weight, sample)
        for weight, sample in zip(weight_K.tolist(), least_K.tolist(), strict=True)
    ]
    return weight_K, np.array([low for low, _ in bounds]), np.array([high for _, high in bounds])


def _trends(seen: _Seen) -> tuple[list[Trend], int]:
    """Return each topic's trend, and the first week it is about, a row of P."""
    start = max(len(seen.total_P) - TREND_WEEKS, 0)
    count_KP, total_P = seen.count_KP[:, start:], seen.total_P[start:]
    trends = [Trend.UNKNOWN] * len(count_KP)
    if int((total_P > 0).sum()) < TREND_ACTIVE_WEEKS:
        return trends, start
    rows = np.flatnonzero(count_KP.sum(1) >= TREND_EVENTS)
    tests = noise.trend_tests(count_KP[rows], total_P)
    stands = noise.discoveries(tests.p_value_T, FALSE_RATE)
    for row, z, real in zip(rows.tolist(), tests.z_T.tolist(), stands.tolist(), strict=True):
        moving = Trend.RISING if z > 0 else Trend.FADING
        trends[row] = moving if real else Trend.STEADY
    return trends, start


def _changes(seen: _Seen) -> list[Change | None]:
    changes: list[Change | None] = [None] * len(seen.count_KP)
    rows = np.flatnonzero(seen.count_KP.sum(1) >= CHANGE_EVENTS)
    tests = noise.change_tests(seen.count_KP[rows], seen.total_P, CHANGE_SIDE_WEEKS)
    stands = noise.discoveries(tests.p_value_T, FALSE_RATE)
    for at in np.flatnonzero(stands).tolist():
        row, split = int(rows[at]), int(tests.split_T[at])
        before, after = (
            float(seen.count_KP[row, side].sum() / max(seen.total_P[side].sum(), 1.0))
            for side in (slice(0, split), slice(split, None))
        )
        span = (split, seen.last) if after > before else (0, split - 1)
        changes[row] = Change(
            week=seen.first_week + split,
            share_before=before,
            share_after=after,
            evidence=seen.evidence(seen.cells_K[row], *span),
        )
    return changes


def _standings(seen: _Seen, whole_K: list[Evidence]) -> list[tuple[Standing, Evidence | None]]:
    """Return core, fling or neither, with what speaks for it."""
    # Blocks end with the newest week.
    block_P = np.arange(seen.last + 1)[::-1] // BLOCK_WEEKS
    active = np.unique(block_P[seen.total_P > 0])
    is_core = [
        len(active) >= CORE_BLOCKS
        and len(set(block_P[count_P > 0].tolist())) >= CORE_PART * len(active)
        for count_P in seen.count_KP
    ]
    found: list[tuple[Standing, Evidence | None]] = [
        (Standing.CORE, whole) if core else (Standing.NEITHER, None)
        for core, whole in zip(is_core, whole_K, strict=True)
    ]
    rows = [row for row, core in enumerate(is_core) if not core]
    windows = [_narrowest(seen, row) for row in rows]
    stands = noise.discoveries(np.array([chance for chance, _, _ in windows]), FALSE_RATE)
    for row, (_, first, end), real in zip(rows, windows, stands.tolist(), strict=True):
        if real:
            found[row] = (Standing.FLING, seen.evidence(seen.cells_K[row], first, end))
    return found


def _narrowest(seen: _Seen, row: int) -> tuple[float, int, int]:
    """Return the chance of as narrow a stay by luck, and the four weeks (rows of P) it is in."""
    weeks = np.flatnonzero(seen.count_KP[row] > 0)
    periods = int((seen.total_P > 0).sum())
    if len(weeks) < FLING_ACTIVE_WEEKS or periods <= 2 * BLOCK_WEEKS:
        return 1.0, 0, 0
    inside = np.searchsorted(weeks, weeks + BLOCK_WEEKS) - np.arange(len(weeks))
    best = int(np.argmax(inside))
    first = int(weeks[best])
    end = min(first + BLOCK_WEEKS - 1, seen.last)
    if inside[best] < max(FLING_PART * len(weeks), FLING_ACTIVE_WEEKS):
        return 1.0, first, end
    window = int((seen.total_P[first : end + 1] > 0).sum())
    chance = noise.concentration_p_value(int(inside[best]), len(weeks), window, periods)
    return min(1.0, chance * periods), first, end


def _pattern(seen: _Seen) -> Pattern:
    days_D = np.array(seen.activity.weekday_days, np.int64)
    hours_H = np.array(seen.activity.hour_hours, np.int64)
    parts_H = hours_H.reshape(-1, _DAY_PART_HOURS).sum(1)
    has_day = noise.evenness_p_value(days_D) <= FALSE_RATE
    has_part = noise.evenness_p_value(parts_H) <= FALSE_RATE
    active = int((seen.total_P > 0).sum())
    return Pattern(
        active_weeks=active,
        weeks=len(seen.total_P),
        events_per_active_week=float(seen.total_P.sum()) / active,
        weekday=int(np.argmax(days_D)) if has_day else None,
        day_part_hour=int(np.argmax(parts_H)) * _DAY_PART_HOURS if has_part else None,
        evidence=seen.evidence(chain.from_iterable(seen.cells_K), 0, seen.last),
    )
