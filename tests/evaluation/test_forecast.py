from dataclasses import replace

import numpy as np
import pytest

from services.core.dataset import dataset_from_frame
from services.core.pooling import PoolingConfig
from services.core.recurrent import CELLS, RecurrentConfig
from services.core.schema import Granularity
from services.evaluation.forecast import forecast_report
from services.evaluation.protocol import make_split
from services.evaluation.trajectories import trajectories
from services.training.forecaster import ForecasterConfig, fit_forecaster
from tests.planted import WordEncoder, planted_events

CONFIG = ForecasterConfig(
    horizons=4,
    nets=CELLS,
    components=1,
    statistical_users=4,
    net=RecurrentConfig(hidden=4, epochs=1),
)


@pytest.fixture(scope="module")
def skill(evaluated):
    data = dataset_from_frame(planted_events(users=30, weeks=24), Granularity.WEEK, PoolingConfig())
    model = evaluated[0].model
    items_ND = model.tower.item_vectors(WordEncoder().encode(data.texts), data.item_ids)
    split = make_split(data, 6, (1,))
    seen = trajectories(data, split, model, items_ND)
    spec = fit_forecaster(seen.before(split.origins[0]), CONFIG)
    model = replace(model, forecasters={Granularity.WEEK: spec})
    return forecast_report(split, model, seen, horizons=4, rng=np.random.default_rng(0))


def test_every_forecaster_is_measured_at_every_horizon(skill):
    assert list(skill.by_horizon) == ["h1", "h2", "h3", "h4"]
    for table in skill.by_horizon.values():
        assert {"driftline", "ema", "local_level", "gru", "lstm", "arima", "ets"} <= set(table)
        for row in table.values():
            assert row["crps"] > 0.0
            low, high = row["r2_ci"]
            assert low <= row["r2"] <= high
            assert sum(part["samples"] for part in row["by_gap"].values()) == row["samples"]


def test_ours_is_the_forecaster_that_was_chosen(skill):
    for table in skill.by_horizon.values():
        others = [row["mse"] for name, row in table.items() if name != "driftline"]
        assert any(table["driftline"]["mse"] == pytest.approx(mse) for mse in others)


def test_skill_is_the_error_saved_on_the_same_samples(skill):
    table = skill.by_horizon["h2"]
    saved = 1.0 - table["gru"]["mse"] / table["ema"]["mse"]
    assert table["gru"]["skill_over_ema"] == pytest.approx(saved, abs=1e-5)
    low, high = table["gru"]["skill_over_ema_ci"]
    assert low <= table["gru"]["skill_over_ema"] <= high
    assert "skill_over_ema" not in table["ema"]


def test_the_mean_of_four_periods_is_foretold_better_than_one(skill):
    for name in ("driftline", "mean", "local_level"):
        assert skill.aggregate[name]["r2"] > skill.by_horizon["h1"][name]["r2"]
    assert "coverage_80" not in skill.aggregate["driftline"]


def test_a_model_without_a_forecaster_has_no_figures(evaluated):
    data = dataset_from_frame(planted_events(users=6, weeks=12), Granularity.WEEK, PoolingConfig())
    model = replace(evaluated[0].model, forecasters={})
    items_ND = np.zeros((data.item_count, model.tower.width), np.float32)
    split = make_split(data, 2, (1,))
    seen = trajectories(data, split, model, items_ND)
    found = forecast_report(split, model, seen, horizons=1, rng=np.random.default_rng(0))
    assert (found.by_horizon, found.aggregate) == ({}, {})
