"""Forecasts of demand: what the methods say, which is chosen, whether the intervals hold."""

import numpy as np
import pytest

from services.core.demand_forecast import (
    LAST,
    SEASONAL,
    forecast_series,
    methods,
    seasonal_naive,
    shares,
)


def poisson(level_N, periods, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(np.asarray(level_N)[:, None], (len(level_N), periods)).astype(float)


def test_each_method_repeats_a_constant_and_looks_at_nothing_later():
    series_NP = poisson([20, 5, 60], 30)
    for name, method in methods(12).items():
        assert method(np.full((2, 15), 7.0))(3)[:, -1] == pytest.approx(7.0), name
        whole, cut = method(series_NP)(2), method(series_NP[:, :20])(2)
        assert whole[:, :20] == pytest.approx(cut, nan_ok=True), name


def test_seasonal_naive_is_the_season_before_and_the_last_value_where_that_is_not_known():
    series_NP = np.arange(10.0)[None]
    # Four on from 9 is 13; a season of five before is 8, of twelve is 1.
    assert seasonal_naive(series_NP, 4, 5)[0, -1] == 8
    assert seasonal_naive(series_NP, 4, 12)[0, -1] == 1
    assert seasonal_naive(series_NP, 4, 52)[0, -1] == 9
    assert seasonal_naive(series_NP, 6, 5)[0, -1] == 5


def test_noise_is_averaged_out_and_a_walk_is_not():
    still = forecast_series(poisson([30] * 8, 60), 1, 52)
    assert still.methods[0] in ("ema_0.1", "damped_0.2")
    rng = np.random.default_rng(1)
    walk = np.maximum(100 + 10 * np.cumsum(rng.normal(size=(8, 60)), axis=1), 0)
    assert forecast_series(walk, 1, 52).methods[0] in (LAST, "ema_0.7", "damped_0.5")


def test_a_season_is_found_where_it_repeats():
    month = np.tile(np.where(np.arange(12) == 11, 100.0, 10.0), 4)
    series_NP = np.stack([month + shift for shift in range(5)])
    found = forecast_series(series_NP[:, :47], 1, 12)
    assert found.methods[0] == SEASONAL
    assert found.mean_NH[:, 0] == pytest.approx(series_NP[:, 47])


def test_intervals_hold_about_as_much_as_they_say():
    held = np.zeros(2)
    for seed in range(12):
        series_NP = poisson(np.linspace(4, 80, 20), 61, seed)
        bound_NQ = forecast_series(series_NP[:, :60], 1, 52).bound_NHQ[:, 0]
        truth_N = series_NP[:, 60]
        held[0] += ((truth_N >= bound_NQ[:, 0]) & (truth_N <= bound_NQ[:, 1])).mean() / 12
        held[1] += ((truth_N >= bound_NQ[:, 2]) & (truth_N <= bound_NQ[:, 3])).mean() / 12
    assert held == pytest.approx([0.8, 0.95], abs=0.06)


def test_bounds_enclose_each_other_and_are_never_negative():
    bound_NHQ = forecast_series(poisson([0.2, 3, 50], 40), 6, 52).bound_NHQ
    low_80, high_80, low_95, high_95 = np.moveaxis(bound_NHQ, -1, 0)
    assert (low_95 >= 0).all()
    assert (low_95 <= low_80).all() and (low_80 <= high_80).all() and (high_80 <= high_95).all()


def test_gaps_are_skipped_and_series_without_a_value_stay_unknown():
    series_NP = poisson([20, 20, 20], 30)
    series_NP[0, 12:15] = np.nan
    series_NP[1] = np.nan
    found = forecast_series(series_NP, 2, 52)
    assert np.isnan(found.mean_NH[1]).all()
    assert np.isfinite(found.mean_NH[[0, 2]]).all()
    nothing = forecast_series(np.full((2, 5), np.nan), 3, 52)
    assert np.isnan(nothing.mean_NH).all() and nothing.mean_NH.shape == (2, 3)


def test_a_short_history_is_forecast_with_wide_bounds():
    found = forecast_series(np.array([[10.0, 14.0]]), 1, 52)
    assert found.mean_NH[0, 0] == pytest.approx(12, abs=2)
    assert found.bound_NHQ[0, 0, 3] > 14


def test_shares_are_of_what_is_positive_and_unknown_without_volume():
    share_TP = shares(np.array([[3.0, -2.0, np.nan, 0.0], [1.0, 4.0, np.nan, 0.0]]))
    assert share_TP[:, :2].tolist() == [[0.75, 0.0], [0.25, 1.0]]
    assert np.isnan(share_TP[:, 2:]).all()
