import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from services.core.corrections import Correction, Wish
from services.core.errors import InvalidArgument
from services.core.schema import DEFAULT_TENANT, INGEST_TIME, USER_ID, rank_state_view
from services.pipeline.erasure import erase_requested, request_erasures
from services.pipeline.preprocess import preprocess
from services.store import backup_registry
from services.store.backup_registry import Backup
from services.store.erasures import ERASURE_ID, pending_erasures, record_erasures
from services.store.memory_features import MemoryFeatures
from services.store.model_card import load_card
from services.store.overlays import MemoryOverlays
from services.store.receipts import Receipts
from tests.encoder.world import event, item
from tests.encoder.world import world as encoder_world
from tests.training.store import filled

TENANT = DEFAULT_TENANT


def ask(store, user_id, erasure_id):
    rows = {ERASURE_ID: [erasure_id], USER_ID: [user_id], INGEST_TIME: [datetime.now(UTC)]}
    record_erasures(store.tables, TENANT, pl.DataFrame(rows))


def carry_out(store, overlays=None):
    features = MemoryFeatures(bucket_count=store.settings.bucket_count)
    return erase_requested(
        store.tables, features, store.models, overlays or MemoryOverlays(), store.settings
    )


@pytest.fixture(scope="module")
def erased(tmp_path_factory):
    """A store whose model saw u03 and had left u04 out; then both and a stranger are erased."""
    store = filled(tmp_path_factory.mktemp("store"))
    ask(store, "u04", "e-before")
    info = store.train()
    for user_id, erasure_id in (("u03", "e-after"), ("nobody", "e-stranger")):
        ask(store, user_id, erasure_id)
    carry_out(store)
    folder = Path(store.models.folder(TENANT, info.model_version))
    return store, folder


def test_the_card_of_a_model_that_had_learned_from_the_user_names_the_request(erased):
    _, folder = erased
    assert load_card(folder).erasures.left_out == ("e-before",)
    assert load_card(folder).erasures.predated == ("e-after",)
    page = (folder / "README.md").read_text()
    assert "retrain anew to be rid of it" in page
    assert "u03" not in page + (folder / "card.json").read_text()


def test_the_model_is_still_whole_and_can_go_live(erased):
    store, folder = erased
    store.models.promote(TENANT, folder.name)
    assert store.models.live(TENANT).model_version == folder.name


def test_the_users_events_are_gone_and_the_requests_are_forgotten(erased):
    store, _ = erased
    left = set(store.tables.read_events(TENANT)[USER_ID])
    assert {"u03", "u04"}.isdisjoint(left)
    assert "u05" in left
    assert pending_erasures(store.tables, TENANT) == []
    assert carry_out(store) == 0


async def test_what_an_erased_user_said_of_the_portrait_goes_too(tmp_path):
    store, overlays = filled(tmp_path), MemoryOverlays()
    said = Correction(topic_id="t1", wish=Wish.MORE, made_time=datetime.now(UTC))
    for user_id in ("u03", "u04"):
        await overlays.put(TENANT, user_id, said)
    ask(store, "u03", "e-1")
    assert carry_out(store, overlays) == 1
    assert await overlays.read(TENANT, "u03") == ()
    assert await overlays.read(TENANT, "u04") == (said,)


def test_a_receipt_waits_for_the_last_backup(tmp_path):
    store = filled(tmp_path)
    now = datetime.now(UTC)
    gone_by = now + timedelta(days=30)
    backup_registry.record(store.layout, Backup(name="b1", created_time=now, expires_time=gone_by))
    ask(store, "u03", "e-1")
    assert carry_out(store) == 1
    [waiting] = Receipts(store.layout).list(TENANT, is_pending=True)
    pending = {place.name: place.gone_by for place in waiting.receipt.places if place.pending}
    assert pending == {"backups": gone_by}
    (store.layout.backups_dir() / "b1.json").unlink()
    assert carry_out(store) == 0
    [done] = Receipts(store.layout).list(TENANT)
    assert (done.receipt.state, done.receipt.erasure_id) == ("DONE", "e-1")


def test_many_are_erased_in_one_pass_each_with_a_receipt_of_their_own(tmp_path, trust):
    store = filled(tmp_path)
    users = [f"u{number:02}" for number in range(0, 16, 2)]
    requests = request_erasures(store.settings, TENANT, [*users, *users])
    preprocess(store.tables, store.settings)
    assert carry_out(store) == len(users)
    left = set(store.tables.read_events(TENANT)[USER_ID]) & set(users)
    trust("users erased", len(users), len(left))
    assert left == set()
    receipts = Receipts(store.layout).get(TENANT, requests.values())
    removed = {
        user: {p.name: p.removed for p in receipts[requests[user]].receipt.places}["events"]
        for user in users
    }
    assert min(removed.values()) >= 48
    with pytest.raises(InvalidArgument, match="at least one"):
        request_erasures(store.settings, TENANT, [])


def test_a_model_that_learned_while_the_request_came_in_names_it(tmp_path):
    store = filled(tmp_path)

    def erase_meanwhile(stage, done, total):
        if not pending_erasures(store.tables, TENANT) and not carried:
            ask(store, "u03", "e-meanwhile")
            carry_out(store)
            carried.append(stage)

    carried = []
    info = store.train(on_progress=erase_meanwhile)
    card = load_card(Path(store.models.folder(TENANT, info.model_version)))
    assert carried
    assert card.erasures.predated == ("e-meanwhile",)
    assert card.erasures.noted_time


def test_a_refresh_under_way_brings_nobody_back(tmp_path, trust):
    """The refresh has read the user and is about to publish when the erasure comes in."""
    made = encoder_world(tmp_path)
    made.add_items(item("tea"))
    made.add_events(event("ann"), event("bob"))
    made.encoder.refresh_items(TENANT, is_full=False, cancelled=bool)
    is_writing, may_write = threading.Event(), threading.Event()
    write = made.features.write_online

    def slow_write(tenant, view, rows):
        if "ann" in set(rows[USER_ID]):
            is_writing.set()
            assert may_write.wait(10)
        write(tenant, view, rows)

    made.features.write_online = slow_write
    refresh = threading.Thread(
        target=lambda: made.encoder.refresh_interests(TENANT, [], is_full=True, cancelled=bool)
    )
    rows = {ERASURE_ID: ["e-1"], USER_ID: ["ann"], INGEST_TIME: [datetime.now(UTC)]}
    record_erasures(made.tables, TENANT, pl.DataFrame(rows))
    erasure = threading.Thread(
        target=lambda: erase_requested(
            made.tables, made.features, NoModels(), MemoryOverlays(), made.settings
        )
    )
    refresh.start()
    assert is_writing.wait(10)
    erasure.start()
    erasure.join(0.2)
    assert erasure.is_alive()  # waits for the bucket
    may_write.set()
    refresh.join()
    erasure.join()
    made.encoder.refresh_interests(TENANT, [], is_full=True, cancelled=bool)
    view = rank_state_view(made.space_id)
    left = made.features.user_ids(view) & {"ann"}
    trust("users erased", 1, len(left))
    assert left == set()
    assert made.features.user_ids(view) == {"bob"}


class NoModels:
    def list(self, tenant):
        return []
