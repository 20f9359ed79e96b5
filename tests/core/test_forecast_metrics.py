import numpy as np
import pytest

from services.core.forecast_metrics import forecast_errors


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
