import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from services.core.card import CardCost
from services.core.errors import InvalidArgument
from services.core.forecasters import load_forecaster
from services.core.recurrent import RecurrentConfig
from services.core.schema import Granularity
from services.core.trajectories import TrajectoryBatch
from services.store.model_folder import load_model, save_model
from services.training.forecaster import ForecasterConfig
from services.training.ranker import RankerConfig
from services.training.train import TrainConfig, train
from tests.planted import START, WordEncoder, planted_events

CONFIG = TrainConfig(
    ranker=RankerConfig(width=8, epochs=1, origins=2),
    forecaster=ForecasterConfig(horizons=2, components=0, net=RecurrentConfig(hidden=4, epochs=1)),
    forecast_granularities=(Granularity.WEEK, Granularity.DAY),
)
UNTIL = START + timedelta(weeks=12)
ROOT = Path(__file__).parents[2]


def trained(events=None, texts=None, encoder=None, config=CONFIG, **kwargs):
    events = planted_events() if events is None else events
    return train(events, texts, encoder or WordEncoder(), config, until=UNTIL, **kwargs)


def bytes_of(model, folder):
    """The files of a model, but for the time of training and what it took."""
    cost = CardCost(seconds={}, cpu_seconds=0.0, workers=1, machine="any")
    save_model(folder, replace(model, trained_time=UNTIL, card=replace(model.card, cost=cost)))
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


def test_another_process_makes_the_same_version():
    script = "from tests.training.test_train import trained; print(trained().model_version)"
    made = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert made.stdout.split()[-1] == trained().model_version


def test_the_card_says_what_was_learned_from_and_what_it_took():
    config = replace(CONFIG, validation_origins=2)
    model = trained(config=config)
    card = model.card
    assert card.split.origins == ("2026-W10", "2026-W11")
    assert card.split.validation == ("2026-W12", "2026-W13")
    assert (card.data.users, card.data.sha256) == (24, model.data_sha256)
    assert card.data.events == planted_events().filter(pl.col("event_time") < UNTIL).height
    assert card.data.first_event < card.data.last_event < card.split.trained_until
    assert card.config["ranker"]["width"] == 8
    assert {"encode", "ranker", "forecaster", "total"} == set(card.cost.seconds)
    assert card.cost.seconds["total"] >= card.cost.seconds["ranker"] > 0
    assert card.cost.cpu_seconds > 0


def test_learning_curves_have_a_point_an_epoch():
    ranker = replace(CONFIG.ranker, epochs=3, origins=4)
    model = trained(config=replace(CONFIG, ranker=ranker, validation_origins=1))
    assert set(model.curves) >= {"ranker", "ranker validation"}
    for name in ("ranker", "ranker validation"):
        epochs, losses = zip(*model.curves[name], strict=True)
        assert epochs == (1.0, 2.0, 3.0)
        assert all(loss > 0 for loss in losses)
    assert model.curves["ranker"][-1][1] < model.curves["ranker"][0][1]
    assert model.metrics["ranker_loss"] == model.curves["ranker"][-1][1]
    assert "ranker validation" not in trained().curves


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


def test_what_is_done_is_taken_up_and_gives_the_same_model(tmp_path):
    first = trained(work=tmp_path)
    told = set()
    again = trained(work=tmp_path, on_progress=lambda stage, done, total: told.add(stage))
    assert again.model_version == first.model_version == trained().model_version
    assert again.curves == first.curves
    assert not {"train ranker", "train gru"} & told
    anew = set()
    trained(work=tmp_path, is_fresh=True, on_progress=lambda stage, done, total: anew.add(stage))
    assert {"train ranker", "train gru"} <= anew
