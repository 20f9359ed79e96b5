"""What is kept of a user's year, by hand."""

from datetime import UTC, datetime

import numpy as np

from services.core import activity
from services.core.activity import MOST_CELLS, NO_ACTIVITY, WEEKS, make_activities
from services.core.periods import period_at
from services.core.schema import Granularity


def us(*when):
    return np.array([int(at(one).timestamp()) * 1_000_000 for one in when], np.int64)


def at(when):
    return datetime.fromisoformat(when).replace(tzinfo=UTC)


def one(times, items, item_ids=("milk", "tea")):
    users = np.zeros(len(times), np.int64)
    return make_activities(users, us(*times), np.array(items), item_ids, 1)[0]


def test_weeks_are_the_periods_of_the_rest():
    times = ["2026-01-01", "2025-12-28 23:59", "2025-12-29", "1970-01-01", "2026-11-24 12:00"]
    expected = [period_at(Granularity.WEEK, at(time)).ordinal for time in times]
    assert [one([time], [0], ("milk",)).week_C.tolist() for time in times] == [
        [n] for n in expected
    ]


def test_events_are_counted_by_item_and_week():
    made = one(["2026-03-03 09:10", "2026-03-03 09:50", "2026-03-04", "2026-03-10"], [1, 1, 0, 1])
    first = period_at(Granularity.WEEK, at("2026-03-03")).ordinal
    assert made.item_ids == ("milk", "tea")
    cells = list(zip(made.week_C - first, made.item_C, made.count_C, strict=True))
    assert cells == [(0, 0, 1), (0, 1, 2), (1, 1, 1)]
    # Two hours and a midnight; a Wednesday and two Tuesdays.
    assert made.weekday_days == (0, 2, 1, 0, 0, 0, 0)
    assert (made.hour_hours[9], made.hour_hours[0], sum(made.hour_hours)) == (1, 2, 3)


def test_what_lies_more_than_a_year_before_the_newest_event_is_left_out():
    made = one(["2025-03-04", "2025-03-11", "2026-03-03"], [0, 0, 1])
    assert made.week_C.max() - made.week_C.min() == WEEKS - 1
    assert (made.count_C.sum(), sum(made.weekday_days)) == (2, 2)


def test_users_are_apart_and_items_that_are_not_known_leave_no_cell():
    made = make_activities(
        np.array([2, 0, 0]), us("2026-03-03", "2026-03-03", "2026-03-04"), np.array([0, 1, -1]),
        ("milk", "tea"), 3,
    )  # fmt: skip
    assert [a.item_ids for a in made] == [("tea",), (), ("milk",)]
    assert made[1] is NO_ACTIVITY


def test_too_many_cells_lose_whole_old_weeks(monkeypatch):
    monkeypatch.setattr(activity, "MOST_CELLS", 3)
    made = one(
        ["2026-03-03", "2026-03-10", "2026-03-10", "2026-03-17", "2026-03-17"], [0, 0, 1, 0, 1]
    )
    # Four cells would fit with half a week; the third week alone is kept.
    assert made.count_C.tolist() == [1, 1]
    assert sum(made.weekday_days) == 1
    assert MOST_CELLS == 4_096
