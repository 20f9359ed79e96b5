from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from services.core.classify import BULK_DAY_EVENTS
from services.core.dataset import dataset_from_frame, period_start
from services.core.errors import InvalidArgument
from services.core.pooling import PoolingConfig
from services.core.schema import Granularity

START = datetime(2026, 1, 5, tzinfo=UTC)


def frame(*rows):
    """Events of (user, item, day, text)."""
    return pl.DataFrame(
        [(u, i, START + timedelta(days=day), "view", text) for u, i, day, text in rows],
        schema=["user_id", "item_id", "event_time", "kind", "text"], orient="row",
    ).with_columns(pl.col("event_time").cast(pl.Datetime("us", "UTC")))  # fmt: skip


def dataset(events, **kwargs):
    return dataset_from_frame(events, Granularity.WEEK, PoolingConfig(), **kwargs)


def test_rows_are_ordered_ids_and_events_are_in_time_order():
    data = dataset(frame(("b", "y", 8, "Y"), ("a", "z", 1, "Z"), ("b", "x", 0, " X ")))
    assert data.user_ids == ("a", "b")
    assert data.item_ids == ("x", "y", "z")
    assert data.texts == ("X", "Y", "Z")
    assert data.user_ix_E.tolist() == [1, 0, 1]
    assert data.item_ix_E.tolist() == [0, 2, 1]
    assert (data.period_E - data.period_E[0]).tolist() == [0, 0, 1]
    assert (
        data.time_E[0] == START.timestamp() == period_start(Granularity.WEEK, int(data.period_E[0]))
    )
    np.testing.assert_allclose(data.weight_E, 0.3)


def test_the_first_text_of_an_item_counts_and_one_without_text_is_not_known():
    data = dataset(
        frame(("a", "x", 0, None), ("a", "x", 1, "old"), ("a", "x", 2, "new"), ("a", "y", 1, None))
    )
    assert data.item_ids == ("x",)
    assert data.texts == ("old",)
    assert data.event_count == 3


def test_given_texts_say_which_items_are_known():
    texts = pl.DataFrame({"item_id": ["y", "z"], "text": ["tea", "unused"]})
    data = dataset(frame(("a", "x", 0, "X"), ("a", "y", 1, "Y")), texts=texts)
    assert (data.item_ids, data.texts) == (("y",), ("tea",))


def test_without_texts_an_item_is_its_id():
    data = dataset(frame(("a", "x", 0, "X")).drop("text"))
    assert data.texts == ("x",)


def test_a_bulk_day_is_left_out_and_the_days_around_it_stay():
    bulk = [("bot", "x", 1 + i / 5000, "X") for i in range(BULK_DAY_EVENTS + 1)]
    data = dataset(frame(*bulk, ("bot", "x", 3, "X"), ("a", "x", 1, "X")))
    assert data.event_count == 2


def test_cuts_are_half_open_and_keep_the_rows_meaning():
    data = dataset(frame(("a", "x", 0, "X"), ("b", "y", 7, "Y")))
    second = (START + timedelta(days=7)).timestamp()
    assert data.before(second).event_count == 1
    assert data.between(second, second + 1).item_ix_E.tolist() == [1]
    assert data.before(second).item_ids == data.item_ids
    assert np.ptp(data.at(Granularity.DAY).period_E) == 7


def test_the_hash_is_of_the_content():
    events = frame(("a", "x", 0, "X"), ("b", "y", 7, "Y"))
    assert dataset(events).sha256() == dataset(events.reverse()).sha256()
    assert dataset(events).sha256() != dataset(events.head(1)).sha256()


def test_no_events_and_missing_columns_say_so():
    events = frame(("a", "x", 0, "X"))
    for empty in (events.head(0), frame(("a", "x", 0, None))):
        with pytest.raises(InvalidArgument, match="there are none"):
            dataset(empty)
    with pytest.raises(InvalidArgument, match="no column kind"):
        dataset(events.drop("kind"))
