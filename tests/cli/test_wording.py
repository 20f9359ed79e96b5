"""`driftline portraits` and `briefs` as typed, on a small refreshed store, by a tiny decoder."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from services.cli import app
from services.core.errors import InvalidArgument, UserNotFound
from services.core.schema import DEFAULT_TENANT
from services.encoder.encoder import Encoder
from services.encoder.opening import open_stores as open_encoder_stores
from services.pipeline.demand import refresh_demand
from services.pipeline.stores import open_stores
from services.runtime.settings import Settings
from services.store.backbone import load_backbone
from services.store.layout import Layout
from tests.small_store import BUCKETS, NOW, fill, make_model
from tests.training.tuning.tiny import tiny_decoder, tiny_encoder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Users' activity, topics and demand, as a refresh leaves them."""
    root = tmp_path_factory.mktemp("wording")
    settings = Settings(data_dir=root / "data", bucket_count=BUCKETS, now=NOW)
    backbone = load_backbone(tiny_encoder(root / "base"))
    model = make_model(backbone)
    fill(Layout(settings.data_dir, BUCKETS), model, root)
    opened = replace(open_encoder_stores(settings), load_encoder=lambda spec: backbone)
    encoder = Encoder(opened, settings)
    encoder.refresh_items(DEFAULT_TENANT, is_full=True, cancelled=lambda: False)
    encoder.refresh_interests(DEFAULT_TENANT, [], is_full=True, cancelled=lambda: False)
    stores = open_stores(settings)
    refresh_demand(stores.of_demand(), settings, DEFAULT_TENANT, model.space_id)
    return settings


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """It says its few words at random, and reads as many tokens as the facts have."""
    folder = tmp_path_factory.mktemp("decoder")
    config = folder / "config.json"
    tiny_decoder(folder)
    said = json.loads(config.read_text()) | {"max_position_embeddings": 4096}
    config.write_text(json.dumps(said))
    return folder


@pytest.fixture
def run(store, monkeypatch):
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(store.data_dir))
    monkeypatch.setenv("DRIFTLINE_BUCKET_COUNT", str(BUCKETS))
    monkeypatch.setenv("DRIFTLINE_NOW", NOW.isoformat())

    def typed(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return typed


def test_portraits_a_model_cannot_word_are_the_templates_with_reasons_and_citations(
    run, decoder, tmp_path
):
    out = tmp_path / "said.jsonl"
    said = run(
        "portraits",
        "--user=u1",
        "--user=u2",
        "--model",
        decoder,
        "--tries=2",
        "--max-tokens=8",
        "--out",
        out,
    )
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["about"] for line in lines] == ["u1", "u2"]
    for line in lines:
        assert line["source"] == "template"
        assert line["text"].startswith("Mostly ")
        assert line["text"] in said
        assert len(line["refused"]) == 2
        assert all(refusal["reasons"] for refusal in line["refused"])
        assert line["citations"][-1].startswith("activity: 40 events")
        assert all(citation in said for citation in line["citations"])
    assert said.count("in words of the template") == 2
    assert said.count("was refused: ") == 4


def test_a_brief_is_worded_the_same_way(run, decoder):
    said = run("briefs", "--cohort=all", "--model", decoder, "--tries=1")
    assert "all, in words of the template:" in said
    assert "At least " in said
    assert "who: cohort_users" in said
    assert "answer 1 was refused: " in said


def test_what_cannot_be_worded_is_said_in_a_sentence(run, decoder, tmp_path):
    with pytest.raises(UserNotFound):
        run("portraits", "--user=nobody", "--model", decoder)
    with pytest.raises(InvalidArgument, match="say one of --topic and --cohort"):
        run("briefs", "--model", decoder)
    with pytest.raises(InvalidArgument, match="name a decoder"):
        run("portraits", "--user=u1", "--model", tiny_encoder(tmp_path / "encoder"))
