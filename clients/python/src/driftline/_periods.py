"""Names and bounds of periods, for the fakes: half-open UTC intervals with ISO names."""

import re
from datetime import date, datetime, timedelta, timezone

from .errors import InvalidArgumentError
from .types import Granularity

_FORMS = {
    Granularity.DAY: (r"\d{4}-\d{2}-\d{2}", "2026-11-24"),
    Granularity.WEEK: (r"\d{4}-W\d{2}", "2026-W48"),
    Granularity.MONTH: (r"\d{4}-\d{2}", "2026-11"),
}
# Periods the server keeps online per user.
KEPT = {Granularity.DAY: 28, Granularity.WEEK: 26, Granularity.MONTH: 24}


def period_bounds(granularity: Granularity, name: str) -> tuple[datetime, datetime]:
    """Return the first instant of a period and the first after it.

    Raises:
        InvalidArgumentError: the name is not one of this granularity.
    """
    pattern, example = _FORMS[granularity]
    if re.fullmatch(pattern, name):
        try:
            first, after = _days(granularity, name)
        except ValueError:
            pass
        else:
            midnight = datetime.min.time()
            return (
                datetime.combine(first, midnight, timezone.utc),
                datetime.combine(after, midnight, timezone.utc),
            )
    raise InvalidArgumentError(
        f"period: {name!r} is not a {granularity}; write it like {example}",
        field="period",
        reason="INVALID_ARGUMENT",
    )


def _days(granularity: Granularity, name: str) -> tuple[date, date]:
    if granularity is Granularity.DAY:
        first = date.fromisoformat(name)
        return first, first + timedelta(days=1)
    if granularity is Granularity.WEEK:
        first = date.fromisocalendar(int(name[:4]), int(name[6:]), 1)
        return first, first + timedelta(weeks=1)
    first = date(int(name[:4]), int(name[5:]), 1)
    return first, (first + timedelta(days=32)).replace(day=1)
