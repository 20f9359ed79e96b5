from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from services.core.errors import InvalidArgument
from services.core.forecasters import load_forecaster
from services.core.recurrent import RecurrentConfig
from services.core.schema import Granularity
from services.core.trajectories import TrajectoryBatch
from services.store.model_folder import load_model, save_model
from services.training.command import item_texts, parse_until, run_train
from services.training.forecaster import ForecasterConfig
from services.training.ranker import RankerConfig
from services.training.train import TrainConfig, train
from tests.planted import START, WordEncoder, planted_events

CONFIG = TrainConfig(
    ranker=RankerConfig(width=8, epochs=1, origins=2),
    forecaster=ForecasterConfig(horizons=2, net=RecurrentConfig(hidden=4, epochs=1)),
    forecast_granularities=(Granularity.WEEK, Granularity.DAY),
)
UNTIL = START + timedelta(weeks=12)


def trained(events=None, texts=None, encoder=None, config=CONFIG, **kwargs):
    events = planted_events() if events is None else events
    return train(events, texts, encoder or WordEncoder(), config, until=UNTIL, **kwargs)


def bytes_of(model, folder):
    """The files of a model, and its manifest but for the time of training."""
    save_model(folder, replace(model, trained_time=UNTIL))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_nothing_at_or_after_the_end_is_seen(tmp_path):
    events = planted_events()
    future = events.filter(pl.col("event_time") >= UNTIL)
    assert future.height > 50
    changed = future.with_columns(
        pl.lit("stranger").alias("user_id"), pl.lit("novelty").alias("item_id"),
        pl.lit("never heard of").alias("text"), pl.lit(60.0).alias("value"),
    )  # fmt: skip
    past = events.filter(pl.col("event_time") < UNTIL)
    encoder = WordEncoder()
    with_future = trained(pl.concat([past, changed]), encoder=encoder)
    assert "never heard of" not in encoder.asked
    assert bytes_of(with_future, tmp_path / "a") == bytes_of(trained(past), tmp_path / "b")


def test_texts_that_came_into_force_later_are_not_read(tmp_path):
    events = planted_events()
    rows = events.unique("item_id", keep="first", maintain_order=True).select("item_id", "text")
    texts = rows.with_columns(pl.lit(START).cast(pl.Datetime("us", "UTC")).alias("updated_time"))
    edits = texts.with_columns(
        pl.lit("edited").alias("text"), pl.col("updated_time") + timedelta(weeks=12)
    )
    encoder = WordEncoder()
    edited = trained(events, pl.concat([texts, edits]), encoder)
    assert "edited" not in encoder.asked
    assert bytes_of(edited, tmp_path / "a") == bytes_of(trained(events, texts), tmp_path / "b")


def test_a_trained_model_reads_back_and_forecasts(tmp_path):
    model = trained()
    save_model(tmp_path / "m", model)
    read = load_model(tmp_path / "m")
    assert set(read.forecasters) == {Granularity.WEEK, Granularity.DAY}
    assert "gru" not in load_forecaster(read, Granularity.DAY).members
    vec = np.zeros((1, 3, 8), np.float32)
    vec[0, 1, 0] = 1
    mask = vec.any(axis=2)
    batch = TrajectoryBatch(vec_UTD=vec, mask_UT=mask, count_UT=mask.astype(np.int64))
    for granularity in Granularity:  # a month has the untrained one
        made, again = (
            load_forecaster(m, granularity).forecast(batch, [1, 4]) for m in (model, read)
        )
        np.testing.assert_array_equal(made.means_UHD, again.means_UHD)
        assert np.isfinite(made.scales_UHD).all()


def test_the_same_data_give_the_same_version():
    assert trained().model_version == trained().model_version
    assert trained().model_version.startswith("m20260330-")


def test_progress_goes_up_to_its_total():
    told = {}
    trained(on_progress=lambda stage, done, total: told.setdefault(stage, []).append((done, total)))
    assert {"examples", "train ranker", "train gru"} <= set(told)
    for steps in told.values():
        assert steps[-1][0] == steps[-1][1]


def test_too_little_data_say_so():
    with pytest.raises(InvalidArgument, match="no two closed weeks"):
        train(planted_events(), None, WordEncoder(), CONFIG, until=START + timedelta(weeks=1))
    with pytest.raises(InvalidArgument, match="there are none"):
        trained(planted_events().head(0))


class Tables:
    def __init__(self, events, items):
        self.events, self.items = events, items

    def read_events(self, tenant, bucket=None):
        return self.events

    def read_items(self, tenant):
        return self.items


class Registry:
    def __init__(self, root):
        self.root, self.live_version = root, None

    def add(self, tenant, folder, info):
        save_model(self.root / info.model_version, load_model_at(folder))

    def promote(self, tenant, model_version):
        self.live_version = model_version

    def folder(self, tenant, model_version):
        return str(self.root / model_version)


def load_model_at(folder):
    from pathlib import Path

    return load_model(Path(folder))


def test_a_stored_history_becomes_a_live_model(tmp_path):
    from services.runtime.settings import Settings
    from services.store.backbone import load_backbone

    events = planted_events(users=10)
    items = events.unique("item_id").select(
        "item_id", pl.lit("").alias("title"), "text",
        pl.lit(START).cast(pl.Datetime("us", "UTC")).alias("updated_time"),
    )  # fmt: skip
    settings, registry = Settings(data_dir=tmp_path), Registry(tmp_path)
    config = replace(CONFIG, forecast_granularities=(Granularity.WEEK,))
    info = run_train(Tables(events, items), registry, settings, until=UNTIL, config=config)
    assert info.stage == "live"
    assert registry.live_version == info.model_version
    read = load_model(tmp_path / info.model_version)
    assert read.backbone == load_backbone(settings.backbone).spec
    assert read.trained_until == UNTIL


def test_nothing_stored_says_to_import(tmp_path):
    from services.runtime.settings import Settings

    with pytest.raises(InvalidArgument, match="driftline import"):
        run_train(
            Tables(planted_events().head(0), None),
            Registry(tmp_path),
            Settings(data_dir=tmp_path),
            until=UNTIL,
        )


def test_training_reads_what_the_encoder_reads():
    at = datetime(2026, 1, 1, tzinfo=UTC)
    items = pl.DataFrame(
        {
            "item_id": ["a", "b"],
            "title": ["Tea", ""],
            "text": ["strong", " green "],
            "updated_time": [at, at],
        }
    )
    assert item_texts(items)["text"].to_list() == ["Tea. strong", "green"]


def test_until_is_a_date_or_now(tmp_path):
    from services.runtime.settings import Settings

    settings = Settings(data_dir=tmp_path, now=UNTIL)
    assert parse_until(None, settings) == UNTIL
    assert parse_until("2026-02-01", settings) == datetime(2026, 2, 1, tzinfo=UTC)
    with pytest.raises(InvalidArgument, match="write it like"):
        parse_until("yesterday", settings)
