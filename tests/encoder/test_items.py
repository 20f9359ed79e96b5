from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from services.core.errors import Cancelled, NotReady
from services.core.schema import DEFAULT_TENANT, item_view
from services.encoder import item_vectors, items
from tests.encoder.world import event, item, model, world

NEWER = datetime(2026, 3, 1, tzinfo=UTC)


def refresh(world, *, is_full=False, cancelled=lambda: False):
    return world.encoder.refresh_items(DEFAULT_TENANT, is_full=is_full, cancelled=cancelled)


def catalogue(world):
    return world.catalogues.current(DEFAULT_TENANT, world.space_id)


def test_each_distinct_text_is_encoded_once_and_the_items_are_published(tmp_path):
    w = world(tmp_path)
    w.add_items(item("tea"), item("milk"), item("tea2", title="tea"))
    made = refresh(w)
    assert (made.encoded_text_count, made.item_count, made.space_id) == (2, 3, w.space_id)
    assert sorted(w.text.encoded) == ["milk", "tea"]
    held = catalogue(w)
    assert held.item_ids == ("milk", "tea", "tea2")
    assert held.generation == made.generation
    assert np.allclose(np.linalg.norm(held.items_ND, axis=1), 1, atol=1e-6)
    assert np.array_equal(held.items_ND[1], held.items_ND[2])


def test_nothing_new_encodes_and_publishes_nothing(tmp_path):
    w = world(tmp_path)
    w.add_items(item("tea"))
    first = refresh(w)
    second = refresh(w)
    assert second.generation == first.generation
    assert second.encoded_text_count == 0
    assert (w.catalogues.generations, w.catalogues.segments) == (1, 0)


def test_new_items_alone_go_into_a_segment_and_move_no_old_vector(tmp_path):
    w = world(tmp_path)
    w.add_items(item("tea"))
    refresh(w)
    before = catalogue(w).items_ND.copy()
    w.add_items(item("milk"))
    made = refresh(w)
    assert (made.encoded_text_count, made.item_count) == (1, 2)
    assert (w.catalogues.generations, w.catalogues.segments) == (1, 1)
    assert catalogue(w).item_ids == ("milk", "tea")
    assert np.array_equal(catalogue(w).items_ND[1:], before)


def test_an_edited_item_makes_a_new_generation_with_the_version_in_force(tmp_path):
    w = world(tmp_path)
    w.add_items(item("tea"), item("milk"))
    first = refresh(w)
    w.add_items(item("tea", title="green tea", updated=datetime(2026, 3, 1, tzinfo=UTC)))
    w.add_items(item("milk", title="later milk", updated=datetime(2026, 5, 1, tzinfo=UTC)))
    made = refresh(w)
    assert made.generation != first.generation
    assert catalogue(w).titles == ("milk", "green tea")


def test_an_item_of_the_future_is_not_in_the_catalogue_yet(tmp_path):
    w = world(tmp_path)
    w.add_items(item("tea"), item("milk", updated=datetime(2026, 5, 1, tzinfo=UTC)))
    assert refresh(w).item_count == 1


def test_popularity_counts_events_up_to_now_outside_bulk_days(tmp_path):
    w = world(tmp_path)
    w.add_items(item("tea"), item("milk"))
    w.add_events(
        event("ann", "tea", "2026-03-30"), event("bob", "milk", "2026-03-30"),
        event("bob", "milk", "2026-03-30"), event("bob", "nobody-knows"),
        event("ann", "tea", "2026-04-09"),
    )  # fmt: skip
    w.add_events(*[event("bot", "tea", "2026-03-31", hour=i / 100) for i in range(1001)])
    refresh(w)
    assert np.allclose(catalogue(w).stats.share_NW, [[2 / 3, 2 / 3], [1 / 3, 1 / 3]])


def test_popularity_that_is_out_of_date_makes_a_new_generation(tmp_path, monkeypatch):
    w = world(tmp_path)
    w.add_items(item("tea"), item("milk"))
    refresh(w)
    w.add_events(event("ann", "tea"))
    assert refresh(w).generation == catalogue(w).generation
    assert w.catalogues.generations == 1
    monkeypatch.setattr(items, "STATS_MAX_AGE", -items.STATS_MAX_AGE)
    refresh(w)
    assert w.catalogues.generations == 2
    assert catalogue(w).stats.share_NW[1, 0] == 1
    refresh(w)
    assert w.catalogues.generations == 2


def test_a_full_refresh_publishes_again_and_moves_nothing(tmp_path):
    w = world(tmp_path)
    w.add_items(item("tea"))
    refresh(w)
    before = catalogue(w).items_ND.copy()
    made = refresh(w, is_full=True)
    assert made.encoded_text_count == 0
    assert w.catalogues.generations == 2
    assert np.array_equal(catalogue(w).items_ND, before)


def test_a_new_model_of_the_same_space_encodes_nothing_and_publishes_its_version(tmp_path):
    w = world(tmp_path)
    w.add_items(item("tea"))
    refresh(w)
    w.models.live = model("m2")
    assert refresh(w).encoded_text_count == 0
    assert catalogue(w).model_version == "m2"


def test_a_cut_refresh_keeps_what_it_encoded_and_its_retry_encodes_the_rest(tmp_path, monkeypatch):
    w = world(tmp_path)
    w.add_items(*[item(f"i{n}") for n in range(5)])
    monkeypatch.setattr(item_vectors, "TEXTS_A_CHUNK", 2)
    calls = iter([False, False, True])
    with pytest.raises(Cancelled):
        refresh(w, cancelled=lambda: next(calls))
    assert len(w.text.encoded) == 4
    assert refresh(w).encoded_text_count == 1
    assert sorted(w.text.encoded) == [f"i{n}" for n in range(5)]


def test_item_vectors_become_features_once(tmp_path):
    w = world(tmp_path)
    w.add_items(item("tea"))
    refresh(w)
    w.add_items(item("milk"))
    refresh(w)
    assert w.features.offline_rows(item_view(w.space_id)) == 2
    assert w.features.user_ids(item_view(w.space_id)) == {"tea", "milk"}


def test_no_items_publish_nothing(tmp_path):
    w = world(tmp_path)
    assert refresh(w).generation == ""
    assert w.catalogues.generations == 0


def test_without_a_live_model_the_refresh_says_to_train(tmp_path):
    w = world(tmp_path)
    w.models.live = None
    with pytest.raises(NotReady, match="train"):
        refresh(w)


def test_topics_are_published_with_the_index_and_keep_their_ids(tmp_path):
    w = world(tmp_path)
    w.add_items(*[item(f"tea{n}", categories=("food", "tea")) for n in range(12)])
    refresh(w)
    topics = catalogue(w).topics
    assert len(topics) == 2
    assert topics.item_count == 12
    # One item in twelve more: the topics stay as they are, also in a new generation.
    w.add_items(item("tea99"), item("tea1", title="ginger tea", updated=NEWER))
    refresh(w)
    assert len(catalogue(w).item_ids) == 13
    assert catalogue(w).topics == topics
    w.add_items(*[item(f"rye{n}") for n in range(12)])
    refresh(w, is_full=True)
    learned = catalogue(w).topics
    assert learned.item_count == 25
    assert set(learned.ids) & set(topics.ids)


def test_an_index_of_an_older_version_gets_topics_at_the_next_refresh(tmp_path, monkeypatch):
    w = world(tmp_path)
    w.add_items(item("tea"), item("milk"))
    refresh(w)
    old = replace(catalogue(w), topics=None)
    w.catalogues.publish(DEFAULT_TENANT, old)
    monkeypatch.setattr(items, "STATS_MAX_AGE", timedelta(0))
    refresh(w)
    assert catalogue(w).topics is not None


def test_one_encoder_takes_items_that_came_after_its_last_refresh(tmp_path):
    w = world(tmp_path)
    encoder = w.encoder
    for names in (("tea", "milk"), ("socks",), ("rye", "jam")):
        w.add_items(*[item(name) for name in names])
        made = encoder.refresh_items(DEFAULT_TENANT, is_full=False, cancelled=lambda: False)
        assert made.encoded_text_count == len(names)
    assert made.item_count == 5
