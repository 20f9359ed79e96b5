"""Published catalogues, in memory and as folders."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from services.core.errors import DependencyUnavailable, InvalidArgument, NotReady, SpaceMismatch
from services.core.ranking import ItemStats
from services.core.schema import DEFAULT_TENANT as TENANT
from services.core.topics import Topics
from services.store.index import KEPT_GENERATIONS, FolderCatalogues
from services.store.layout import Layout
from services.store.memory_index import MemoryCatalogues
from services.store.ports import Catalogue

SPACE = "tiny_00000001"


def catalogue(*item_ids: str, generation="g1", value=1.0, share=0.5, width=2) -> Catalogue:
    n = len(item_ids)
    return Catalogue(
        space_id=SPACE,
        model_version="m1",
        generation=generation,
        item_ids=item_ids,
        titles=tuple(f"Title {item}" for item in item_ids),
        categories=tuple((item, "all") for item in item_ids),
        items_ND=np.full((n, width), value, np.float32),
        stats=ItemStats(
            share_NW=np.full((n, 2), share, np.float32),
            first_time_N=np.where(np.arange(n) % 2, 1.5e9, np.inf),
        ),
    )


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, 4)


@pytest.fixture(params=["memory", "folder"])
def store(request, layout):
    return MemoryCatalogues() if request.param == "memory" else FolderCatalogues(layout)


def test_nothing_published_is_not_ready_and_has_no_token(store):
    with pytest.raises(NotReady, match="item index"):
        store.current(TENANT, SPACE)
    with pytest.raises(NotReady, match="item index"):
        store.publish_segment(TENANT, catalogue("a"))
    assert store.current_token(TENANT, SPACE) == ""


def test_what_is_published_is_read(store):
    published = catalogue("a", "ä", value=0.25)
    store.publish(TENANT, published)
    read = store.current(TENANT, SPACE)
    assert (read.item_ids, read.titles) == (published.item_ids, published.titles)
    assert read.categories == (("a", "all"), ("ä", "all"))
    assert (read.model_version, read.generation, read.space_id) == ("m1", "g1", SPACE)
    assert read.items_ND.dtype == np.float32
    assert read.items_ND.tolist() == [[0.25, 0.25]] * 2
    assert read.stats.share_NW.tolist() == [[0.5, 0.5]] * 2


def test_an_empty_catalogue_is_read_back_empty(store):
    store.publish(TENANT, catalogue())
    read = store.current(TENANT, SPACE)
    assert read.item_ids == ()
    assert read.items_ND.shape == (0, 2)
    assert read.stats.share_NW.shape == (0, 2)


def test_segments_merge_in_ascending_order_and_the_newest_version_counts(store):
    store.publish(TENANT, catalogue("b", "d"))
    store.publish_segment(TENANT, catalogue("a", "c", value=2.0, share=0.0))
    store.publish_segment(TENANT, catalogue("c", value=3.0, share=0.0))
    read = store.current(TENANT, SPACE)
    assert read.item_ids == ("a", "b", "c", "d")
    assert read.items_ND[:, 0].tolist() == [2.0, 1.0, 3.0, 1.0]
    # Items that are new have no popularity yet.
    assert read.stats.share_NW[:, 0].tolist() == [0.0, 0.5, 0.0, 0.5]
    assert read.titles == ("Title a", "Title b", "Title c", "Title d")
    assert read.generation == "g1"


def test_the_token_changes_with_every_publication(store):
    tokens = []
    store.publish(TENANT, catalogue("a"))
    tokens.append(store.current_token(TENANT, SPACE))
    store.publish_segment(TENANT, catalogue("b"))
    tokens.append(store.current_token(TENANT, SPACE))
    store.publish_segment(TENANT, catalogue("c"))
    tokens.append(store.current_token(TENANT, SPACE))
    store.publish(TENANT, catalogue("a", generation="g2"))
    tokens.append(store.current_token(TENANT, SPACE))
    assert len(set(tokens)) == 4
    assert store.current_token(TENANT, SPACE) == tokens[-1]


def test_a_new_generation_replaces_the_old_with_its_segments(store):
    store.publish(TENANT, catalogue("a"))
    store.publish_segment(TENANT, catalogue("b"))
    store.publish(TENANT, catalogue("c", generation="g2"))
    assert store.current(TENANT, SPACE).item_ids == ("c",)


def test_tenants_and_spaces_are_apart(store):
    store.publish(TENANT, catalogue("a"))
    with pytest.raises(NotReady):
        store.current("other", SPACE)
    with pytest.raises(NotReady):
        store.current(TENANT, "tiny_00000002")


@pytest.mark.parametrize(
    "bad",
    [
        catalogue("b", "a"),
        catalogue("a", "a"),
        replace(catalogue("a"), titles=()),
        catalogue("a", generation="../g"),
    ],
)
def test_a_catalogue_that_does_not_hold_together_is_refused(store, bad):
    with pytest.raises(InvalidArgument):
        store.publish(TENANT, bad)
    assert store.current_token(TENANT, SPACE) == ""


def test_a_segment_of_another_width_is_refused(store):
    store.publish(TENANT, catalogue("a"))
    with pytest.raises(InvalidArgument, match="width 2"):
        store.publish_segment(TENANT, catalogue("b", width=3))
    assert store.current(TENANT, SPACE).item_ids == ("a",)


def test_vectors_are_mapped_and_stay_readable_after_newer_generations(layout):
    store = FolderCatalogues(layout)
    store.publish(TENANT, catalogue("a", value=0.5))
    held = store.current(TENANT, SPACE)
    assert isinstance(held.items_ND, np.memmap)
    for number in range(2, 8):
        store.publish(TENANT, catalogue("a", generation=f"g{number}"))
    assert held.items_ND.tolist() == [[0.5, 0.5]]
    folders = [path for path in layout.index_dir(TENANT, SPACE).iterdir() if path.is_dir()]
    assert len(folders) == KEPT_GENERATIONS
    assert layout.index_dir(TENANT, SPACE) / "g7" in folders


def test_a_generation_published_again_reads_as_published_last(layout):
    store = FolderCatalogues(layout)
    store.publish(TENANT, catalogue("a"))
    store.current(TENANT, SPACE)
    store.publish(TENANT, catalogue("a", "b"))
    assert store.current(TENANT, SPACE).item_ids == ("a", "b")


@pytest.mark.parametrize("name", ["vectors.npy", "items.parquet"])
def test_a_damaged_file_is_refused(layout, name):
    FolderCatalogues(layout).publish(TENANT, catalogue("a", "b"))
    path = layout.index_dir(TENANT, SPACE) / "g1" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DependencyUnavailable, match="damaged"):
        FolderCatalogues(layout).current(TENANT, SPACE)


def test_a_publication_that_is_cut_leaves_the_current_one(layout):
    store = FolderCatalogues(layout)
    store.publish(TENANT, catalogue("a"))
    # What a writer that died before its last step leaves.
    (layout.index_dir(TENANT, SPACE) / "g2").mkdir()
    assert store.current(TENANT, SPACE).item_ids == ("a",)


TOPICS = Topics(
    ids=("t1", "t2"),
    names=("food: jam", "tools"),
    terms=(("jam", "rye"), ()),
    categories=(("food",), ("tools",)),
    centroids_TD=np.array([[0.6, 0.8], [1.0, -0.0]], np.float32),
    item_count=2,
)


def test_topics_are_read_as_published_and_stay_while_segments_come(store):
    store.publish(TENANT, replace(catalogue("a", "b"), topics=TOPICS))
    store.publish_segment(TENANT, catalogue("c", generation="s1"))
    read = store.current(TENANT, SPACE)
    assert read.item_ids == ("a", "b", "c")
    assert np.array_equal(read.topics.centroids_TD, TOPICS.centroids_TD)
    same = replace(read.topics, centroids_TD=TOPICS.centroids_TD)
    assert same == TOPICS


def test_a_generation_without_topics_has_none(store):
    store.publish(TENANT, catalogue("a"))
    assert store.current(TENANT, SPACE).topics is None


def test_damaged_topics_are_not_served(layout):
    FolderCatalogues(layout).publish(TENANT, replace(catalogue("a"), topics=TOPICS))
    file = layout.index_dir(TENANT, SPACE) / "g1" / "topics.json"
    file.write_text(file.read_text().replace("jam", "ham"))
    with pytest.raises(DependencyUnavailable, match=r"topics\.json"):
        FolderCatalogues(layout).current(TENANT, SPACE)


def test_an_index_that_was_copied_from_another_space_is_refused(layout):
    FolderCatalogues(layout).publish(TENANT, catalogue("a"))
    other = "tiny_00000002"
    shutil.copytree(layout.index_dir(TENANT, SPACE), layout.index_dir(TENANT, other))
    with pytest.raises(SpaceMismatch) as caught:
        FolderCatalogues(layout).current(TENANT, other)
    assert caught.value.metadata == {"expected_space_id": other, "actual_space_id": SPACE}
