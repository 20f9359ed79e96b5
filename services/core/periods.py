"""Periods: half-open UTC intervals with ISO names, numbered so that arithmetic is integer arithmetic.

A period's *ordinal* counts periods of its granularity: days since 1970-01-01, ISO weeks since the week of
1970-01-01 (which began on Monday 1969-12-29), months since 1970-01.
Shape suffixes: N = days, or periods.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidArgument
from services.core.schema import Granularity

_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_MONDAY = date(1969, 12, 29).toordinal()
_PATTERNS = {
    Granularity.DAY: (re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII), "2026-11-24"),
    Granularity.WEEK: (re.compile(r"\d{4}-W\d{2}", re.ASCII), "2026-W48"),
    Granularity.MONTH: (re.compile(r"\d{4}-\d{2}", re.ASCII), "2026-11"),
}
# Whole ones.
PERIODS_A_YEAR = {Granularity.DAY: 365, Granularity.WEEK: 52, Granularity.MONTH: 12}


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One period. Periods of one granularity sort by time; `period + 2` is two periods on."""

    granularity: Granularity
    # Periods since the one that holds 1970-01-01; may be negative.
    ordinal: int

    def __add__(self, count: int) -> "Period":
        return Period(self.granularity, self.ordinal + count)

    def __sub__(self, other: "Period") -> int:
        return self.ordinal - other.ordinal

    @property
    def start(self) -> datetime:
        """First instant, UTC."""
        return _first_instant(self.granularity, self.ordinal)

    @property
    def end(self) -> datetime:
        """First instant after, UTC."""
        return _first_instant(self.granularity, self.ordinal + 1)

    @property
    def name(self) -> str:
        """ISO name: 2026-11-24, 2026-W48 or 2026-11."""
        return _name(self.granularity, self.ordinal)


def period_at(granularity: Granularity, instant: datetime) -> Period:
    """Return the period that holds an aware instant."""
    day = instant.astimezone(UTC).date()
    match granularity:
        case Granularity.DAY:
            return Period(granularity, day.toordinal() - _EPOCH)
        case Granularity.WEEK:
            return Period(granularity, (day.toordinal() - _FIRST_MONDAY) // 7)
        case Granularity.MONTH:
            return Period(granularity, (day.year - 1970) * 12 + day.month - 1)


def ordinals_of_days(granularity: Granularity, day_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ordinal of the period that holds each day; days are counted since 1970-01-01."""
    match granularity:
        case Granularity.DAY:
            return day_N
        case Granularity.WEEK:
            return (day_N + _EPOCH - _FIRST_MONDAY) // 7
        case Granularity.MONTH:
            return day_N.astype("M8[D]").astype("M8[M]").astype(np.int64)


def first_days(granularity: Granularity, ordinal_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first day of each period, counted since 1970-01-01."""
    match granularity:
        case Granularity.DAY:
            return ordinal_N
        case Granularity.WEEK:
            return ordinal_N * 7 + _FIRST_MONDAY - _EPOCH
        case Granularity.MONTH:
            return ordinal_N.astype("M8[M]").astype("M8[D]").astype(np.int64)


def period_from_name(granularity: Granularity, name: str, field: str = "period") -> Period:
    """Return the period with this ISO name.

    Raises:
        InvalidArgument: the name is not one of this granularity; names `field`.
    """
    try:
        return _period_named(granularity, name)
    except ValueError:
        example = _PATTERNS[granularity][1]
        problem = f"{name!r} is not a {granularity}; write it like {example}"
        raise InvalidArgument(field, problem) from None


# A trajectory asks for the same few at each read.
@lru_cache(maxsize=4096)
def _period_named(granularity: Granularity, name: str) -> Period:
    if not _PATTERNS[granularity][0].fullmatch(name):
        raise ValueError(name)
    return period_at(granularity, _instant_from_name(granularity, name))


def closed_before(granularity: Granularity, instant: datetime) -> Period:
    """Return the newest period that had ended at an aware instant."""
    return period_at(granularity, instant) + -1


def _instant_from_name(granularity: Granularity, name: str) -> datetime:
    match granularity:
        case Granularity.DAY:
            first = date.fromisoformat(name)
        case Granularity.WEEK:
            first = date.fromisocalendar(int(name[:4]), int(name[6:]), 1)
        case Granularity.MONTH:
            first = date(int(name[:4]), int(name[5:]), 1)
    return datetime.combine(first, datetime.min.time(), UTC)


# Every read of a vector asks for these, of a few periods.
@lru_cache(maxsize=4096)
def _first_instant(granularity: Granularity, ordinal: int) -> datetime:
    return datetime.combine(_first_day(granularity, ordinal), datetime.min.time(), UTC)


@lru_cache(maxsize=4096)
def _name(granularity: Granularity, ordinal: int) -> str:
    first = _first_day(granularity, ordinal)
    match granularity:
        case Granularity.DAY:
            return first.isoformat()
        case Granularity.WEEK:
            year, week, _ = first.isocalendar()
            return f"{year}-W{week:02}"
        case Granularity.MONTH:
            return f"{first.year:04}-{first.month:02}"


def _first_day(granularity: Granularity, ordinal: int) -> date:
    match granularity:
        case Granularity.DAY:
            return date.fromordinal(_EPOCH + ordinal)
        case Granularity.WEEK:
            return date.fromordinal(_FIRST_MONDAY) + timedelta(weeks=ordinal)
        case Granularity.MONTH:
            return date(1970 + ordinal // 12, ordinal % 12 + 1, 1)
