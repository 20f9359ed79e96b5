"""A disk that takes no more, or nothing at all: a named error, nothing by half, and the same call works later."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from services.core.errors import DiskUnavailable, NotReady
from services.core.schema import DEFAULT_TENANT
from services.pipeline.backup import back_up, restore
from services.pipeline.erasure import erase_requested, request_erasures
from services.pipeline.preprocess import preprocess
from services.pipeline.stores import open_stores
from services.store import backup_registry
from services.store.api_keys import KeyFile, Scope
from services.store.disk import told
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from services.store.models import FolderRegistry
from services.store.overlays import SqliteOverlays
from services.store.receipts import Receipts
from tests.disks import filled, mounted, read_only, small_files
from tests.pipeline.test_doctor import diagnose
from tests.whole_store import NOW, Store, add_model, make_store, some_events

# Room that is left, KiB: writes of every size fail, the first and the last of them.
ROOMS_KB = {"waiting": (0, 2, 64), "data": (0, 2, 8, 32)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Stores to copy, and what both become: "waiting" for a first refresh; "data", published, with more to come."""
    folder = tmp_path_factory.mktemp("store")
    store = make_store(folder)
    add_model(store.layout, folder, "m2")
    store.record(some_events())
    shutil.copytree(folder / "data", folder / "waiting")
    store.refresh()
    before = store.online()
    more = some_events(40, seed=1, prefix="more")
    for name in ("waiting", "data"):
        layout = Layout(folder / name, store.settings.bucket_count)
        InboxWriter(layout, "gateway-0").append("events", more)
    shutil.copytree(folder / "data", folder / "whole")
    whole = Store(store.settings.model_copy(update={"data_dir": folder / "whole"}))
    whole.refresh()
    return folder, store, before, whole.online()


class Disk:
    """A folder, and how to let it take no more."""

    def __init__(self, folder: Path, made: tuple, full) -> None:
        self.folder, self._made, self.full = folder, made, full

    def store(self, name: str = "waiting") -> Store:
        """Return a copy: with events "waiting", or with everything published, "data"."""
        folder, store, *_ = self._made
        shutil.copytree(folder / name, self.folder / "data")
        settings = store.settings.model_copy(update={"data_dir": self.folder / "data"})
        return Store(settings)


@pytest.fixture(
    params=["no large files", pytest.param("a full file system", marks=pytest.mark.slow)]
)
def disk(request, made, tmp_path):
    if request.param == "no large files":
        yield Disk(tmp_path, made, lambda kb=0: small_files(kb * 1024))
        return
    with mounted(tmp_path / "disk", 24) as folder:
        yield Disk(folder, made, lambda kb=0: filled(folder, kb))


def refused(call) -> str:
    """Return what a call that a disk must refuse says of it."""
    with pytest.raises(Exception) as caught:
        call()
    said = told(caught.value)
    assert isinstance(said, DiskUnavailable), repr(caught.value)
    assert said.metadata == {"dependency": "disk"}
    return said.message


def published(store: Store) -> dict:
    try:
        return store.online()
    except NotReady:
        return {}


@pytest.mark.parametrize("name", ["waiting", "data"])
def test_a_refresh_names_the_disk_publishes_nothing_by_half_and_goes_on(disk, made, name, trust):
    store, (_, _, before, whole) = disk.store(name), made
    for kb in ROOMS_KB[name]:
        with disk.full(kb):
            assert "the disk" in refused(store.refresh)
        # What readers see is whole: a user's row of a view is the one of before or the one after.
        for view, rows in published(store).items():
            for user, row in rows.items():
                assert row in (before[view].get(user), whole[view].get(user)), (view, user)
    store.refresh()
    trust("faults injected", len(ROOMS_KB[name]), int(store.online() != whole))
    assert store.online() == whole
    events = open_stores(store.settings).tables.read_events(DEFAULT_TENANT)["event_id"]
    assert (len(events), events.n_unique()) == (160, 160)
    # Nor is the disk left fuller by each try.
    assert diagnose(store) == []


def test_rows_that_were_refused_are_taken_by_the_same_call_once(disk, trust):
    store = disk.store()
    writer = InboxWriter(store.layout, "gateway-0")
    rows = some_events(50, prefix="late")
    with disk.full():
        assert "again" in refused(lambda: writer.append("events", rows))
    writer.append("events", rows)
    preprocess(open_stores(store.settings).tables, store.settings)
    ids = open_stores(store.settings).tables.read_events(DEFAULT_TENANT)["event_id"]
    trust("faults injected", 1, abs(len(ids) - 210))
    assert (len(ids), ids.n_unique()) == (210, 210)
    assert diagnose(store) == []


def test_a_backup_is_not_done_nor_listed_and_goes_on_in_its_folder(disk, tmp_path, trust):
    store, target = disk.store("data"), disk.folder / "backup"
    with disk.full(8):
        refused(lambda: back_up(store.settings, target, timedelta(days=1)))
    assert not (target / "manifest.json").exists()
    assert backup_registry.live(store.layout, NOW) == []
    back_up(store.settings, target, timedelta(days=1))
    again = store.settings.model_copy(update={"data_dir": disk.folder / "again"})
    with disk.full(8):
        refused(lambda: restore(again, target))
    restore(again, target)
    trust("faults injected", 2, int(Store(again).online() != store.online()))
    assert Store(again).online() == store.online()


def erased(store: Store) -> int:
    stores, overlays = open_stores(store.settings), SqliteOverlays(store.layout)
    try:
        preprocess(stores.tables, store.settings)
        return erase_requested(
            stores.tables, stores.features, stores.models, overlays, store.settings, DEFAULT_TENANT
        )  # fmt: skip
    finally:
        overlays.close()


def test_an_erasure_stays_pending_and_is_carried_out_later(disk, trust):
    store = disk.store("data")
    ids = request_erasures(store.settings, DEFAULT_TENANT, ["u3"])
    for kb in (0, 4):
        with disk.full(kb):
            refused(lambda: erased(store))
        assert not Receipts(store.layout).list(DEFAULT_TENANT)
    assert erased(store) == 1
    [receipt] = Receipts(store.layout).get(DEFAULT_TENANT, list(ids.values())).values()
    held = [view for view, rows in store.online().items() if "u3" in rows]
    trust("faults injected", 2, len(held))
    assert held == []
    assert receipt.receipt.state == "DONE"


def test_the_live_model_and_the_keys_stay_as_they_were(disk, trust):
    store = disk.store("data")
    registry, keys = FolderRegistry(store.layout), KeyFile(store.settings.keys_path())
    first = keys.create(tenant=DEFAULT_TENANT, scopes=frozenset(Scope), name="a", now=NOW)
    source = store.layout.models_dir(DEFAULT_TENANT) / "m2"
    with disk.full():
        refused(lambda: registry.promote(DEFAULT_TENANT, "m2"))
        refused(
            lambda: keys.create(tenant=DEFAULT_TENANT, scopes=frozenset(Scope), name="b", now=NOW)
        )
    assert registry.live(DEFAULT_TENANT).model_version == "m1"
    assert [key.key_id for key in keys.list()] == [first.row.key_id]
    assert source.is_dir()
    registry.promote(DEFAULT_TENANT, "m2")
    trust("faults injected", 2)
    assert registry.live(DEFAULT_TENANT).model_version == "m2"
    assert diagnose(store) == []


def test_a_folder_that_cannot_be_written_is_named_and_still_read(made, tmp_path, trust):
    folder, store, before, _ = made
    shutil.copytree(folder / "data", tmp_path / "data")
    store = Store(store.settings.model_copy(update={"data_dir": tmp_path / "data"}))
    store.record(some_events(10, prefix="late"))
    with read_only(tmp_path / "data"):
        message = refused(store.refresh)
        assert "read-only" in message or "closed to this program" in message
        assert open_stores(store.settings).tables.read_events(DEFAULT_TENANT).height == 120
    assert store.online() == before
    store.refresh()
    trust("faults injected")
    assert open_stores(store.settings).tables.read_events(DEFAULT_TENANT).height == 170
    assert diagnose(store) == []
