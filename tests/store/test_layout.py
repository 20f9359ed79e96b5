from concurrent.futures import ThreadPoolExecutor

import pytest

from services.core.errors import InvalidArgument
from services.store.layout import Layout, write_json


def test_a_store_keeps_the_bucket_count_it_was_made_with(tmp_path):
    Layout(tmp_path / "new", 8)
    assert Layout(tmp_path / "new", 8).bucket_count == 8
    with pytest.raises(InvalidArgument, match=r"made with 8 buckets.*DRIFTLINE_BUCKET_COUNT=8"):
        Layout(tmp_path / "new", 16)


def test_of_two_that_make_a_store_at_once_one_wins(tmp_path):
    def make(count):
        try:
            return Layout(tmp_path, count).bucket_count
        except InvalidArgument:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = {count for count in pool.map(make, [4, 8] * 8) if count}
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_a_damaged_store_file_is_named(tmp_path):
    (tmp_path / "store.json").write_text('{"bucket_co')
    with pytest.raises(InvalidArgument, match=r"store\.json is damaged"):
        Layout(tmp_path, 8)


@pytest.mark.parametrize("tenant", ["", "..", "a/b", "A", "x" * 65, "a-b"])
def test_a_tenant_cannot_leave_its_folder(tmp_path, tenant):
    with pytest.raises(InvalidArgument, match="tenant"):
        Layout(tmp_path, 8).events_dir(tenant)


@pytest.mark.parametrize("bad", ["", "../x", "a.b", "A"])
def test_writers_spaces_and_views_are_checked_too(tmp_path, bad):
    layout = Layout(tmp_path, 8)
    for make in (layout.inbox_dir, layout.vectors_dir, layout.index_dir, layout.offline_dir):
        with pytest.raises(InvalidArgument):
            make("default", bad)


def test_paths_follow_the_agreed_layout(tmp_path):
    layout = Layout(tmp_path, 8)
    paths = [
        layout.inbox_dir("default", "gateway-0"),
        layout.vectors_dir("default", "minilm_1f3c9a2b"),
        layout.index_dir("default", "minilm_1f3c9a2b"),
        layout.models_dir("default"),
        layout.offline_dir("default", "rank_state__minilm_1f3c9a2b"),
        layout.state_dir("default"),
    ]
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "default/inbox/gateway-0",
        "default/vectors/minilm_1f3c9a2b",
        "default/index/minilm_1f3c9a2b",
        "default/models",
        "default/feast/offline/rank_state__minilm_1f3c9a2b",
        "default/state",
    ]


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "state" / "position.json"
    write_json(path, {"a": 1})
    write_json(path, {"b": 2})
    assert path.read_text().split() == ["{", '"b":', "2", "}"]
    assert [found.name for found in path.parent.iterdir()] == ["position.json"]
