"""What came in late for a period, by hand-made rows."""

from datetime import UTC, datetime

import polars as pl

from services.core.lateness import late_arrivals
from services.core.schema import Granularity

LIVE = datetime(2026, 3, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def events(*rows: tuple[str, str, str, str]) -> pl.DataFrame:
    """(user, item, event time, ingest time)."""
    return pl.DataFrame(
        [(user, item, at(when), at(came)) for user, item, when, came in rows],
        schema={
            "user_id": pl.String,
            "item_id": pl.String,
            "event_time": pl.Datetime("us", "UTC"),
            "ingest_time": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )


def items(*rows: tuple[str, str, str]) -> pl.DataFrame:
    """(item, updated time, ingest time)."""
    return pl.DataFrame(
        [(item, at(updated), at(came)) for item, updated, came in rows],
        schema={
            "item_id": pl.String,
            "updated_time": pl.Datetime("us", "UTC"),
            "ingest_time": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )


def late(seen: pl.DataFrame, versions: pl.DataFrame, granularity=Granularity.WEEK):
    return late_arrivals(seen, versions, granularity, LIVE).rows()


def test_an_event_of_a_closed_period_makes_it_late_by_its_arrival():
    seen = events(
        ("ann", "tea", "2026-03-03", "2026-03-03"),
        ("ann", "tea", "2026-03-04", "2026-03-20"),
        ("ann", "tea", "2026-03-05", "2026-03-18"),
        ("bob", "tea", "2026-03-03", "2026-03-04"),
    )
    assert late(seen, items()) == [("ann", at("2026-03-02"), at("2026-03-20"))]


def test_what_came_before_the_store_was_live_is_history():
    assert late(events(("ann", "tea", "2020-03-03", "2026-02-28")), items()) == []


def test_a_period_is_late_by_its_own_length():
    seen = events(("ann", "tea", "2026-03-03", "2026-03-06"))
    assert late(seen, items()) == []
    days = late(seen, items(), Granularity.DAY)
    assert days == [("ann", at("2026-03-03"), at("2026-03-06"))]
    long_after = events(("ann", "tea", "2026-03-03", "2026-04-06"))
    months = late(long_after, items(), Granularity.MONTH)
    assert months == [("ann", at("2026-03-01"), at("2026-04-06"))]


def test_an_item_described_late_makes_its_periods_late_but_an_edit_none():
    seen = events(("ann", "tea", "2026-03-03", "2026-03-03"))
    described = items(("tea", "1970-01-01", "2026-03-21"))
    assert late(seen, described) == [("ann", at("2026-03-02"), at("2026-03-21"))]
    edited = items(("tea", "2026-03-21", "2026-03-21"), ("milk", "1970-01-01", "2026-03-22"))
    assert late(seen, edited) == []
