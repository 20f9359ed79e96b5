from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.items import (
    content_hash,
    encoder_text,
    new_versions,
    with_content_hash,
)

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def versions(*rows):
    frame = pl.DataFrame(
        [(item, "", text, [category], T0 + day * DAY, T0) for item, text, category, day in rows],
        schema={
            "item_id": pl.String,
            "title": pl.String,
            "text": pl.String,
            "categories": pl.List(pl.String),
            "updated_time": pl.Datetime("us", "UTC"),
            "ingest_time": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )
    return with_content_hash(frame)


def test_title_and_text_are_not_said_twice():
    assert encoder_text("Apple", "A red fruit") == "Apple. A red fruit"
    assert encoder_text("Apple", "Apple, a red fruit") == "Apple, a red fruit"
    assert encoder_text("", " pear ") == encoder_text("pear", "") == "pear"


def test_the_hash_is_of_the_encoded_text_and_stable():
    assert content_hash("Apple", "Apple pie") == content_hash("", "Apple pie")
    assert content_hash("", "pear") == "97cfbe87531abe0c6bac7b21d616cb42"


def test_a_version_that_says_nothing_new_is_dropped():
    stored = versions(("i", "apple", "fruit", 0))
    fresh, conflicts = new_versions(
        versions(("i", "apple", "fruit", 0), ("i", "apple", "fruit", 5), ("i", "apple", "food", 6)),
        stored,
    )
    assert fresh.select("categories", "updated_time").rows() == [(["food"], T0 + 6 * DAY)]
    assert conflicts.is_empty()


def test_the_stored_version_wins_over_another_of_the_same_time():
    fresh, conflicts = new_versions(
        versions(("i", "pear", "fruit", 0)), versions(("i", "apple", "fruit", 0))
    )
    assert fresh.is_empty()
    assert conflicts["text"].to_list() == ["pear"]


@settings(deadline=None, max_examples=50)
@given(st.permutations([("i", "apple", "x", 0), ("i", "pear", "x", 0), ("i", "fig", "x", 1)]))
def test_which_version_wins_does_not_depend_on_order(rows):
    fresh, conflicts = new_versions(versions(*rows), versions().clear())
    assert fresh["text"].to_list()[-1] == "fig"
    assert fresh.height == 2
    smaller = min(["apple", "pear"], key=lambda text: content_hash("", text))
    assert fresh["text"].to_list()[0] == smaller
    assert conflicts.height == 1
