"""Where the encoder puts vectors together, another space of equal width is refused."""

from dataclasses import replace

import pytest

from services.core.errors import SpaceMismatch
from services.core.schema import DEFAULT_TENANT
from services.encoder.catalogue import catalogue_at
from services.encoder.encoder import History, interests_config
from services.encoder.interests import InterestsRefresh
from services.encoder.item_vectors import load_versions
from services.encoder.positions import Items
from services.store.layout import Layout
from services.store.text_vectors import TextVectors
from tests.encoder.world import BUCKETS, NOW, event, item, model, tower, world

# As wide as the live one.
OTHER = model("m2", space_id="toy_99999999", tower=tower(seed=1))


@pytest.fixture
def w(tmp_path):
    made = world(tmp_path)
    made.add_items(item("tea"), item("milk"))
    made.add_events(event("ann", "tea"))
    made.encoder.refresh_items(DEFAULT_TENANT, is_full=False, cancelled=lambda: False)
    return made


def refused(call):
    with pytest.raises(SpaceMismatch) as caught:
        call()
    return caught.value.metadata


def test_a_history_is_not_pooled_from_items_of_another_space(w):
    history = History(item_ids=("tea",), kinds=("purchase",), values=(1.0,))
    held = w.catalogues.current(DEFAULT_TENANT, w.space_id)
    w.catalogues.current = lambda tenant, space: replace(held, space_id=OTHER.space_id)
    assert refused(lambda: w.encoder.encode_histories([history])) == {
        "expected_space_id": w.space_id,
        "actual_space_id": OTHER.space_id,
    }


def versions_of(w, of):
    items = w.tables.read_items(DEFAULT_TENANT)
    return load_versions(
        items, TextVectors(Layout(w.folder, BUCKETS)).read(DEFAULT_TENANT, w.space_id), of
    )


def test_periods_are_not_pooled_from_item_versions_of_another_space(w):
    stores = w.encoder._stores
    refresh = InterestsRefresh(
        stores=stores,
        model=w.models.live,
        config=interests_config(w.settings),
        tenant=DEFAULT_TENANT,
        now=NOW,
        versions=versions_of(w, OTHER),
        items=Items(prints={}, digest=""),
        item_rows=w.tables.read_items(DEFAULT_TENANT),
    )
    w.features.online.clear()
    metadata = refused(lambda: refresh.run((), is_full=False, cancelled=lambda: False))
    assert metadata["actual_space_id"] == OTHER.space_id
    assert w.features.online == []
    right = replace(refresh, versions=versions_of(w, w.models.live))
    assert right.run((), is_full=False, cancelled=lambda: False).user_count == 1


def test_items_of_another_space_are_not_indexed(w):
    titles = {"tea": "tea", "milk": "milk"}
    live = w.models.live
    refused(lambda: catalogue_at(versions_of(w, OTHER), titles, live, NOW))
    assert len(catalogue_at(versions_of(w, live), titles, live, NOW).item_ids) == 2
