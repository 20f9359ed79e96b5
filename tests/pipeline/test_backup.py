"""A backup shows one instant of a living store, and comes back whole or not at all."""

import asyncio
import json
import shutil
import stat
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from driftline import Client

from services.core.corrections import Correction, Wish
from services.core.errors import DependencyUnavailable, InvalidArgument
from services.core.schema import DEFAULT_TENANT, EVENT_ID, USER_ID
from services.local import gateway_process
from services.pipeline.backup import back_up, restore
from services.pipeline.doctor import examine
from services.pipeline.erasure import erase_requested, request_erasures
from services.pipeline.preprocess import preprocess
from services.pipeline.rebuild import rebuild_online
from services.pipeline.stores import open_stores
from services.store import backup_registry, snapshot
from services.store.backup_files import read_manifest
from services.store.erasures import ErasedUsers
from services.store.online_reader import open_online_reader
from services.store.receipts import Receipts
from services.store.turns import alone
from tests.pipeline.lived import NOW, USER, lived, use_everything
from tests.whole_store import LocalCompute, Store, make_store, some_events

pytestmark = pytest.mark.timeout(120)
MONTH = timedelta(days=30)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A store with everything published, and a backup of it; nobody changes either."""
    folder = tmp_path_factory.mktemp("store")
    store = make_store(folder)
    store.record(some_events())
    store.refresh()
    back_up(store.settings, folder / "backup", MONTH)
    return folder, store


@pytest.fixture
def kept(published, tmp_path):
    """A copy of the backup that a test may damage."""
    return shutil.copytree(published[0] / "backup", tmp_path / "backup")


def at(store, root):
    return Store(store.settings.model_copy(update={"data_dir": root}))


def diagnose(store):
    async def run():
        reader = open_online_reader(store.settings.feast_config(), store.layout)
        return await examine(
            open_stores(store.settings), reader, store.settings, is_mending=False, is_idle=True
        )

    return asyncio.run(run())


def event_ids(store):
    """Every event that is stored or waits."""
    tables = open_stores(store.settings).tables
    waiting = tables.read_inbox(DEFAULT_TENANT, {}).events[EVENT_ID]
    return sorted({*tables.read_events(DEFAULT_TENANT)[EVENT_ID], *waiting})


def replies(client, user):
    """What the service says of a user, by every kind of reading."""
    read = (
        client.get_interest(user),
        client.get_trajectory(user, as_of=NOW),
        client.get_forecast(user),
        client.recommend(user),
        client.get_profile(user),
    )
    # When it was asked is no part of the answer.
    asked = {"as_of_event_time": None, "as_of_ingest_time": None, "input_age": None}
    return (
        *(str(replace(reply, basis=replace(reply.basis, **asked))) for reply in read),
        sorted(map(str, client.export_user(user))),
    )


@pytest.mark.slow
def test_a_restored_store_gives_equal_replies(tmp_path, trust):
    (tmp_path / "logs").mkdir()
    made = lived(tmp_path / "store")
    made.refresh()
    logs = tmp_path / "logs"
    with gateway_process(made.settings, logs) as gateway, Client(gateway.target) as client:
        use_everything(client)
        back_up(made.settings, tmp_path / "backup", MONTH)
        before = replies(client, USER)
        other = replies(client, "u03")
    shutil.rmtree(made.root)
    there = made.settings.model_copy(update={"data_dir": tmp_path / "elsewhere" / "store"})
    restore(there, tmp_path / "backup")
    with gateway_process(there, logs) as gateway, Client(gateway.target) as client:
        after = replies(client, USER)
        differing = [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        trust("answers compared after a restore", 2 * len(before), len(differing))
        assert differing == []
        assert replies(client, "u03") == other
        assert any("corrections" in line for line in after[-1])
    # The write path goes on, and nothing names the folder that is gone.
    replace(made, root=there.data_dir, settings=there).refresh()
    declared = (there.data_dir / DEFAULT_TENANT / "feast" / "feature_store.yaml").read_text()
    assert str(made.root) not in declared


def test_a_restored_store_is_whole_and_says_which_backup_there_is(published, tmp_path, trust):
    folder, store = published
    summary = restore(
        store.settings.model_copy(update={"data_dir": tmp_path / "data"}), folder / "backup"
    )
    again = at(store, tmp_path / "data")
    found = diagnose(again)
    trust("faults injected", 1, len(found) + int(again.online() != store.online()))
    assert found == []
    assert again.online() == store.online()
    assert event_ids(again) == event_ids(store)
    [listed] = backup_registry.live(again.layout, datetime.now(UTC))
    assert (listed.name, summary.erased_again) == (summary.name, 0)
    assert listed.expires_time - listed.created_time == MONTH
    manifest = read_manifest(folder / "backup")
    assert manifest.spaces == {DEFAULT_TENANT: [store.space_id]}
    assert manifest.tables[f"{DEFAULT_TENANT}/events"] >= 1
    again.refresh()
    assert again.online() == store.online()


def test_every_tenant_and_the_mode_of_private_files_come_back(published, tmp_path):
    folder, store = published
    first = at(store, shutil.copytree(folder / "data", tmp_path / "first"))
    first.layout.make_tenant("acme")
    secret = first.layout.keys_dir() / "receipts.pem"
    secret.parent.mkdir(exist_ok=True)
    secret.touch(mode=0o600)
    secret.write_text("private")
    back_up(first.settings, tmp_path / "backup", MONTH)
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700
    second = at(store, tmp_path / "second")
    restore(second.settings, tmp_path / "backup")
    assert second.layout.tenants() == ["acme", DEFAULT_TENANT]
    held = second.layout.keys_dir() / "receipts.pem"
    assert (held.read_text(), stat.S_IMODE(held.stat().st_mode)) == ("private", 0o600)


def test_nothing_acknowledged_before_a_backup_is_missing_from_it(published, tmp_path, trust):
    """Events come in, are taken in and published all the while."""
    folder, store = published
    first = at(store, shutil.copytree(folder / "data", tmp_path / "first"))
    acknowledged, failures, stop = [], [], threading.Event()

    def every(work):
        def run():
            number = 0
            try:
                while not stop.is_set():
                    work(number)
                    number += 1
            except Exception as error:
                failures.append(error)

        return threading.Thread(target=run)

    def record(number):
        first.record(some_events(5, seed=number, prefix=f"live{number}-"), "gateway-1")
        acknowledged.extend(f"live{number}-{n}" for n in range(5))
        # Without a pause no other commit to this log comes between: delta.forget gives up.
        time.sleep(0.02)

    threads = [every(record), every(lambda _: first.refresh())]
    for thread in threads:
        thread.start()
    taken = []
    for turn in range(3):
        until = time.monotonic() + 20
        seen = len(acknowledged)
        while len(acknowledged) < seen + 10 and not failures and time.monotonic() < until:
            time.sleep(0.01)
        before = set(acknowledged)
        back_up(first.settings, tmp_path / f"backup{turn}", MONTH)
        taken.append(before)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    missing, wrong = 0, []
    for turn, before in enumerate(taken):
        again = at(store, tmp_path / f"data{turn}")
        restore(again.settings, tmp_path / f"backup{turn}")
        held = set(event_ids(again))
        missing += len(before - held)
        wrong += diagnose(again)
        assert held <= {*acknowledged, *event_ids(store)}
        again.refresh()
        stored = open_stores(again.settings).tables.read_events(DEFAULT_TENANT)[EVENT_ID]
        assert (set(stored), stored.n_unique()) == (held, len(stored))
        assert diagnose(again) == []
    trust("faults injected", len(taken), missing + len(wrong))
    assert (missing, wrong) == (0, [])
    assert not list(first.settings.data_dir.rglob(".backup.*"))


def test_a_backup_waits_for_who_publishes_and_events_do_not_wait_for_it(published, tmp_path):
    folder, store = published
    first = at(store, shutil.copytree(folder / "data", tmp_path / "first"))
    thread = threading.Thread(target=lambda: back_up(first.settings, tmp_path / "b", MONTH))
    with alone(first.layout.state_dir(DEFAULT_TENANT)):
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        first.record(some_events(1, prefix="late"), "gateway-1")
    thread.join()
    second = at(store, tmp_path / "second")
    restore(second.settings, tmp_path / "b")
    assert "late0" in event_ids(second)


def damage(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "changed", "absent"])
def test_a_damaged_backup_is_refused_by_name_and_nothing_is_written(
    published, kept, tmp_path, how, trust
):
    _, store = published
    names = [name for name, entry in read_manifest(kept).files.items() if entry.size]
    chosen = names[:: max(1, len(names) // 8)]
    undetected = 0
    for name in chosen:
        sound = (kept / "data" / name).read_bytes()
        damage(kept / "data" / name, how)
        with pytest.raises(InvalidArgument) as refusal:
            restore(at(store, tmp_path / "data").settings, kept)
        undetected += name not in refusal.value.message
        (kept / "data" / name).write_bytes(sound)
    trust("faults injected", len(chosen), undetected)
    assert undetected == 0
    assert not (tmp_path / "data").exists()


def test_a_backup_without_a_whole_list_is_refused(published, kept, tmp_path):
    there = at(published[1], tmp_path / "data").settings
    manifest = kept / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole[: len(whole) // 2])
    with pytest.raises(InvalidArgument, match=r"manifest\.json is damaged"):
        restore(there, kept)
    outside = json.loads(whole)
    outside["files"]["../../escaped"] = next(iter(outside["files"].values()))
    manifest.write_text(json.dumps(outside))
    with pytest.raises(InvalidArgument, match="outside"):
        restore(there, kept)
    manifest.unlink()
    with pytest.raises(InvalidArgument, match="no finished backup"):
        restore(there, kept)
    assert not (tmp_path / "data").exists()


def files_of(folder):
    """All but what SQLite keeps beside a database while a reader has it open."""
    return sorted(path for path in folder.rglob("*") if not path.name.endswith(("-shm", "-wal")))


def test_a_data_folder_that_holds_something_is_not_restored_over(published, tmp_path):
    folder, store = published
    before = files_of(folder)
    with pytest.raises(InvalidArgument, match=r"not empty.*--erasures"):
        restore(store.settings, folder / "backup")
    assert files_of(folder) == before
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".restore.0").mkdir()  # of one that was killed
    restore(at(store, tmp_path).settings, folder / "backup")
    assert {path.name for path in tmp_path.glob("[.l]*")} == {"lost+found"}
    with pytest.raises(InvalidArgument, match="DRIFTLINE_BUCKET_COUNT=2"):
        other = {"data_dir": tmp_path / "other", "bucket_count": 4}
        restore(store.settings.model_copy(update=other), folder / "backup")


def test_a_backup_goes_into_a_new_folder_outside_only(published, tmp_path):
    folder, store = published
    for target, why in (
        (folder / "backup", "holds a backup already"),
        (store.settings.data_dir / "backup", "lies in the data folder"),
        (folder, "is not empty"),
    ):
        with pytest.raises(InvalidArgument, match=why):
            back_up(store.settings, target, MONTH)
    with pytest.raises(InvalidArgument, match="holds no store"):
        back_up(at(store, tmp_path / "none").settings, tmp_path / "b", MONTH)


def test_a_backup_that_was_cut_is_finished_and_one_that_failed_is_not_listed(
    published, tmp_path, monkeypatch
):
    folder, store = published
    first = at(store, shutil.copytree(folder / "data", tmp_path / "first"))
    target = tmp_path / "b"

    def full_after(stage, done, total):
        if done == 10:
            raise OSError(28, "No space left on device")

    listed = backup_registry.live(first.layout, datetime.now(UTC))
    with pytest.raises(DependencyUnavailable, match="No space"):
        back_up(first.settings, target, MONTH, full_after)
    assert backup_registry.live(first.layout, datetime.now(UTC)) == listed
    (target / "data" / "stale").touch()
    back_up(first.settings, target, MONTH)
    restore(at(store, tmp_path / "second").settings, target)
    assert not (tmp_path / "second" / "stale").exists()
    assert diagnose(at(store, tmp_path / "second")) == []

    monkeypatch.setattr(snapshot.os, "link", no_links)
    back_up(first.settings, tmp_path / "copied", MONTH)
    restore(at(store, tmp_path / "third").settings, tmp_path / "copied")
    assert event_ids(at(store, tmp_path / "third")) == event_ids(store)


def no_links(*_):
    raise PermissionError(1, "Operation not permitted")


def erase(store, *users):
    requests = request_erasures(store.settings, DEFAULT_TENANT, users)
    stores = open_stores(store.settings)
    preprocess(stores.tables, store.settings)
    erase_requested(stores.tables, stores.features, stores.models, stores.overlays, store.settings)
    return requests


def users_of(store):
    events = open_stores(store.settings).tables.read_events(DEFAULT_TENANT)
    online = {user for rows in store.online().values() for user in rows}
    return online | set(events[USER_ID])


def test_who_was_erased_since_stays_erased_where_the_old_folder_knows(published, tmp_path, trust):
    folder, store = published
    first = at(store, shutil.copytree(folder / "data", tmp_path / "first"))
    first.record(some_events(8, prefix="waits"))
    asyncio.run(
        open_stores(first.settings).overlays.put(
            DEFAULT_TENANT, "u3", Correction(topic_id="t", wish=Wish.MORE, made_time=NOW)
        )
    )
    back_up(first.settings, tmp_path / "b", MONTH)
    requests = erase(first, "u3", "stranger")
    waiting = Receipts(first.layout).get(DEFAULT_TENANT, requests.values())[requests["u3"]]
    assert {p.name for p in waiting.receipt.places if p.pending} == {"backups"}
    # Asked for and not carried out when the folder was lost.
    request_erasures(first.settings, DEFAULT_TENANT, ["u4"])

    second = at(store, tmp_path / "second")
    summary = restore(second.settings, tmp_path / "b", tmp_path / "first")
    back = users_of(second) & {"u3", "u4"}
    trust("users erased", 2, len(back))
    assert back == set()
    assert users_of(second) == {f"u{n}" for n in (0, 1, 2, 5, 6, 7)}
    assert summary.erased_again == 2
    overlays = open_stores(second.settings).overlays
    assert asyncio.run(overlays.read(DEFAULT_TENANT, "u3")) == ()
    told = Receipts(second.layout).get(DEFAULT_TENANT, requests.values())
    assert {p.name for p in told[requests["u3"]].receipt.places if p.pending} == {"backups"}
    # A replay of what the backup held is refused as before.
    known = ErasedUsers(second.layout).tombstones(DEFAULT_TENANT)
    assert set(known.requests(["u3", "u4", "stranger", "u5"])) == {"u3", "u4", "stranger"}
    second.record(some_events(), "gateway-2")
    second.refresh()
    assert users_of(second) & {"u3", "u4"} == set()
    assert diagnose(second) == []

    # A later backup knows them as well as the folder does.
    back_up(first.settings, tmp_path / "later", MONTH)
    third = at(store, tmp_path / "third")
    restore(third.settings, tmp_path / "b", tmp_path / "later")
    assert users_of(third) == {f"u{n}" for n in (0, 1, 2, 5, 6, 7)}


def test_tombstones_of_another_store_are_refused(published, tmp_path):
    folder, store = published
    known = []
    for name in ("one", "two"):
        known.append(at(store, shutil.copytree(folder / "data", tmp_path / name)))
        erase(known[-1], "u1")
    back_up(known[0].settings, tmp_path / "b", MONTH)
    with pytest.raises(InvalidArgument, match="not this store's"):
        restore(at(store, tmp_path / "data").settings, tmp_path / "b", tmp_path / "two")
    assert not list((tmp_path / "data").iterdir())
    with pytest.raises(InvalidArgument, match="neither a data folder nor a backup"):
        restore(at(store, tmp_path / "data").settings, tmp_path / "b", tmp_path / "data")


def test_an_expired_backup_comes_back_only_with_what_was_erased_since(published, kept, tmp_path):
    folder, store = published
    said = json.loads((kept / "manifest.json").read_text())
    said["expires_time"] = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    (kept / "manifest.json").write_text(json.dumps(said))
    there = at(store, tmp_path / "data").settings
    with pytest.raises(InvalidArgument, match="expired"):
        restore(there, kept)
    restore(there, kept, folder / "data")


def test_a_store_on_redis_comes_back_with_corrections_and_a_rebuild(tmp_path, valkey, trust):
    import redis

    store = make_store(tmp_path, online_store="redis", redis_url=valkey)
    store.record(some_events())
    store.refresh()
    said = Correction(topic_id="t", wish=Wish.MORE, made_time=NOW)

    def overlays(of, work):
        async def run():
            opened = open_stores(of.settings).overlays
            try:
                return await work(opened)
            finally:
                await opened.close()

        return asyncio.run(run())

    overlays(store, lambda held: held.put(DEFAULT_TENANT, "u1", said))
    before = store.online()
    back_up(store.settings, tmp_path / "b", MONTH)
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    second = at(store, tmp_path / "second")
    assert restore(second.settings, tmp_path / "b").needs_rebuild
    assert overlays(second, lambda held: held.read(DEFAULT_TENANT, "u1")) == (said,)
    assert not second.layout.overlays_file(DEFAULT_TENANT).exists()

    async def rebuild():
        compute = LocalCompute(second.settings)
        reader = open_online_reader(second.settings.feast_config(), second.layout)
        await rebuild_online(compute.stores, reader, compute, second.settings)

    asyncio.run(rebuild())
    trust("faults injected", 1, int(second.online() != before))
    assert second.online() == before
    assert diagnose(second) == []


def test_a_table_is_pinned_where_its_log_has_no_gap(published, tmp_path):
    """A listing made while two commits come in may show the second alone."""
    folder, store = published
    first = at(store, shutil.copytree(folder / "data", tmp_path / "first"))
    log = first.layout.inbox_dir(DEFAULT_TENANT, "gateway-1") / "events" / "_delta_log"
    for number in range(2):
        first.record(some_events(1, prefix=f"gap{number}-"), "gateway-1")
    (log / f"{1:020}.json").rename(tmp_path / "not-listed")
    back_up(first.settings, tmp_path / "b", MONTH)
    restore(at(store, tmp_path / "data").settings, tmp_path / "b")
    table = f"{DEFAULT_TENANT}/inbox/gateway-1/events"
    assert read_manifest(tmp_path / "b").tables[table] == 0
    assert not {"gap0-0", "gap1-0"} & set(event_ids(at(store, tmp_path / "data")))
