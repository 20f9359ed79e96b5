from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from services.core.corrections import Correction, Wish
from services.core.schema import DEFAULT_TENANT, INGEST_TIME, USER_ID
from services.pipeline.erasure import erase_requested
from services.store.erasures import ERASURE_ID, pending_erasures, record_erasures
from services.store.memory_features import MemoryFeatures
from services.store.model_card import load_card
from services.store.overlays import MemoryOverlays
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
