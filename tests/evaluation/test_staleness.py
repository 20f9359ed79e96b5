from dataclasses import replace

import numpy as np
import pytest

from services.core.dataset import dataset_from_frame
from services.core.forecasts import ForecastBatch
from services.core.pooling import DAY_S, PoolingConfig, pool_rank_states
from services.core.schema import Granularity
from services.core.trajectories import TrajectoryBatch
from services.evaluation.protocol import make_split
from services.evaluation.staleness import rolled_forward, staleness_report
from services.evaluation.trajectories import trajectories
from tests.planted import WordEncoder, planted_events

WEEK = 7 * DAY_S


class Says:
    """Forecasts one direction for ever."""

    name = "says"

    def __init__(self, mean_D):
        self.mean_D = np.asarray(mean_D, np.float32)

    def forecast(self, batch, horizons):
        shape = (len(batch.mask_UT), len(horizons), len(self.mean_D))
        means_UHD = np.broadcast_to(self.mean_D, shape)
        return ForecastBatch(means_UHD=means_UHD, scales_UHD=np.ones(shape, np.float32))


def steady(weeks, items_ND, rows, model):
    """The state and trajectory of one user who has `rows` in the middle of each week."""
    week, row = (each.ravel() for each in np.meshgrid(np.arange(weeks), rows, indexing="ij"))
    time_E = (week + 0.5) * WEEK
    user = np.zeros(len(week), np.int64)
    states = pool_rank_states(
        user, time_E, row, row, np.ones(len(week)), items_ND, 1, model.pooling
    )
    batch = TrajectoryBatch(
        vec_UTD=np.tile(items_ND[rows].mean(axis=0), (1, weeks, 1)),
        mask_UT=np.ones((1, weeks), bool),
        count_UT=np.full((1, weeks), len(rows)),
    )
    return states, batch


def test_a_state_rolled_forward_by_a_right_forecast_is_the_state_that_comes(evaluated):
    model = evaluated[0].model
    items_ND = np.eye(8, dtype=np.float32)
    states, batch = steady(30, items_ND, np.array([3]), model)
    later, _ = steady(34, items_ND, np.array([3]), model)
    starts = [week * WEEK for week in range(30, 35)]
    rolled = rolled_forward(states, Says(items_ND[3]), batch, model, starts)
    fade = np.exp2(-(starts[-1] - later.state_time_U[0]) / (
        np.asarray(model.pooling.half_lives_days) * DAY_S
    ))  # fmt: skip
    np.testing.assert_allclose(
        rolled.query_weights_UH[0], later.query_weights_UH[0] * fade, rtol=0.03
    )
    np.testing.assert_allclose(
        rolled.query_sums_UHD[0], later.query_sums_UHD[0] * fade[:, None], rtol=0.03, atol=1e-3
    )


def test_a_forecast_of_another_direction_turns_the_short_memory_first(evaluated):
    model = evaluated[0].model
    items_ND = np.eye(8, dtype=np.float32)
    states, batch = steady(30, items_ND, np.array([3]), model)
    starts = [week * WEEK for week in range(30, 35)]
    rolled = rolled_forward(states, Says(items_ND[5]), batch, model, starts)
    turned_H = rolled.query_sums_UHD[0, :, 5] / rolled.query_sums_UHD[0, :, [3, 5]].sum(axis=0)
    assert list(turned_H) == sorted(turned_H, reverse=True)
    assert turned_H[0] > turned_H[-1] > 0.0


def test_a_user_who_never_did_anything_stays_empty(evaluated):
    model = evaluated[0].model
    items_ND = np.eye(8, dtype=np.float32)
    states, batch = steady(30, items_ND, np.array([3]), model)
    empty = replace(
        states,
        query_sums_UHD=states.query_sums_UHD * 0,
        query_weights_UH=states.query_weights_UH * 0,
    )
    nothing = replace(batch, mask_UT=batch.mask_UT & False, count_UT=batch.count_UT * 0)
    rolled = rolled_forward(empty, Says(items_ND[5]), nothing, model, [30 * WEEK, 31 * WEEK])
    assert not rolled.query_sums_UHD.any()
    assert not rolled.query_weights_UH.any()


@pytest.fixture(scope="module")
def found(evaluated):
    result, _ = evaluated
    # So many items that something stays new to everybody.
    events = planted_events(users=40, weeks=20, items_per_topic=80)
    data = dataset_from_frame(events, Granularity.WEEK, PoolingConfig())
    items_ND = result.model.tower.item_vectors(WordEncoder().encode(data.texts), data.item_ids)
    split = make_split(data, 4, (1, 2))
    seen = trajectories(data, split, result.model, items_ND)
    return staleness_report(
        data, split, result.model, items_ND, seen,
        ahead=(1, 4, 9), user_limit=30, rng=np.random.default_rng(0),
    )  # fmt: skip


def test_one_ahead_asks_only_whether_the_forecast_belongs_in_the_query(found):
    assert {"stale", "forecast", "gain", "gain_ci"} <= set(found["h1"])
    assert "gap" not in found["h1"]


def test_the_gap_comes_with_its_interval_and_no_share_of_an_unproven_one(found):
    row = found["h4"]
    low, high = row["gap_ci"]
    assert low <= row["gap"] <= high
    assert row["gap"] == pytest.approx(row["oracle"] - row["stale"])
    assert (row["closed"] is None) == (low <= 0.0)
    # Only the first origin has a fourth week in the data.
    assert row["samples"] == row["users"] <= 30


def test_a_target_beyond_the_data_is_left_out(found):
    assert set(found) == {"h1", "h4"}
