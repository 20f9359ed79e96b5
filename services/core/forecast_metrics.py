"""Metrics of forecasts.

Shape suffixes: S = samples (user, origin), D = width, R = common factors.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from services.core.pooling import F64
from services.core.records import F32

# The least share of a component's error variance that no common factor explains.
LEAST_OWN = 0.05

# Half widths of 80% and 95% intervals, standard deviations.
Z80, Z95 = 1.2815515655, 1.9599639845


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
    # Mean continuous ranked probability score per component.
    crps: float
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
        crps=float(gaussian_crps(z_SD, scale_SD).mean()),
        coverage_80=float((z_SD <= Z80).mean()),
        coverage_95=float((z_SD <= Z95).mean()),
    )


def gaussian_crps(z_SD: F64, scale_SD: F32) -> F64:
    """Return the CRPS of Gaussian forecasts: the integral of (cdf - step at the truth) ** 2.

    Args:
        z_SD: (truth - mean) / scale; its sign does not matter.
        scale_SD: standard deviations, > 0.
    """
    density_SD = np.exp(-0.5 * z_SD**2) / np.sqrt(2 * np.pi)
    crps_SD: F64 = scale_SD * (z_SD * (2 * ndtr(z_SD) - 1) + 2 * density_SD - 1 / np.sqrt(np.pi))
    return crps_SD


def calibration_curve(truth_SD: F32, mean_SD: F32, scale_SD: F32) -> list[list[float]]:
    """Return [nominal, observed] shares of components inside central intervals, 10% to 99%."""
    z_SD = np.abs(truth_SD - mean_SD) / scale_SD
    nominal = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
    return [
        [float(share), float((z_SD <= edge).mean())]
        for share, edge in zip(nominal, ndtri(0.5 + nominal / 2), strict=True)
    ]


def joint_nll(error_SD: F32, scale_SD: F32, loadings_DR: F32 | None) -> F64:
    """Return each sample's negative log likelihood per component, nats, components together.

    Args:
        error_SD: truth minus mean.
        scale_SD: standard deviations, > 0.
        loadings_DR: standardised errors correlate as loadings @ loadings.T off the diagonal; None
            means that they are independent.
    """
    width = error_SD.shape[1]
    z_SD = (error_SD / scale_SD).astype(np.float64)
    log_SD = np.log(scale_SD.astype(np.float64)) + 0.5 * np.log(2 * np.pi)
    if loadings_DR is None:
        alone_S: F64 = (0.5 * z_SD**2 + log_SD).mean(axis=1)
        return alone_S
    loadings = loadings_DR.astype(np.float64)
    own_D = np.maximum(1.0 - (loadings**2).sum(axis=1), LEAST_OWN)
    # Woodbury: the inverse and determinant of diag(own) + loadings loadings' through an R x R one.
    scaled_DR = loadings / own_D[:, None]
    inner_RR = np.eye(loadings.shape[1]) + loadings.T @ scaled_DR
    shared_SR = z_SD @ scaled_DR
    solved_SR = np.linalg.solve(inner_RR, shared_SR.T).T
    square_S = (z_SD**2 / own_D).sum(axis=1) - (shared_SR * solved_SR).sum(axis=1)
    log_det = np.log(own_D).sum() + np.linalg.slogdet(inner_RR)[1]
    together_S: F64 = (0.5 * (square_S + log_det) + log_SD.sum(axis=1)) / width
    return together_S


def fit_loadings(z_SD: F32, rank: int) -> F32:
    """Return principal-factor loadings [D, rank] of standardised errors' correlations."""
    moment_DD = (z_SD.T @ z_SD).astype(np.float64) / max(len(z_SD), 1)
    size_D = np.sqrt(np.maximum(np.diag(moment_DD), 1e-12))
    correlation_DD = moment_DD / np.outer(size_D, size_D)
    shared_D = np.full(len(size_D), 0.5)
    loadings_DR = np.zeros((len(size_D), rank))
    for _ in range(20):
        reduced_DD = correlation_DD.copy()
        reduced_DD[np.diag_indices_from(reduced_DD)] = shared_D
        value_D, axes_DD = np.linalg.eigh(reduced_DD)
        loadings_DR = axes_DD[:, -rank:] * np.sqrt(np.maximum(value_D[-rank:], 0.0))
        shared_D = np.minimum((loadings_DR**2).sum(axis=1), 1.0 - LEAST_OWN)
    loadings: F32 = loadings_DR.astype(np.float32)
    return loadings
