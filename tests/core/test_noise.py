"""Tests of shares: they find what is planted, and little else, also where events come in clumps."""

import numpy as np
import pytest

from services.core import noise

TOPICS, WEEKS = 12, 52


def year(rng, share_PT, events=10.0, clumping=20.0):
    """Return counts by topic and week: each week draws shares of its own around the given ones."""
    count_PT = [
        rng.multinomial(rng.poisson(events), rng.dirichlet(share_T * clumping + 1e-9))
        for share_T in share_PT
    ]
    count_TP = np.array(count_PT, float).T
    return count_TP, count_TP.sum(0)


def steady(rng):
    share_T = rng.dirichlet(np.ones(TOPICS))
    return np.tile(share_T, (WEEKS, 1))


def moved(rng, gain_P):
    share_PT = steady(rng)
    share_PT[:, 0] += gain_P
    return share_PT / share_PT.sum(1, keepdims=True)


@pytest.mark.parametrize("clumping", [5.0, 1e6])
def test_a_steady_user_shows_few_trends_and_changes(clumping):
    rng = np.random.default_rng(1)
    trends = changes = users = 0
    for _ in range(150):
        count_TP, total_P = year(rng, steady(rng), clumping=clumping)
        rows = count_TP.sum(1) >= 8
        trend = noise.trend_tests(count_TP[rows], total_P)
        change = noise.change_tests(count_TP[rows], total_P, 8)
        trends += noise.discoveries(trend.p_value_T, 0.05).any()
        changes += noise.discoveries(change.p_value_T, 0.05).any()
        users += 1
    # At most a twentieth of the users hears of a false one, with three standard errors of room.
    assert trends / users <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / users)
    assert changes / users <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / users)


def test_without_the_scatter_clumps_would_pass_for_trends():
    rng = np.random.default_rng(1)
    scaled, plain = [], []
    for _ in range(100):
        count_TP, total_P = year(rng, steady(rng), clumping=5.0)
        tests = noise.trend_tests(count_TP, total_P)
        scaled += (tests.p_value_T < 0.05).tolist()
        binomial_z_T = tests.z_T * np.sqrt(noise.scatter(count_TP, total_P))
        plain += (noise.two_sided(binomial_z_T) < 0.05).tolist()
    assert np.mean(scaled) < 0.07
    assert np.mean(plain) > 0.12


def test_a_planted_trend_is_found_with_its_direction():
    rng = np.random.default_rng(2)
    ramp_P = np.linspace(0, 1.0, WEEKS)
    up = [noise.trend_tests(*year(rng, moved(rng, ramp_P))) for _ in range(40)]
    down = [noise.trend_tests(*year(rng, moved(rng, ramp_P[::-1]))) for _ in range(40)]
    assert np.mean([t.z_T[0] > 0 and t.p_value_T[0] < 0.01 for t in up]) > 0.9
    assert np.mean([t.z_T[0] < 0 and t.p_value_T[0] < 0.01 for t in down]) > 0.9


def test_a_planted_change_is_found_near_its_week():
    rng = np.random.default_rng(3)
    found = near = 0
    for _ in range(60):
        at = int(rng.integers(12, 40))
        count_TP, total_P = year(rng, moved(rng, 0.4 * (np.arange(WEEKS) >= at)))
        tests = noise.change_tests(count_TP, total_P, 8)
        found += tests.p_value_T[0] < 0.01
        near += abs(int(tests.split_T[0]) - at) <= 2
    assert found / 60 > 0.9
    assert near / 60 > 0.8


def test_the_scan_of_all_splits_agrees_with_one_split_at_a_time():
    rng = np.random.default_rng(4)
    count_TP, total_P = year(rng, steady(rng), events=3.0)
    count_TP[:, 5:9], total_P[5:9] = 0, 0
    tests = noise.change_tests(count_TP, total_P, 4)
    active = np.flatnonzero(total_P > 0)
    scatter_T = noise.scatter(count_TP, total_P)
    for topic in range(TOPICS):
        best = 0.0
        for split in active[4 : len(active) - 3]:
            n, x = total_P.sum(), count_TP[topic].sum()
            after = total_P[split:].sum()
            variance = scatter_T[topic] * x / n * (1 - x / n) * after * (n - after) / n
            z = (
                (count_TP[topic, split:].sum() - x * after / n) / np.sqrt(variance)
                if variance > 0
                else 0.0
            )
            best = max(best, abs(z))
        assert abs(tests.z_T[topic]) == pytest.approx(best, rel=1e-9)


def test_few_periods_have_no_change_and_no_events_no_trend():
    few = noise.change_tests(np.ones((2, 7)), np.full(7, 2.0), 4)
    assert few.p_value_T.tolist() == [1.0, 1.0]
    none = noise.trend_tests(np.zeros((1, 5)), np.zeros(5))
    assert (none.z_T.tolist(), none.p_value_T.tolist()) == ([0.0], [1.0])


def test_an_interval_is_wilsons():
    # 10 of 100, from the formula by hand.
    assert noise.share_interval(0.1, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    low, high = noise.share_interval(0.0, 10)
    assert low == pytest.approx(0)
    assert high == pytest.approx(0.2775, abs=1e-4)
    assert noise.share_interval(0.5, 0) == (0.0, 1.0)


def test_clumps_make_fewer_independent_draws_and_equal_weeks_do_not():
    even = noise.independent_draws(np.full((2, 10), 5.0), np.full(10, 10.0), np.ones(10))
    assert even[0] == pytest.approx(100)
    assert even[1].tolist() == pytest.approx([100, 100])
    all_or_none = np.array([[10.0, 0] * 5, [0, 10.0] * 5])
    clumped = noise.independent_draws(all_or_none, np.full(10, 10.0), np.ones(10))
    # Ten weeks, each one draw, less the one that the mean takes.
    assert clumped[0] == pytest.approx(9)
    assert clumped[1].tolist() == pytest.approx([9, 9])


def test_discoveries_are_benjamini_and_hochbergs():
    p_values = np.array([0.039, 0.001, 0.041, 0.008, 0.9])
    # Allowed in order: 0.01, 0.02, 0.03, 0.04, 0.05 of 0.001, 0.008, 0.039, 0.041, 0.9.
    assert noise.discoveries(p_values, 0.05).tolist() == [False, True, False, True, False]
    assert noise.discoveries(np.zeros(0), 0.05).tolist() == []


def test_evenness_is_near_the_chi_squared_tail():
    # chi2 of 11.07 with 5 degrees has a tail of 0.05: 20 in each of six cells, less and more.
    counts = np.array([20, 20, 20, 20, 20, 20])
    assert noise.evenness_p_value(counts) > 0.99
    skewed = np.array([30, 17, 18, 19, 21, 15])
    chi2 = ((skewed - 20.0) ** 2 / 20).sum()
    assert chi2 == pytest.approx(7.0)
    # scipy.stats.chi2.sf(7.0, 5) = 0.2206
    assert noise.evenness_p_value(skewed) == pytest.approx(0.2206, abs=0.005)


def test_concentration_is_the_hypergeometric_tail():
    # All 3 in a window of 4 among 10: C(4, 3) / C(10, 3).
    assert noise.concentration_p_value(3, 3, 4, 10) == pytest.approx(4 / 120)
    assert noise.concentration_p_value(0, 3, 4, 10) == pytest.approx(1)
