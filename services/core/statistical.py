"""ARIMA and ETS by statsforecast, on a vector's principal components, user by user.

    arima   (1, 0, 1) around a mean, by maximum likelihood
    ets     simple exponential smoothing with additive errors

Each of the first few components is a series of its own; the rest of the vector is the base's. The
series are the *active* periods closed up, for neither model takes gaps as such here (the library's
ARIMA fails on a missing value): a step is an active period, and h periods ahead is taken for h
steps. What a gap adds to the error is in the base's scale, which these keep for the rest.

They fit at forecast time: 10 to 500 ms a user. That serves no bucket of users, so `auto` never
chooses them; reports compare them on a sample.

Shape suffixes: U = users, D = width, K = components, H = horizons, A = active periods.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from services.core.forecasts import ForecastBatch, Forecaster
from services.core.pooling import F64
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch

Kind = Literal["arima", "ets"]
STATISTICAL: tuple[Kind, ...] = ("arima", "ets")
# Active periods that a series needs; a shorter one is left to the base.
SHORTEST = 8
# The central interval that is one standard deviation to either side.
ONE_SIGMA = 68.26894921370859


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticalForecaster:
    """The model of `kind` on the leading components, the base on the rest."""

    kind: Kind
    base: Forecaster
    centre_D: F32
    # Orthonormal columns.
    components_DK: F32

    @property
    def name(self) -> str:
        """The kind's."""
        return self.kind

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """See Forecaster."""
        made = self.base.forecast(batch, horizons)
        means_UHD, scales_UHD = made.means_UHD.copy(), made.scales_UHD.copy()
        for u in np.flatnonzero(batch.mask_UT.sum(axis=1) >= SHORTEST):
            vec_AD = batch.vec_UTD[u, batch.mask_UT[u]]
            series_AK = (vec_AD - self.centre_D) @ self.components_DK
            mean_HK, sigma_HK = self._series(series_AK.astype(np.float64), horizons)
            base_HK = (means_UHD[u] - self.centre_D) @ self.components_DK
            means_UHD[u] += ((mean_HK - base_HK) @ self.components_DK.T).astype(np.float32)
            # The base's share of these components gives way to the models' own.
            shares_DK = self.components_DK**2
            rest_HD = scales_UHD[u] ** 2 * np.maximum(1.0 - shares_DK.sum(axis=1), 0.0)
            scales_UHD[u] = np.sqrt(rest_HD + sigma_HK**2 @ shares_DK.T)
        return ForecastBatch(means_UHD=means_UHD, scales_UHD=scales_UHD)

    def _series(self, series_AK: F64, horizons: Sequence[int]) -> tuple[F64, F64]:
        last = max(horizons)
        row_H = np.asarray(horizons) - 1
        means, sigmas = [], []
        for y_A in series_AK.T:
            mean, sigma = _one(self.kind, np.ascontiguousarray(y_A), last)
            means.append(mean[row_H])
            sigmas.append(sigma[row_H])
        return np.stack(means, axis=1), np.stack(sigmas, axis=1)


def _one(kind: Kind, y_A: F64, horizon: int) -> tuple[F64, F64]:
    """Fit one series; its mean and spread where the fit fails or runs away."""
    spread = max(float(y_A.std()), 1e-6)
    plain = np.full(horizon, y_A.mean()), np.full(horizon, spread)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # Says "possible convergence problem" of most short series.
            warnings.simplefilter("ignore")
            made = _model(kind).forecast(y=y_A, h=horizon, level=[ONE_SIGMA])
    except (ValueError, IndexError, ZeroDivisionError, np.linalg.LinAlgError):
        return plain
    mean = np.asarray(made["mean"], np.float64)
    high = next(np.asarray(made[key], np.float64) for key in made if key.startswith("hi-"))
    sigma = high - mean
    is_sane = np.isfinite(mean) & np.isfinite(sigma) & (np.abs(mean - y_A.mean()) < 5 * spread)
    if not is_sane.all():
        return plain
    return mean, np.clip(sigma, 0.1 * spread, 10 * spread)


def _model(kind: Kind) -> Any:
    # Imported here: it takes seconds, and serving never asks for it.
    from statsforecast.models import ARIMA, AutoETS

    if kind == "arima":
        # Its plain "CSS" forecasts the mean, whatever was fitted.
        return ARIMA(order=(1, 0, 1), include_mean=True, method="CSS-ML")
    return AutoETS(model="ANN")
