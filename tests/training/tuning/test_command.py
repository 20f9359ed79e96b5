from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from services.core.errors import InvalidArgument
from services.core.items import with_content_hash
from services.core.schema import DEFAULT_TENANT as TENANT
from services.core.schema import Granularity
from services.store.erasures import record_erasures
from services.store.model_folder import load_model
from services.training.command import TrainRequest, run_train
from services.training.tuning.command import material, run_tune
from services.training.tuning.config import Mode, Objective
from tests.planted import START, TOPICS, planted_events
from tests.training.store import CONFIG, UNTIL, Store
from tests.training.tuning.tiny import quick, tiny_encoder

EVENTS = planted_events(users=16)


def stored(root, backbone=""):
    """Return a store whose items say their topic, which is also their category."""
    store = Store(root)
    store.settings = store.settings.model_copy(update={"backbone": backbone})
    items = EVENTS.unique("item_id", maintain_order=True).select(
        "item_id", pl.lit("").alias("title"), "text",
        pl.concat_list(pl.col("item_id").str.split("-").list.first()).alias("categories"),
        pl.lit(START - timedelta(days=1)).cast(pl.Datetime("us", "UTC")).alias("updated_time"),
        pl.lit(START).cast(pl.Datetime("us", "UTC")).alias("ingest_time"),
    )  # fmt: skip
    store.tables.append_items(TENANT, with_content_hash(items), "items")
    rows = EVENTS.drop("text").with_columns(
        pl.int_range(pl.len()).cast(pl.String).alias("event_id"),
        pl.lit(UNTIL).cast(pl.Datetime("us", "UTC")).alias("ingest_time"),
    )
    store.tables.append_events(TENANT, rows, "events")
    return store


def material_of(store, until=UNTIL):
    return material(
        store.tables.read_events(TENANT), store.tables.read_items(TENANT),
        until=until, granularity=Granularity.WEEK,
    )  # fmt: skip


def test_labels_are_first_categories_and_are_cut_out_of_the_text(tmp_path):
    said = material_of(stored(tmp_path))
    assert set(said.signals.labels) == set(TOPICS)
    for text, unlabelled, label in zip(
        said.texts, said.unlabelled, said.signals.labels, strict=True
    ):
        assert text == f"{label} {unlabelled}"


def test_nothing_at_or_after_the_end_is_read(tmp_path):
    store = stored(tmp_path)
    whole = material_of(store)
    future = EVENTS.filter(pl.col("event_time") >= UNTIL)
    assert future.height > 50
    cut = material(
        store.tables.read_events(TENANT).filter(pl.col("event_time") < UNTIL),
        store.tables.read_items(TENANT), until=UNTIL, granularity=Granularity.WEEK,
    )  # fmt: skip
    assert whole.signals.sha256(whole.texts) == cut.signals.sha256(cut.texts)
    assert whole.signals.histories.period_E.max() == whole.signals.histories.last


def test_values_are_ratings_where_there_are_any_else_logs_of_quantities(tmp_path):
    store = stored(tmp_path)
    events, items = store.tables.read_events(TENANT), store.tables.read_items(TENANT)
    bought = events.with_columns(pl.lit(3.0).alias("value"))

    def values(frame):
        said = material(frame, items, until=UNTIL, granularity=Granularity.WEEK)
        return said.signals.value_N[np.isfinite(said.signals.value_N)]

    assert np.allclose(values(bought), np.log(4.0))
    rated = bought.head(300).with_columns(pl.lit("rating").alias("kind"))
    assert np.allclose(values(pl.concat([rated, bought])), 3.0)


def test_a_tuned_folder_is_what_training_then_uses(tmp_path):
    store = stored(tmp_path / "store", tiny_encoder(tmp_path / "base"))
    config = quick(Mode.FULL, Objective.CONTRASTIVE, steps=4)
    out = tmp_path / "tuned"
    result = run_tune(store.tables, store.settings, config, until=UNTIL, out=out)
    assert result.report["trained_until"] == UNTIL.isoformat()
    settings = store.settings.model_copy(update={"backbone": str(out)})
    brief = replace(CONFIG, ranker=replace(CONFIG.ranker, epochs=1))
    info = run_train(
        store.tables, store.models, settings, TrainRequest(until=UNTIL),
        layout=store.layout, config=brief,
    )  # fmt: skip
    model = load_model(Path(store.models.folder(TENANT, info.model_version)))
    assert model.backbone.weights_sha256 == result.report["weights_sha256"]
    assert model.backbone.name == str(out)


def test_a_backbone_that_is_named_goes_before_the_settings_one(tmp_path):
    store = stored(tmp_path / "store", str(tmp_path / "nowhere"))
    base = tiny_encoder(tmp_path / "base")
    config = quick(Mode.HEAD, Objective.CONTRASTIVE, steps=1)
    given = {"until": UNTIL, "out": tmp_path / "out", "backbone": base}
    result = run_tune(store.tables, store.settings, config, **given)
    assert result.report["base"]["name"] == base


def test_users_who_asked_to_be_erased_are_left_out(tmp_path):
    store = stored(tmp_path / "store", tiny_encoder(tmp_path / "base"))
    config = quick(Mode.HEAD, Objective.CONTRASTIVE, steps=1)

    def data_hash(name):
        given = {"until": UNTIL, "out": tmp_path / name}
        return run_tune(store.tables, store.settings, config, **given).report["data_sha256"]

    before = data_hash("before")
    rows = pl.DataFrame({"erasure_id": ["e"], "user_id": ["u01"], "ingest_time": [UNTIL]})
    record_erasures(store.tables, TENANT, rows)
    assert data_hash("after") != before


def test_too_little_data_says_what_to_do(tmp_path):
    store = stored(tmp_path / "store", tiny_encoder(tmp_path / "base"))
    config = quick(Mode.HEAD, Objective.CONTRASTIVE, held_out_periods=12)
    with pytest.raises(InvalidArgument, match="import more or hold out fewer"):
        run_tune(store.tables, store.settings, config, until=UNTIL, out=tmp_path / "out")
    with pytest.raises(InvalidArgument, match="the first is of 2026"):
        run_tune(
            store.tables, store.settings, config,
            until=START - timedelta(days=9), out=tmp_path / "out",
        )  # fmt: skip
    with pytest.raises(InvalidArgument, match="driftline import"):
        empty = Store(tmp_path / "empty")
        run_tune(empty.tables, empty.settings, config, until=UNTIL, out=tmp_path / "out")
