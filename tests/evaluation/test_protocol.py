from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from services.core.dataset import dataset_from_frame
from services.core.errors import InvalidArgument
from services.core.pooling import PoolingConfig
from services.core.schema import Granularity
from services.evaluation.frames import read_events
from services.evaluation.protocol import ACTIVITY, GAPS, first_seen, make_split, view_at
from tests.planted import START, planted_events


def dataset(events, granularity=Granularity.WEEK):
    return dataset_from_frame(events, granularity, PoolingConfig())


def rows(*events):
    """Events of (user, item, day)."""
    return pl.DataFrame(
        [(u, i, START + timedelta(days=day), "purchase") for u, i, day in events],
        schema=["user_id", "item_id", "event_time", "kind"], orient="row",
    ).with_columns(pl.col("event_time").cast(pl.Datetime("us", "UTC")))  # fmt: skip


def test_origins_are_the_last_full_periods_and_the_last_horizons_have_fewer():
    data = dataset(planted_events(weeks=16))
    split = make_split(data, 5, (1, 4))
    first = int(data.period_E.min())
    assert [o - first for o in split.origins] == [11, 12, 13, 14, 15]
    assert [o - first for o in split.origins_of(4)] == [11, 12]
    assert [o - first for o in split.validation] == [7, 8, 9, 10]


def test_every_third_period_makes_disjoint_quarters_that_fit():
    data = dataset(planted_events(weeks=30))
    split = make_split(data, 4, (1, 3), every=3)
    first = int(data.period_E.min())
    assert [o - first for o in split.origins] == [18, 21, 24, 27]
    assert split.origins_of(3) == split.origins
    assert [o - first for o in split.validation] == [9, 12, 15]
    block = split.until_first_origin()
    assert block.origins_of(3) == split.validation
    assert block.last - first == 17


def test_a_period_that_the_data_leave_half_way_is_no_test_period():
    events = planted_events(weeks=16)
    cut = events.filter(pl.col("event_time") < START + timedelta(weeks=15, days=4))
    split = make_split(dataset(cut), 5, (1,))
    assert split.last == int(dataset(cut).period_E.max()) - 1


def test_too_few_periods_or_too_long_horizons_say_so():
    data = dataset(planted_events(weeks=8))
    with pytest.raises(InvalidArgument, match="ask for fewer"):
        make_split(data, 6, (1,))
    with pytest.raises(InvalidArgument, match="longer than"):
        make_split(data, 2, (4,))


def test_slices_by_hand():
    # The origin is day 70: `old` is warm, `fresh` first seen 10 days before, `future` after it.
    events = rows(
        ("a", "old", 0), ("b", "old", 1), ("b", "fresh", 60), ("a", "old", 71), ("a", "fresh", 71),
        ("a", "future", 72), ("b", "old", 83.99),
    )  # fmt: skip
    data = dataset(events)
    split = make_split(data, 2, (1,))
    view = view_at(
        data, split, split.origins[0], (1,), first_seen_N=first_seen(data), user_limit=10, seed=0
    )
    assert data.item_ids == ("fresh", "future", "old")
    user_a = np.array([0])
    assert view.users.tolist() == [0]

    def truth(part):
        return view.truth_of(part, 1, user_a).toarray()[0].tolist()

    assert truth("all") == [1, 1, 1]
    assert truth("new") == [1, 1, 0]
    assert truth("warm") == [1, 0, 1]
    assert truth("cold") == truth("cold_in_all") == [1, 1, 0]


def test_users_are_split_by_activity_and_by_the_gap_since_they_were_last_active():
    # The origin is day 70: user a was active in the week before it, b three before, c nine, d never.
    events = rows(
        *(("a", "x", day) for day in range(0, 70, 7)), ("b", "x", 0), ("b", "x", 7), ("b", "x", 52),
        ("c", "x", 7), *((user, "x", 71) for user in "abcd"), ("a", "x", 83.99),
    )  # fmt: skip
    data = dataset(events)
    split = make_split(data, 2, (1,))
    view = view_at(
        data, split, split.origins[0], (1,), first_seen_N=first_seen(data), user_limit=10, seed=0
    )
    activity = [ACTIVITY[label] for label in view.activity_A]
    assert activity == ["activity_high", "activity_mid", "activity_low", "activity_none"]
    gaps = [GAPS[label] if label >= 0 else None for label in view.gap_A]
    assert gaps == ["gap_1", "gap_2_3", "gap_4_plus", None]


def test_more_users_than_the_limit_are_sampled_the_same_way_each_time():
    data = dataset(planted_events(users=24))
    split = make_split(data, 3, (1,))
    views = [
        view_at(
            data, split, split.origins[0], (1,), first_seen_N=first_seen(data), user_limit=7, seed=3
        )
        for _ in range(2)
    ]
    assert views[0].users.tolist() == views[1].users.tolist()
    assert len(views[0].users) == 7


def test_the_usual_names_and_times_are_read(tmp_path):
    frame = pl.DataFrame(
        {
            "user": [1, 2, None],
            "item": ["x", "y", "z"],
            "ts": [1_767_600_000, 1_767_600_060, 0],
            "event": ["Buy", "odd", "buy"],
        }
    )
    frame.write_parquet(tmp_path / "e.parquet")
    read = read_events(tmp_path / "e.parquet")
    assert read.columns == ["user_id", "item_id", "event_time", "kind", "value", "text"]
    assert read["user_id"].to_list() == ["1", "2"]
    assert read["event_time"][0] == datetime(2026, 1, 5, 8, tzinfo=UTC)
    assert read["kind"].to_list() == ["purchase", "view"]
    assert read["text"].to_list() == ["x", "y"]


def test_html_escapes_in_texts_are_undone():
    frame = pl.DataFrame(
        {"user": ["a", "a"], "item": ["x", "y"], "ts": [1, 2], "text": ["mac &amp; cheese", "R&D"]}
    )
    assert read_events(frame)["text"].to_list() == ["mac & cheese", "R&D"]


def test_a_file_that_is_no_parquet_and_a_missing_column_say_so(tmp_path):
    (tmp_path / "e.parquet").write_text("user_id,item_id\n")
    with pytest.raises(InvalidArgument, match="not a Parquet file"):
        read_events(tmp_path / "e.parquet")
    with pytest.raises(InvalidArgument, match="no column item_id"):
        read_events(pl.DataFrame({"user_id": ["a"], "ts": [1]}))
