"""Metrics of forecasts.

Shape suffixes: S = samples (user, origin), D = width.
"""

from dataclasses import dataclass

import numpy as np

from services.core.records import F32


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastErrors:
    """How far forecasts were off; see `forecast_errors`."""

    # Share of the squared distance from the cross-user mean that is explained.
    r2: float
    # Per component.
    rmse: float
    mse: float
    # Mean cosine between forecast and truth.
    cosine: float
    # Mean negative log likelihood per component, nats.
    nll: float
    # Share of components inside the central 80% and 95% of the forecast.
    coverage_80: float
    coverage_95: float


def forecast_errors(truth_SD: F32, mean_SD: F32, scale_SD: F32, centre_D: F32) -> ForecastErrors:
    """Compare forecasts with what came.

    Args:
        truth_SD: unit vectors that came.
        mean_SD: forecast means.
        scale_SD: standard deviations, > 0.
        centre_D: the cross-user mean known when the forecasts were made.
    """
    error_SD = truth_SD.astype(np.float64) - mean_SD
    z_SD = np.abs(error_SD) / scale_SD
    mse = float((error_SD**2).mean())
    norms_S = np.linalg.norm(mean_SD, axis=1) * np.linalg.norm(truth_SD, axis=1)
    cosine_S = (truth_SD * mean_SD).sum(axis=1) / np.maximum(norms_S, 1e-12)
    return ForecastErrors(
        r2=1.0 - mse / float(((truth_SD.astype(np.float64) - centre_D) ** 2).mean()),
        rmse=float(np.sqrt(mse)),
        mse=mse,
        cosine=float(cosine_S.mean()),
        nll=float((0.5 * z_SD**2 + np.log(scale_SD) + 0.5 * np.log(2 * np.pi)).mean()),
        coverage_80=float((z_SD <= 1.2815515655).mean()),
        coverage_95=float((z_SD <= 1.9599639845).mean()),
    )
