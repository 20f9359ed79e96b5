"""Commands as typed: `driftline compare`, `promote`, `migrate`, on a small store with a tiny text model."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from services.cli import app, main
from services.core.schema import DEFAULT_TENANT
from services.store.backbone import load_backbone
from services.store.layout import Layout
from services.store.model_folder import save_model
from services.store.models import FolderRegistry
from services.store.tables import DeltaTables
from tests.small_store import BUCKETS, NOW, TITLES, USERS, WIDTH, fill, make_model
from tests.store.test_promotion import CARD
from tests.training.tuning.tiny import tiny_encoder


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """m1 is live; m2 ranks by the vector, m3 against it; far is of another space."""
    layout = Layout(tmp_path / "data", BUCKETS)
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(layout.root))
    monkeypatch.setenv("DRIFTLINE_BUCKET_COUNT", str(BUCKETS))
    monkeypatch.setenv("DRIFTLINE_NOW", NOW.isoformat())
    backbone = load_backbone(str(tiny_encoder(tmp_path / "base")))
    live = make_model(backbone)
    fill(layout, live, tmp_path)
    favourites(layout)
    made = FolderRegistry(layout)
    eye = np.stack([np.eye(WIDTH, dtype=np.float32)] * 3)
    for version, query, bias in (("m2", eye, 0.0), ("m3", -eye, -20.0)):
        ranker = replace(live.ranker, query_HDD=query, repeat_bias=bias)
        model = replace(live, model_version=version, ranker=ranker, card=CARD)
        made.add(DEFAULT_TENANT, str(tmp_path / version), save_model(tmp_path / version, model))
    return made


def favourites(layout):
    """Let each user have one of three items most days: a ranker that looks away then loses."""
    days, names = range(1, 90), [name for name in TITLES if TITLES[name]]
    rows = [
        (f"u{user}", names[user % 3], NOW - timedelta(days=day))
        for user in range(USERS)
        for day in days
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "event_time"], orient="row")
    DeltaTables(layout).append_events(
        DEFAULT_TENANT,
        events.with_columns(
            pl.format("f{}", pl.int_range(pl.len())).alias("event_id"),
            pl.lit("purchase").alias("kind"),
            pl.lit(1.0).alias("value"),
            pl.lit(NOW).alias("ingest_time"),
        ),
        "favourites",
    )


def run(*words):
    found = CliRunner().invoke(app, list(words))
    assert found.exit_code == 0, (found.output, found.exception)
    return " ".join(found.output.split())


def fails(monkeypatch, capsys, *words) -> str:
    monkeypatch.setattr("sys.argv", ["driftline", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in said
    return said


def live(registry) -> str:
    return registry.live(DEFAULT_TENANT).model_version


def test_a_model_is_compared_refused_where_it_is_worse_and_promoted_when_told(
    registry, monkeypatch, capsys
):
    said = run("compare", "m3", "--origins=3", "--users=40")
    assert "m3 beside the live m1" in said
    assert "ndcg_at_10" in said
    said = fails(monkeypatch, capsys, "promote", "m3")
    assert "m3 is proven worse than the live m1: ndcg_at_10" in said
    assert live(registry) == "m1"
    assert "judged by" in run("promote", "m3", "--although-worse")
    assert live(registry) == "m3"
    # Compared with nothing that is live now.
    assert "it was not compared" in run("promote", "m2")
    assert live(registry) == "m2"


def test_what_cannot_be_done_is_said_in_a_sentence_and_the_status_names_the_shadow(
    registry, monkeypatch, capsys
):
    assert "no model 'm9'" in fails(monkeypatch, capsys, "compare", "m9")
    assert "no model 'm9'" in fails(monkeypatch, capsys, "promote", "m9")
    assert "say one of --to" in fails(monkeypatch, capsys, "migrate")
    assert "say one of --to" in fails(monkeypatch, capsys, "migrate", "--rollback", "--finish")
    assert "no migration to roll back" in fails(monkeypatch, capsys, "migrate", "--rollback")
    assert "promote it instead" in fails(monkeypatch, capsys, "migrate", "--to=m2")
    assert "kept fresh" not in run("status")
    registry.set_shadow(DEFAULT_TENANT, "m2")
    assert "m2" in run("status").partition("kept fresh beside the live one")[0]
    run("migrate", "--finish")
    assert "kept fresh" not in run("status")
