from datetime import UTC, date, datetime, time, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import InvalidArgument
from services.core.periods import (
    Period,
    closed_before,
    first_days,
    ordinals_of_days,
    period_at,
    period_from_name,
)
from services.core.schema import Granularity

INSTANTS = st.datetimes(datetime(1970, 1, 5), datetime(2100, 1, 1), timezones=st.just(UTC))
GRANULARITIES = st.sampled_from(list(Granularity))


@given(GRANULARITIES, INSTANTS)
def test_a_period_holds_its_instant_and_its_name_reads_back(granularity, instant):
    period = period_at(granularity, instant)
    assert period.start <= instant < period.end
    assert period_from_name(granularity, period.name) == period


@given(GRANULARITIES, INSTANTS)
def test_periods_follow_each_other_without_gap(granularity, instant):
    period = period_at(granularity, instant)
    assert (period + 1).start == period.end
    assert (period + 3) - period == 3


@given(GRANULARITIES, st.lists(st.dates(date(1901, 1, 1), date(2150, 1, 1)), min_size=1))
def test_periods_of_many_days_at_once_are_those_of_each(granularity, days):
    day_N = np.array([(day - date(1970, 1, 1)).days for day in days])
    periods = [period_at(granularity, datetime.combine(day, time(), UTC)) for day in days]
    ordinal_N = ordinals_of_days(granularity, day_N)
    assert ordinal_N.tolist() == [period.ordinal for period in periods]
    firsts = [(period.start.date() - date(1970, 1, 1)).days for period in periods]
    assert first_days(granularity, ordinal_N).tolist() == firsts


@pytest.mark.parametrize(
    ("granularity", "instant", "name"),
    [
        (Granularity.DAY, datetime(2026, 11, 24, 23, 59, tzinfo=UTC), "2026-11-24"),
        (Granularity.WEEK, datetime(2026, 11, 24, tzinfo=UTC), "2026-W48"),
        (Granularity.WEEK, datetime(2018, 1, 1, tzinfo=UTC), "2018-W01"),
        (Granularity.WEEK, datetime(2017, 1, 1, tzinfo=UTC), "2016-W52"),
        (Granularity.WEEK, datetime(2020, 12, 31, tzinfo=UTC), "2020-W53"),
        (Granularity.MONTH, datetime(2026, 11, 30, 23, tzinfo=UTC), "2026-11"),
    ],
)
def test_names_are_iso(granularity, instant, name):
    assert period_at(granularity, instant).name == name


def test_the_period_is_that_of_utc_whatever_the_zone():
    east = timezone(timedelta(hours=9))
    assert period_at(Granularity.DAY, datetime(2026, 1, 1, 3, tzinfo=east)).name == "2025-12-31"


@pytest.mark.parametrize(
    ("granularity", "name"),
    [
        (Granularity.WEEK, "2026-11"),
        (Granularity.WEEK, "2026-W54"),
        (Granularity.WEEK, "2021-W53"),
        (Granularity.MONTH, "2026-13"),
        (Granularity.DAY, "2026-02-30"),
        (Granularity.DAY, "2026-W48"),
        (Granularity.MONTH, ""),
    ],
)
def test_a_name_of_another_granularity_names_the_field_and_shows_an_example(granularity, name):
    with pytest.raises(InvalidArgument, match="write it like") as caught:
        period_from_name(granularity, name)
    assert caught.value.field == "period"


def test_the_last_closed_period_ends_at_or_before_now():
    assert closed_before(Granularity.WEEK, datetime(2017, 12, 18, tzinfo=UTC)).name == "2017-W50"
    assert closed_before(Granularity.WEEK, datetime(2017, 12, 24, tzinfo=UTC)).name == "2017-W50"
    assert Period(Granularity.WEEK, 0).start == datetime(1969, 12, 29, tzinfo=UTC)
