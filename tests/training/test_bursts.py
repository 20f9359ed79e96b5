from dataclasses import replace

import numpy as np

from services.core.bursts import detect
from services.core.schema import Granularity
from services.core.trajectories import TrajectoryBatch
from services.training.bursts import BURN_IN, BurstFitConfig, fit_bursts

WIDTH, USERS, PERIODS = 6, 60, 40


def batch(seed=0):
    """Users with a taste of their own; a period is the mean of as many draws as it has events."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=(USERS, 1, WIDTH)) * 0.5 + 1.0
    count = rng.integers(1, 40, (USERS, PERIODS))
    noise = rng.normal(size=(USERS, PERIODS, WIDTH)) / np.sqrt(count)[:, :, None]
    vec = taste + noise
    vec /= np.linalg.norm(vec, axis=2, keepdims=True)
    mask = rng.random((USERS, PERIODS)) < 0.8
    return TrajectoryBatch(
        vec_UTD=(vec * mask[:, :, None]).astype(np.float32), mask_UT=mask, count_UT=count * mask
    )


def fitted(alarms_a_year):
    config = BurstFitConfig(
        granularity=Granularity.WEEK, alarms_a_year=alarms_a_year, seasons=(13,)
    )
    return fit_bursts(batch(), np.eye(WIDTH, dtype=np.float32), config)


def alarms_a_year(model, b):
    return detect(model, b).onset[:, BURN_IN:].sum() / (USERS * (PERIODS - BURN_IN) / 52)


def test_the_threshold_keeps_alarms_below_what_is_asked_and_not_far_below():
    model = fitted(0.5)
    assert 0.1 < alarms_a_year(model, batch()) <= 0.5
    assert alarms_a_year(replace(model, threshold=model.threshold * 0.5), batch()) > 0.5


def test_fewer_alarms_asked_is_a_higher_threshold():
    assert fitted(0.1).threshold > fitted(1.0).threshold
