"""Where the demand for topics goes, and how wide of it one may be.

Simple methods, the best of them by its past errors, and intervals from what it missed by before.

Every series is forecast at each of its own past periods as it is at the newest. The errors choose
the method of a horizon, and their quantiles, scaled by what is usual for a series of that level, are
the interval (split conformal on rolling origins). Only what was published goes in.

Shape suffixes: C = cohorts, N = series, T = topics, P = periods, H = horizons, Q = quantiles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from services.core.demand import Told
from services.core.periods import PERIODS_A_YEAR
from services.core.pooling import F64
from services.core.schema import Granularity

# Periods ahead that are forecast.
HORIZONS = {Granularity.DAY: 28, Granularity.WEEK: 13, Granularity.MONTH: 6}
# Lower and upper bounds of the 80% and the 95% interval.
QUANTILES = (0.1, 0.9, 0.025, 0.975)
LAST, SEASONAL = "last_period", "seasonal_naive"
# Past origins that choose and that widths rest on.
ORIGINS = 26
# Fewer past errors than this a horizon say nothing of a method: the mean of a few is taken.
LEAST_ORIGINS = 4

_RATES = (0.1, 0.2, 0.35, 0.5, 0.7)
_TREND_RATE, _DAMPING = 0.1, 0.9
# Below this part of the mean level a series' errors are taken to be as usual at it.
_LEAST_LEVEL = 0.05
# At least this part of a series' error is taken not to be noise.
_LEAST_SIGNAL = 0.1
# How far a bound's level moves after all errors lay on one side of it.
ADAPTS = 0.1
_DEFAULT = "ema_0.35"
# Of a normal law, where there are no past errors: 10%, 90%, 2.5%, 97.5%.
_NORMAL = np.array([-1.2816, 1.2816, -1.96, 1.96])


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesForecast:
    """Forecasts of N series, 1..H periods past their last column."""

    mean_NH: F64
    # QUANTILES of what will be published.
    bound_NHQ: F64
    # The method that was chosen for each horizon.
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandForecast:
    """Of one cohort, one series a topic."""

    audience: SeriesForecast
    volume: SeriesForecast
    # Of the volume of all topics.
    share: SeriesForecast


def forecast_demand(seen: Told, horizons: int, granularity: Granularity) -> DemandForecast:
    """Forecast what was published of a cohort; nan where nothing was."""
    season = PERIODS_A_YEAR[granularity]

    def of(series_TP: F64, noise_P: F64) -> SeriesForecast:
        return forecast_series(series_TP, horizons, season, noise_P=noise_P)

    return DemandForecast(
        audience=of(np.maximum(seen.audience_TP, 0), seen.cohorts_P * seen.audience_variance),
        volume=of(np.maximum(seen.volume_TP, 0), seen.cohorts_P * seen.volume_variance),
        share=of(shares(seen.volume_TP), share_noise(seen)),
    )


def share_noise(seen: Told) -> F64:
    """Return the variance that noise gives a share, period by period; the total is taken as it is."""
    total_P = np.maximum(np.nansum(np.maximum(seen.volume_TP, 0), axis=0), 1.0)
    noise_P: F64 = seen.cohorts_P * seen.volume_variance / total_P**2
    return noise_P


def shares(volume_TP: F64) -> F64:
    """Return each topic's share of a period's volume; nan where there was none."""
    positive_TP = np.maximum(volume_TP, 0)
    total_P = np.nansum(positive_TP, axis=0)
    return np.where(total_P > 0, positive_TP / np.maximum(total_P, 1), np.nan)


def forecast_series(
    series_NP: F64, horizons: int, season: int, *, first: int = 1, noise_P: F64 | None = None
) -> SeriesForecast:
    """Forecast non-negative series; a gap is nan, and a series without a value stays nan.

    Args:
        series_NP: up to now.
        horizons: periods ahead, the last one.
        season: periods of one.
        first: the first one; columns of the answer are of it and those after.
        noise_P: variance of the noise in each period's values; None means none.
    """
    asked = range(first, horizons + 1)
    noise_P = np.zeros(series_NP.shape[1]) if noise_P is None else noise_P
    series_NP, noise_P = _from_first(series_NP, noise_P)
    series, periods = series_NP.shape
    if not series or not periods:
        none_NH = np.full((series, len(asked)), np.nan)
        bound_NHQ = np.full((series, len(asked), len(QUANTILES)), np.nan)
        return SeriesForecast(mean_NH=none_NH, bound_NHQ=bound_NHQ, methods=(LAST,) * len(asked))
    foretold = {name: method(series_NP) for name, method in methods(season).items()}
    mean_NH = np.zeros((series, len(asked)))
    bounds: list[F64] = []
    chosen: list[str] = []
    for column, h in enumerate(asked):
        truth_NP = _ahead(series_NP, h)
        name = _best({name: ahead(h) for name, ahead in foretold.items()}, truth_NP)
        mean_NP = np.maximum(foretold[name](h), 0)
        mean_NH[:, column] = mean_NP[:, -1]
        bounds.append(_bounds(mean_NP, truth_NP, noise_P, h))
        chosen.append(name)
    return SeriesForecast(
        mean_NH=mean_NH, bound_NHQ=np.stack(bounds, axis=1), methods=tuple(chosen)
    )


# What a method foretells at every period for so many periods on.
Ahead = Callable[[int], F64]
Method = Callable[[F64], Ahead]


def methods(season: int) -> dict[str, Method]:
    """Return the methods by name; the first two are naive."""
    found: dict[str, Method] = {
        LAST: lambda series_NP: _level(series_NP, 1.0),
        SEASONAL: lambda series_NP: lambda h: seasonal_naive(series_NP, h, season),
    }
    for rate in _RATES:
        found[f"ema_{rate}"] = partial(_level, rate=rate)
    for rate in _RATES[1:4]:
        found[f"damped_{rate}"] = partial(_damped, rate=rate)
    return found


def _level(series_NP: F64, rate: float) -> Ahead:
    level_NP = _ema(series_NP, rate)
    return lambda h: level_NP


def seasonal_naive(series_NP: F64, horizon: int, season: int) -> F64:
    """Return what was a season before the target; the last value where that is not known."""
    back = season * -(-horizon // season) - horizon
    before_NP = np.full_like(series_NP, np.nan)
    if back < series_NP.shape[1]:
        before_NP[:, back:] = series_NP[:, : series_NP.shape[1] - back]
    return np.where(np.isnan(before_NP), _ema(series_NP, 1.0), before_NP)


def _ema(series_NP: F64, rate: float) -> F64:
    """Return the exponential mean at every period; a gap changes nothing."""
    level_N = np.full(len(series_NP), np.nan)
    weight_N = np.zeros(len(series_NP))
    out_NP = np.empty_like(series_NP)
    for p in range(series_NP.shape[1]):
        value_N = series_NP[:, p]
        is_seen_N = ~np.isnan(value_N)
        # Weights of the values so far sum to 1: the first ones are a plain mean, not the first alone.
        weight_N = np.where(is_seen_N, (1 - rate) * weight_N + 1, weight_N)
        step_N = value_N - np.where(np.isnan(level_N), value_N, level_N)
        moved_N = np.where(np.isnan(level_N), value_N, level_N + step_N / np.maximum(weight_N, 1))
        level_N = np.where(is_seen_N, moved_N, level_N)
        out_NP[:, p] = level_N
    return out_NP


def _damped(series_NP: F64, rate: float) -> Ahead:
    """Return a level and a damped trend."""
    level_N = np.full(len(series_NP), np.nan)
    trend_N = np.zeros(len(series_NP))
    level_NP, trend_NP = np.empty_like(series_NP), np.empty_like(series_NP)
    for p in range(series_NP.shape[1]):
        value_N = series_NP[:, p]
        expected_N = level_N + _DAMPING * trend_N
        error_N = np.where(np.isnan(value_N) | np.isnan(level_N), 0, value_N - expected_N)
        level_N = np.where(np.isnan(level_N), value_N, expected_N + rate * error_N)
        trend_N = _DAMPING * trend_N + rate * _TREND_RATE * error_N
        level_NP[:, p], trend_NP[:, p] = level_N, trend_N
    return lambda h: level_NP + sum(_DAMPING**step for step in range(1, h + 1)) * trend_NP


def _from_first(series_NP: F64, noise_P: F64) -> tuple[F64, F64]:
    """Return the columns from the first with a value on."""
    seen = np.flatnonzero(~np.isnan(series_NP).all(axis=0))
    start = int(seen[0]) if len(seen) else series_NP.shape[1]
    return series_NP[:, start:], noise_P[start:]


def _ahead(series_NP: F64, horizon: int) -> F64:
    """Return what came `horizon` periods after each; nan where that is not yet known."""
    truth_NP = np.full_like(series_NP, np.nan)
    if horizon < series_NP.shape[1]:
        truth_NP[:, :-horizon] = series_NP[:, horizon:]
    return truth_NP


def _recent(truth_NP: F64) -> NDArray[np.bool_]:
    """Return the columns of the newest ORIGINS whose target is known, but for the first ones."""
    known = np.flatnonzero(~np.isnan(truth_NP).all(axis=0))
    is_used_P = np.zeros(truth_NP.shape[1], bool)
    is_used_P[known[known >= LEAST_ORIGINS - 1][-ORIGINS:]] = True
    return is_used_P


def _best(made: dict[str, F64], truth_NP: F64) -> str:
    """Return the method with the least absolute error of all series together."""
    used_P = _recent(truth_NP)
    if used_P.sum() < LEAST_ORIGINS:
        return _DEFAULT
    errors = {
        name: float(np.nanmean(np.abs(np.maximum(mean_NP[:, used_P], 0) - truth_NP[:, used_P])))
        for name, mean_NP in made.items()
    }
    return min(errors, key=lambda name: errors[name])


def _bounds(mean_NP: F64, truth_NP: F64, noise_P: F64, horizon: int) -> F64:
    """Return QUANTILES [N, Q] around the newest mean."""
    error_NP = truth_NP - mean_NP
    # Of the target; one that is to come is taken to be as noisy as the newest.
    ahead_P = np.concatenate([noise_P[horizon:], np.repeat(noise_P[-1:], horizon)])
    scale_NP = _scales(mean_NP, error_NP, ahead_P[: len(noise_P)])
    at_Q = _quantiles(error_NP / scale_NP, horizon)
    bound_NQ: F64 = mean_NP[:, -1:] + at_Q * scale_NP[:, -1:]
    return np.maximum(bound_NQ, 0)


def _quantiles(ratio_NP: F64, horizon: int) -> F64:
    """Return the QUANTILES of scaled errors at the newest period.

    Replayed over the last origins: where more than q of the errors that became known lay below
    the bound that was then in force, its level falls, and rises where fewer did (adaptive conformal).
    """
    level_Q = np.array(QUANTILES)
    made: dict[int, F64] = {}
    known = np.flatnonzero(np.isfinite(ratio_NP).any(axis=0))
    at_Q = _NORMAL
    for p in range(max(ratio_NP.shape[1] - 2 * ORIGINS, 0), ratio_NP.shape[1]):
        arrived = p - horizon
        if arrived in made:
            now = ratio_NP[:, arrived][np.isfinite(ratio_NP[:, arrived])]
            if len(now):
                below_Q = (now[:, None] < made[arrived]).mean(0)
                level_Q = level_Q + ADAPTS * (np.array(QUANTILES) - below_Q)
        past = known[(known >= LEAST_ORIGINS - 1) & (known <= arrived)][-ORIGINS:]
        if len(past) >= LEAST_ORIGINS:
            ratio = ratio_NP[:, past]
            ratio = ratio[np.isfinite(ratio)]
            at_Q = np.quantile(ratio, np.clip(level_Q, 0.0, 1.0))
            made[p] = at_Q
    return at_Q


def _scales(mean_NP: F64, error_NP: F64, noise_P: F64) -> F64:
    """Return the usual error at each mean: its square, less noise, is a power of it, fitted on all."""
    square_NP = error_NP**2
    number_N = np.isfinite(square_NP).sum(1)
    usual_N = np.nansum(square_NP, axis=1) / np.maximum(number_N, 1)
    noise_N = np.nansum(np.where(np.isfinite(square_NP), noise_P, 0), axis=1) / np.maximum(
        number_N, 1
    )
    usual_N = np.maximum(usual_N - noise_N, _LEAST_SIGNAL * usual_N)
    level_N = np.nansum(mean_NP, axis=1) / np.maximum((~np.isnan(mean_NP)).sum(1), 1)
    fit_N = (number_N > 0) & (usual_N > 0) & (level_N > 0)
    power, base = 1.0, 0.0
    if fit_N.sum() >= 2:
        x_N, y_N = np.log(level_N[fit_N]), np.log(usual_N[fit_N])
        spread = float(((x_N - x_N.mean()) ** 2).sum())
        slope = float(((x_N - x_N.mean()) * y_N).sum()) / spread if spread > 0 else 1.0
        power = min(max(slope, 0.0), 2.0)
        base = float(y_N.mean() - power * x_N.mean())
    # The law says little of series that are nearly never there.
    floor = _LEAST_LEVEL * float(level_N[level_N > 0].mean()) if (level_N > 0).any() else 1.0
    square_law_NP = np.exp(base) * np.maximum(np.nan_to_num(mean_NP), floor) ** power
    scale_NP: F64 = np.sqrt(square_law_NP + noise_P)
    return scale_NP
