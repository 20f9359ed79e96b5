import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from services.core.errors import DiskUnavailable, InvalidArgument, NotReady, Overloaded
from services.core.schema import DEFAULT_TENANT as TENANT
from services.store.backbone import load_backbone
from services.store.disk import told
from services.store.erasures import record_erasures
from services.store.model_folder import load_model
from services.training.checkpoints import work_folder
from services.training.command import item_texts
from services.training.workers import ComputeConfig
from tests.disks import small_files
from tests.planted import planted_events
from tests.training.store import UNTIL, Store, filled

ROOT = Path(__file__).parents[2]


def model_of(store, info):
    return load_model(Path(store.models.folder(TENANT, info.model_version)))


def request_erasure(store, user, erasure_id, at):
    rows = pl.DataFrame({"erasure_id": [erasure_id], "user_id": [user], "ingest_time": [at]})
    record_erasures(store.tables, TENANT, rows)


def test_a_stored_history_becomes_a_live_model_and_leaves_no_state(tmp_path):
    store = filled(tmp_path)
    info = store.train()
    assert info.stage == "live"
    assert store.models.live(TENANT).model_version == info.model_version
    read = model_of(store, info)
    assert read.backbone == load_backbone().spec
    assert read.trained_until == UNTIL
    assert read.card.config["ranker"]["width"] == 8
    assert store.states() == []


def test_a_training_that_is_killed_goes_on_and_makes_the_same_model(tmp_path):
    whole = filled(tmp_path / "whole").train()
    store = filled(tmp_path / "killed")
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.training.store", str(tmp_path / "killed")],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    for line in child.stdout:
        if line.split() == ["train", "ranker", "17"]:
            break
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert "ranker.safetensors" in store.states()
    assert store.models.list(TENANT) == []
    steps = []
    info = store.train(
        on_progress=lambda stage, done, total: steps.append(done) if "ranker" in stage else None
    )
    assert info.model_version == whole.model_version
    assert steps[0] >= 17
    assert store.states() == []


class Killed(Exception):
    pass


def stop_at(stage, done):
    def on_progress(now, steps, total):
        if (now, steps) == (stage, done):
            raise Killed

    return on_progress


@pytest.mark.slow
def test_a_training_whose_disk_is_full_says_so_and_goes_on(tmp_path, trust):
    whole = filled(tmp_path / "whole").train()
    store = filled(tmp_path / "full")
    for most_bytes in (0, 2_000, 20_000):
        with small_files(most_bytes), pytest.raises(Exception) as caught:
            store.train()
        assert isinstance(told(caught.value), DiskUnavailable), repr(caught.value)
        assert store.models.list(TENANT) == []
    again = store.train()
    trust("faults injected", 3, int(again.model_version != whole.model_version))
    assert again.model_version == whole.model_version
    assert store.states() == []


def test_a_ranker_that_is_done_is_not_trained_again(tmp_path):
    store = filled(tmp_path)
    with pytest.raises(Killed):
        store.train(on_progress=stop_at("train gru", 1))
    told = set()
    store.train(on_progress=lambda stage, done, total: told.add(stage))
    assert "train gru" in told
    assert "train ranker" not in told


def test_other_data_and_fresh_begin_anew(tmp_path):
    store = filled(tmp_path)
    for change in ({"fresh": True}, {"until": UNTIL - timedelta(weeks=1)}):
        with pytest.raises(Killed):
            store.train(on_progress=stop_at("train ranker", 3))
        steps = []
        store.train(
            on_progress=lambda stage, done, total, steps=steps: (
                steps.append(done) if stage == "train ranker" else None
            ),
            **change,
        )
        assert steps[0] == 1
        assert store.states() == []


def test_a_request_for_what_the_machine_lacks_is_refused(tmp_path):
    store = filled(tmp_path)
    with pytest.raises(InvalidArgument, match="workers: 0 is too few; ask for 1 or more"):
        store.train(compute=ComputeConfig(workers=0))
    assert store.states() == []


def test_one_training_at_a_time(tmp_path):
    store = filled(tmp_path)
    with (
        work_folder(store.layout.training_dir(TENANT)),
        pytest.raises(Overloaded, match="one training"),
    ):
        store.train()


def test_users_who_asked_to_be_erased_are_left_out_and_the_card_says_so(tmp_path):
    store = filled(tmp_path / "asked")
    request_erasure(store, "u03", "e-1", UNTIL)
    request_erasure(store, "nobody", "e-2", UNTIL)
    info = store.train()
    without = planted_events(users=16).filter(pl.col("user_id") != "u03")
    assert info.model_version == filled(tmp_path / "never", without).train().model_version
    card = model_of(store, info).card
    assert card.erasures.left_out == ("e-1",)
    assert card.erasures.predated == ()
    folder = Path(store.models.folder(TENANT, info.model_version))
    assert "u03" not in (folder / "card.json").read_text() + (folder / "README.md").read_text()


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A live model, four more weeks with a new user and a new item, and the model that goes on."""
    store = filled(tmp_path_factory.mktemp("store"))
    first = store.train()
    new = planted_events(users=1, weeks=16).with_columns(
        pl.lit("newcomer").alias("user_id"),
        pl.lit("tea-novel").alias("item_id"),
        pl.lit("tea novelty").alias("text"),
    )
    store.append(new.filter(pl.col("event_time") >= UNTIL), UNTIL + timedelta(weeks=4))
    request_erasure(store, "u05", "e-9", datetime.now(UTC))
    second = store.train(until=UNTIL + timedelta(weeks=4), from_live=True)
    return store, model_of(store, first), model_of(store, second)


def test_going_on_from_the_live_model_moves_no_vector_and_knows_what_is_new(followed):
    store, first, second = followed
    assert second.space_id == first.space_id
    assert second.model_version != first.model_version
    assert store.models.live(TENANT).model_version == second.model_version
    of_text = dict(planted_events(users=16).select("text", "item_id").unique().iter_rows())
    texts = load_backbone().encode(sorted(of_text))
    items = [of_text[text] for text in sorted(of_text)]
    old, now = (model.tower.item_vectors(texts, items) for model in (first, second))
    assert old.tobytes() == now.tobytes()
    assert second.card.data.users == first.card.data.users - 1 + 1  # u05 asked to be erased
    assert second.card.data.items == first.card.data.items + 1
    novelty = second.tower.item_vectors(load_backbone().encode(["tea novelty"]), ["novelty"])
    np.testing.assert_allclose(np.linalg.norm(novelty), 1.0, atol=1e-5)
    assert not np.array_equal(first.ranker.query_HDD, second.ranker.query_HDD)


def test_the_card_names_the_parent_and_erasures_that_its_weights_predate(followed):
    _, first, second = followed
    assert second.card.parent_version == first.model_version
    assert first.card.parent_version == ""
    assert second.card.erasures.left_out == ("e-9",)
    assert second.card.erasures.predated == ("e-9",)
    assert len(second.card.split.origins) == 4


def test_a_model_that_went_on_can_be_gone_on_from_at_the_same_pace(followed):
    store, first, second = followed
    third = model_of(
        store,
        store.train(until=UNTIL + timedelta(weeks=4, days=1), base=second.model_version, promote=False),
    )  # fmt: skip
    paces = [model.card.config["ranker"]["matrix_rate"] for model in (first, second, third)]
    assert paces[2] == paces[1] < paces[0]
    assert third.card.erasures.predated == ("e-9",)


def test_a_base_that_saw_more_or_is_not_there_is_refused(followed, tmp_path):
    store, first, _ = followed
    with pytest.raises(InvalidArgument, match="has seen all before"):
        store.train(base=first.model_version)
    with pytest.raises(InvalidArgument, match="no model 'm0'"):
        store.train(base="m0")
    with pytest.raises(NotReady, match="live model"):
        Store(tmp_path).train(from_live=True)


def test_nothing_stored_says_to_import(tmp_path):
    with pytest.raises(InvalidArgument, match="driftline import"):
        Store(tmp_path).train()


def test_states_are_no_pickles(tmp_path):
    store = filled(tmp_path)
    with pytest.raises(Killed):
        store.train(on_progress=stop_at("train ranker", 3))
    (path,) = store.layout.training_dir(TENANT).glob("*/ranker.safetensors")
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert "module/projection_VD" in header
    assert len(json.loads(header["__metadata__"]["state"])["losses"]) == 3


def test_training_reads_what_the_encoder_reads():
    at = datetime(2026, 1, 1, tzinfo=UTC)
    items = pl.DataFrame(
        {
            "item_id": ["a", "b"],
            "title": ["Tea", ""],
            "text": ["strong", " green "],
            "categories": [["drinks"], []],
            "updated_time": [at, at],
        }
    )
    read = item_texts(items)
    assert read["text"].to_list() == ["Tea. strong", "green"]
    assert read["categories"].to_list() == [["drinks"], []]
