from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from services.core.errors import InvalidArgument
from services.core.periods import Period
from services.core.schema import (
    HISTORY_PERIODS,
    Granularity,
    by_period_view,
    history_view,
    interest_view,
)
from services.core.views import view_named
from services.store.frames import (
    by_period_frame,
    columns_of,
    conform,
    history_frame,
    newest_period_frame,
    newest_rows,
)

SPACE, MONTH = "tiny_00000001", Granularity.MONTH
NOW = datetime(2026, 11, 24, 0, 0, 0, 5, tzinfo=UTC)


def rows(*places: tuple[str, int]) -> pl.DataFrame:
    """One row per (user, ordinal); the vector's first component is the ordinal."""
    ordinals = np.array([ordinal for _, ordinal in places], np.int64)
    return by_period_frame(
        MONTH,
        [user for user, _ in places],
        ordinals,
        np.stack([ordinals, np.ones_like(ordinals)], axis=1).astype(np.float32),
        ordinals,
        model_version="m1",
        known_times=[Period(MONTH, ordinal).end for _, ordinal in places],
        computed_time=NOW,
    )


def test_rows_have_the_views_columns_and_types():
    assert dict(rows(("a", 1)).schema) == columns_of(view_named(by_period_view(MONTH, SPACE)))


def test_no_rows_make_an_empty_frame_of_the_same_types():
    empty = rows(("a", 1)).clear()
    assert dict(history_frame(MONTH, empty).schema) == columns_of(
        view_named(history_view(MONTH, SPACE))
    )


def test_the_newest_period_of_each_user_is_served():
    newest = newest_period_frame(rows(("b", 7), ("a", 3), ("b", 9), ("a", 2)))
    assert newest["user_id"].to_list() == ["a", "b"]
    assert newest["event_count"].to_list() == [3, 9]
    view = view_named(interest_view(MONTH, SPACE))
    assert dict(conform(view, newest).schema) == columns_of(view)


def test_history_keeps_the_last_periods_flat_and_oldest_first():
    kept = HISTORY_PERIODS[MONTH]
    frame = history_frame(MONTH, rows(*[("a", n) for n in range(kept + 3, 0, -1)], ("b", 5)))
    a, b = frame.iter_rows(named=True)
    assert a["event_counts"] == list(range(4, kept + 4))
    assert a["vecs"][:4] == [4.0, 1.0, 5.0, 1.0]
    assert len(a["vecs"]) == 2 * kept
    assert a["periods"][0] == "1970-05"
    assert a["known_time"] == Period(MONTH, kept + 3).end
    assert (b["periods"], b["vecs"]) == (["1970-06"], [5.0, 1.0])


def test_the_newest_computed_row_of_each_user_and_period_wins():
    later = rows(("a", 1)).with_columns(
        pl.lit(99, pl.Int64).alias("event_count"),
        (pl.col("computed_time") + timedelta(microseconds=1)),
    )
    both = pl.concat([later, rows(("a", 1), ("a", 2))])
    found = newest_rows(view_named(by_period_view(MONTH, SPACE)), both)
    assert found["event_count"].to_list() == [99, 2]


def test_a_column_that_cannot_be_converted_is_refused():
    bad = rows(("a", 1)).with_columns(pl.lit("many").alias("event_count"))
    with pytest.raises(InvalidArgument, match="interest_month_by_period"):
        conform(view_named(by_period_view(MONTH, SPACE)), bad)


def test_an_unknown_view_is_refused():
    for name in ("interest_week", "interest_week__", "nothing__tiny_1", "x__y__z"):
        with pytest.raises(InvalidArgument, match="is no view"):
            view_named(name)
