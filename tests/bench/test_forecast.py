"""The benchmark of forecasts judges both sides on the same households and weeks."""

import numpy as np
import pytest

from services.core.trajectories import TrajectoryBatch
from services.training.forecaster import ForecasterConfig
from tests.bench.forecast import COMPONENTS, HORIZONS, Peer, measure, world_of

USERS, WEEKS, WIDTH = 24, 20, 18


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    taste_UD = rng.normal(size=(USERS, WIDTH))
    vec_UTD = taste_UD[:, None] + 0.3 * rng.normal(size=(USERS, WEEKS, WIDTH))
    vec_UTD /= np.linalg.norm(vec_UTD, axis=2, keepdims=True)
    batch = TrajectoryBatch(
        vec_UTD=vec_UTD.astype(np.float32),
        mask_UT=np.ones((USERS, WEEKS), bool),
        count_UT=np.full((USERS, WEEKS), 5),
    )
    return world_of(batch, ForecasterConfig(horizons=len(HORIZONS), nets=()))


def test_the_last_four_weeks_are_for_judging_alone(world):
    assert (world.seen.mask_UT.shape[1], world.after.mask_UT.shape[1]) == (WEEKS - 4, 4)
    assert world.components_DK.shape == (WIDTH, COMPONENTS)


def test_a_result_says_how_wrong_both_sides_were_and_holds_ours_to_it(world):
    found = measure(world, "AutoETS", 3.0, 1, 3)
    assert (found["name"], found["errors"]["households"]) == ("forecast-ets", 3)
    assert 0 < found["errors"]["ours_mse"] < 1 > found["errors"]["peer_mse"] > 0
    is_as_good = found["errors"]["ours_mse"] <= found["errors"]["peer_mse"]
    assert found["ratio_with_fit"] < found["ratios"]["per_cpu_s"]["median"] * 1.5
    pays = min(found["ratio"], found["ratio_with_fit"]) >= 3.0
    assert found["reached"] == (pays and is_as_good)


def test_a_peer_that_forecasts_what_came_has_no_error(world):
    world.ours()
    peer = Peer(world=world, name="AutoETS", base_UHD=world.made_UHD)
    peer.made = {0: world.after.vec_UTD[0]}
    assert peer.errors()["peer_mse"] == 0
    assert peer.errors()["households_where_ours_is_as_good"] == 0
