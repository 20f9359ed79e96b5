from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.classify import (
    BOT_BULK_DAYS,
    IS_BULK_DAY,
    SESSION,
    session_counts,
    suspected_bots,
    with_bulk_days,
    with_sessions,
)

T0 = datetime(2026, 1, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def events(*rows):
    """Rows of (user, minutes after T0)."""
    return pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(len(rows))],
            "user_id": [user for user, _ in rows],
            "item_id": ["i1"] * len(rows),
            "event_time": pl.Series(
                [T0 + minutes * MINUTE for _, minutes in rows], dtype=pl.Datetime("us", "UTC")
            ),
        },
        schema_overrides={"user_id": pl.String, "event_id": pl.String, "item_id": pl.String},
    )


def machine(user, day, count):
    return events(*((user, day * 24 * 60 + n / 10) for n in range(count)))


def test_a_pause_longer_than_half_an_hour_starts_a_session():
    found = with_sessions(events(("u", 0), ("u", 30), ("u", 61), ("v", 31), ("v", 62)))
    assert found[SESSION].to_list() == [0, 0, 1, 0, 1]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from("uv"), st.integers(0, 300)), min_size=1),
    st.integers(0, 300),
)
def test_later_events_change_no_earlier_session(rows, cut):
    def sessions(kept):
        found = with_sessions(events(*kept)).select("user_id", "event_time", SESSION).unique()
        return found.filter(pl.col("event_time") <= T0 + cut * MINUTE).sort(found.columns).rows()

    before = [row for row in rows if row[1] <= cut]
    if before:
        assert sessions(before) == sessions(rows)


def test_a_day_of_more_than_the_limit_is_a_bulk_day():
    found = with_bulk_days(
        pl.concat([machine("u", 0, 4), machine("v", 0, 3), machine("u", 1, 3)]), 3
    )
    assert found[IS_BULK_DAY].to_list() == [True] * 4 + [False] * 6


def test_three_bulk_days_make_a_suspected_bot_from_then_on():
    days = pl.concat([machine("u", day, 4) for day in range(BOT_BULK_DAYS)])
    assert suspected_bots(days, T0 + (BOT_BULK_DAYS - 1) * DAY, 3) == frozenset()
    assert suspected_bots(days, T0 + BOT_BULK_DAYS * DAY, 3) == {"u"}
    assert suspected_bots(days, T0 + 99 * DAY, 3) == {"u"}


def test_later_days_change_no_earlier_flag():
    early = pl.concat([machine("u", 0, 4), machine("v", 0, 2)])
    late = pl.concat([machine("u", day, 4) for day in range(1, 9)])
    until = T0 + DAY
    assert suspected_bots(pl.concat([early, late]), until, 3) == suspected_bots(early, until, 3)
    both = with_bulk_days(pl.concat([early, late]), 3).head(early.height)
    assert both[IS_BULK_DAY].to_list() == with_bulk_days(early, 3)[IS_BULK_DAY].to_list()


def test_sessions_are_counted_by_user_with_or_without_event_ids():
    rows = events(("b", 0), ("a", 0), ("a", 30), ("a", 61), ("b", 500), ("a", 62))
    for given_rows in (rows, rows.drop("event_id")):
        assert session_counts(given_rows).rows() == [("a", 2), ("b", 2)]
