import numpy as np
import pytest

from services.core.forecast_metrics import (
    calibration_curve,
    fit_loadings,
    forecast_errors,
    gaussian_crps,
    joint_nll,
)


def test_forecast_errors_by_hand():
    truth = np.array([[1, 0], [0, 1]], np.float32)
    mean = np.array([[0.5, 0], [0, 0.5]], np.float32)
    errors = forecast_errors(
        truth, mean, np.full((2, 2), 0.25, np.float32), np.zeros(2, np.float32)
    )
    assert errors.mse == pytest.approx(0.125)
    assert errors.rmse == pytest.approx(0.125**0.5)
    assert errors.r2 == pytest.approx(0.75)
    assert errors.cosine == pytest.approx(1.0)
    assert errors.nll == pytest.approx(1.0 + np.log(0.25) + 0.5 * np.log(2 * np.pi))
    # Errors of 0 and of two standard deviations, half each.
    assert (errors.coverage_80, errors.coverage_95) == (0.5, 0.5)


def test_right_gaussian_forecasts_cover_what_they_say():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.1, 2.0, (2000, 4)).astype(np.float32)
    truth = (rng.normal(size=(2000, 4)) * scale).astype(np.float32)
    errors = forecast_errors(truth, np.zeros((2000, 4), np.float32), scale, np.zeros(4, np.float32))
    assert errors.coverage_80 == pytest.approx(0.80, abs=0.02)
    assert errors.coverage_95 == pytest.approx(0.95, abs=0.02)


def test_crps_is_the_integral_that_defines_it():
    grid = np.linspace(-12, 12, 200_001)
    from scipy.special import ndtr

    for z, scale in ((0.0, 1.0), (1.5, 0.5), (-2.0, 2.0)):
        integral = np.trapezoid((ndtr(grid / scale) - (grid >= z * scale)) ** 2, grid)
        assert gaussian_crps(np.array([[z]]), np.array([[scale]]))[0, 0] == pytest.approx(
            integral, abs=1e-4
        )


def test_the_calibration_curve_of_a_right_forecast_is_the_diagonal():
    truth = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    zero, one = np.zeros_like(truth), np.ones_like(truth)
    curve = np.array(calibration_curve(truth, zero, one))
    np.testing.assert_allclose(curve[:, 1], curve[:, 0], atol=0.02)
    too_wide = np.array(calibration_curve(truth, zero, 2 * one))
    assert (too_wide[:, 1] > too_wide[:, 0]).all()


def test_the_joint_likelihood_is_the_multivariate_normals():
    rng = np.random.default_rng(0)
    loadings = rng.uniform(-0.5, 0.5, (5, 2)).astype(np.float32)
    scale = rng.uniform(0.5, 2.0, (7, 5)).astype(np.float32)
    error = rng.normal(size=(7, 5)).astype(np.float32)
    correlation = loadings @ loadings.T
    np.fill_diagonal(correlation, 1.0)
    for s in range(7):
        cov = np.outer(scale[s], scale[s]) * correlation
        _, log_det = np.linalg.slogdet(2 * np.pi * cov)
        expected = 0.5 * (error[s] @ np.linalg.solve(cov, error[s]) + log_det) / 5
        assert joint_nll(error, scale, loadings)[s] == pytest.approx(expected, rel=1e-4)
    alone = forecast_errors(error, np.zeros_like(error), scale, np.zeros(5, np.float32)).nll
    assert joint_nll(error, scale, None).mean() == pytest.approx(alone, rel=1e-5)


def test_loadings_of_a_common_factor_are_found():
    rng = np.random.default_rng(0)
    true = np.array([0.8, 0.6, -0.7, 0.5, 0.0])
    own = np.sqrt(1 - true**2)
    z = rng.normal(size=(20_000, 1)) * true + rng.normal(size=(20_000, 5)) * own
    found = fit_loadings(z.astype(np.float32), 1)[:, 0]
    np.testing.assert_allclose(found * np.sign(found[0]), true, atol=0.04)
