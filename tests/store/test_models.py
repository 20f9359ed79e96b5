"""The registry as a folder: candidate, live, previous; files that were changed are refused."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.core.errors import InvalidArgument, NotReady
from services.core.schema import DEFAULT_TENANT as TENANT
from services.store.layout import Layout
from services.store.model_folder import load_model, save_model
from services.store.models import FolderRegistry
from tests.encoder.world import model

TRAINED = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "data", 4)


@pytest.fixture
def registry(layout):
    return FolderRegistry(layout)


def made(tmp_path, version, day=0):
    """A finished model folder outside the registry, and its row."""
    trained = replace(model(), model_version=version, trained_time=TRAINED + timedelta(days=day))
    return str(tmp_path / version), save_model(tmp_path / version, trained)


def stages(registry):
    return {info.model_version: info.stage for info in registry.list(TENANT)}


def test_an_empty_registry_has_no_live_model(registry):
    with pytest.raises(NotReady, match="driftline train"):
        registry.live(TENANT)
    with pytest.raises(NotReady, match="previous model"):
        registry.rollback(TENANT)
    assert registry.list(TENANT) == []


def test_models_go_from_candidate_to_live_to_previous_and_back(registry, tmp_path):
    for day, version in enumerate(("m1", "m2", "m3")):
        registry.add(TENANT, *made(tmp_path, version, day))
    assert stages(registry) == {"m3": "candidate", "m2": "", "m1": ""}
    registry.promote(TENANT, "m1")
    registry.promote(TENANT, "m2")
    assert stages(registry) == {"m3": "candidate", "m2": "live", "m1": "previous"}
    assert registry.live(TENANT).model_version == "m2"
    registry.rollback(TENANT)
    assert stages(registry) == {"m3": "candidate", "m2": "previous", "m1": "live"}
    registry.rollback(TENANT)
    assert registry.live(TENANT).model_version == "m2"


def test_promoting_the_live_model_changes_nothing(registry, tmp_path):
    for version in ("m1", "m2"):
        registry.add(TENANT, *made(tmp_path, version))
        registry.promote(TENANT, version)
    registry.promote(TENANT, "m2")
    assert stages(registry) == {"m2": "live", "m1": "previous"}


def test_models_are_listed_newest_first_with_what_model_json_says(registry, tmp_path):
    for version, day in (("old", 0), ("new", 5)):
        registry.add(TENANT, *made(tmp_path, version, day))
    newest, oldest = registry.list(TENANT)
    assert (newest.model_version, oldest.model_version) == ("new", "old")
    assert newest.trained_time == TRAINED + timedelta(days=5)
    assert newest.space_id == model().space_id
    assert newest.metrics == model().metrics


def test_the_copy_is_whole_and_the_original_may_go(registry, tmp_path):
    folder, info = made(tmp_path, "m1")
    registry.add(TENANT, folder, info)
    registry.add(TENANT, folder, info)
    (tmp_path / "m1" / "model.json").unlink()
    held = load_model(Path(registry.folder(TENANT, "m1")))
    assert held.model_version == "m1"


def test_tenants_do_not_see_each_others_models(registry, tmp_path):
    registry.add(TENANT, *made(tmp_path, "m1"))
    assert registry.list("other") == []
    with pytest.raises(InvalidArgument, match="no model 'm1'"):
        registry.folder("other", "m1")


@pytest.mark.parametrize("version", ["..", "../m1", "a/b", "", ".hidden"])
def test_a_version_that_leaves_the_registry_is_refused(registry, version):
    with pytest.raises(InvalidArgument, match="must match"):
        registry.folder(TENANT, version)


def test_a_file_that_was_changed_is_not_taken_in_nor_promoted(registry, layout, tmp_path):
    folder, info = made(tmp_path, "m1")
    registry.add(TENANT, folder, info)
    for root in (layout.models_dir(TENANT) / "m1", tmp_path / "m1"):
        with (root / "item_tower.safetensors").open("ab") as file:
            file.write(b"x")
    with pytest.raises(InvalidArgument, match="not the file that was saved"):
        registry.promote(TENANT, "m1")
    with pytest.raises(InvalidArgument, match="not the file that was saved"):
        FolderRegistry(Layout(tmp_path / "other", 4)).add(TENANT, folder, info)


def test_files_outside_the_folder_are_refused(registry, tmp_path):
    folder, info = made(tmp_path, "m1")
    path = tmp_path / "m1" / "model.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "files": {**manifest["files"], "../secret": "00"}}))
    with pytest.raises(InvalidArgument, match="outside the folder"):
        registry.add(TENANT, folder, info)
    path.write_text(json.dumps(manifest))
    tower = tmp_path / "m1" / "item_tower.safetensors"
    tower.rename(tmp_path / "elsewhere")
    tower.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidArgument, match="outside the folder"):
        registry.add(TENANT, folder, info)


def test_only_listed_files_are_copied(registry, layout, tmp_path):
    folder, info = made(tmp_path, "m1")
    (tmp_path / "m1" / "notes.pkl").write_bytes(b"x")
    registry.add(TENANT, folder, info)
    assert not (layout.models_dir(TENANT) / "m1" / "notes.pkl").exists()


def test_a_model_under_another_name_is_refused(registry, tmp_path):
    folder, info = made(tmp_path, "m1")
    with pytest.raises(InvalidArgument, match=r"model\.json says 'm1'"):
        registry.add(TENANT, folder, replace(info, model_version="m2"))


def test_threads_that_add_and_promote_leave_one_live_model(registry, layout, tmp_path):
    folders = [made(tmp_path, f"m{n}") for n in range(6)]

    def add(folder, info):
        mine = FolderRegistry(layout)
        mine.add(TENANT, folder, info)
        mine.promote(TENANT, info.model_version)

    threads = [threading.Thread(target=add, args=each) for each in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sorted(stages(registry).values())
    assert found.count("live") == 1
    assert found.count("previous") == 1
    assert len(found) == 6


def test_a_shadow_and_the_live_model_change_places_in_one_step(registry, tmp_path):
    for day, version in enumerate(("m1", "m2", "m3")):
        registry.add(TENANT, *made(tmp_path, version, day))
    registry.promote(TENANT, "m1")
    assert registry.shadow(TENANT) is None
    with pytest.raises(InvalidArgument, match="m1 is live already"):
        registry.set_shadow(TENANT, "m1")
    with pytest.raises(InvalidArgument, match="no model"):
        registry.set_shadow(TENANT, "m9")
    registry.set_shadow(TENANT, "m3")
    # To be a shadow is beside what a model is otherwise.
    assert stages(registry) == {"m3": "candidate", "m2": "", "m1": "live"}
    with pytest.raises(InvalidArgument, match="not migrated to"):
        registry.switch(TENANT, "m2")
    registry.switch(TENANT, "m3")
    assert stages(registry) == {"m3": "live", "m2": "", "m1": "previous"}
    assert registry.shadow(TENANT).model_version == "m1"
    registry.switch(TENANT, "m3")  # again changes nothing
    assert registry.shadow(TENANT).stage == "previous"
    registry.switch(TENANT, "m1")
    assert stages(registry) == {"m3": "previous", "m2": "", "m1": "live"}
    assert registry.shadow(TENANT).model_version == "m3"
    registry.set_shadow(TENANT, None)
    assert registry.shadow(TENANT) is None
    assert stages(registry) == {"m3": "previous", "m2": "", "m1": "live"}


def test_a_shadow_that_is_promoted_outright_is_no_shadow_any_more(registry, tmp_path):
    for day, version in enumerate(("m1", "m2")):
        registry.add(TENANT, *made(tmp_path, version, day))
    registry.promote(TENANT, "m1")
    registry.set_shadow(TENANT, "m2")
    registry.promote(TENANT, "m2")
    assert registry.shadow(TENANT) is None
