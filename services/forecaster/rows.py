"""Rows of features from forecasts.

Shape suffixes: U = users, H = horizons, D = width, P = (user, period) rows.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from services.core.forecasters import Auto
from services.core.forecasts import ForecastBatch
from services.core.model import Model
from services.core.periods import Period, ordinals_of_days
from services.core.pooling import I64
from services.core.records import F32, Forecast
from services.core.schema import (
    FORECASTER,
    KNOWN_TIME,
    LAST_PERIOD,
    MADE_AT,
    MEANS,
    MODEL_VERSION,
    PERIOD_START,
    SCALES,
    STATE_MEAN,
    STATE_VARIANCE,
    USER_ID,
    Granularity,
    forecast_state_view,
    forecast_view,
)
from services.core.trajectories import TrajectoryBatch
from services.core.views import view_named
from services.store.frames import conform, rows_frame
from services.store.rows import features_of_forecast

# Forecasts nearer than this in every component are the same forecast.
SAME = 1e-6
# What two forecasts are compared by.
SAID = (MADE_AT, MODEL_VERSION, FORECASTER, MEANS, SCALES)


def ordinals(rows: pl.DataFrame, granularity: Granularity) -> I64:
    """Return the period ordinal of each row of interest_{g}_by_period."""
    return ordinals_of_days(granularity, rows[PERIOD_START].dt.epoch("d").cast(pl.Int64).to_numpy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Forecasts of some users, what they were made from, and when."""

    # Rows of U.
    users: list[str]
    batch: TrajectoryBatch
    forecasts: ForecastBatch
    horizons: tuple[int, ...]
    # The last closed period.
    made_at: Period
    model: Model
    forecaster: Auto
    computed_time: datetime
    # user_id and known_time: when each forecast could have been made.
    known: pl.DataFrame


def forecast_rows(made: Made) -> pl.DataFrame:
    """Return rows of forecast_{g}."""
    features = [
        features_of_forecast(
            Forecast(
                means_HD=means_HD,
                scales_HD=scales_HD,
                horizons=made.horizons,
                made_at=made.made_at,
                forecaster=made.forecaster.name,
                model_version=made.model.model_version,
                computed_time=made.computed_time,
            )
        )
        for means_HD, scales_HD in zip(
            made.forecasts.means_UHD, made.forecasts.scales_UHD, strict=True
        )
    ]
    view = forecast_view(made.made_at.granularity, made.model.space_id)
    return _frame(view, made, features)


def state_rows(made: Made) -> pl.DataFrame:
    """Return rows of forecast_state_{g}: the belief about each user's level at `made_at`'s close.

    It is the local level's where one was fitted, else what is forecast for the next period.
    """
    mean_UD, variance_UD = _beliefs(made)
    features = [
        {
            STATE_MEAN: mean_D,
            STATE_VARIANCE: variance_D,
            LAST_PERIOD: made.made_at.name,
            FORECASTER: made.forecaster.name,
            MODEL_VERSION: made.model.model_version,
        }
        for mean_D, variance_D in zip(mean_UD, variance_UD, strict=True)
    ]
    view = forecast_state_view(made.made_at.granularity, made.model.space_id)
    return _frame(view, made, features)


def _beliefs(made: Made) -> tuple[F32, F32]:
    level = made.forecaster.level
    if level is None:
        return made.forecasts.means_UHD[:, 0], made.forecasts.scales_UHD[:, 0] ** 2
    return level.belief(level.state(made.batch))


def _frame(view: str, made: Made, features: list[dict[str, Any]]) -> pl.DataFrame:
    rows = rows_frame(
        view,
        made.users,
        features,
        computed_time=made.computed_time,
    )
    known = rows.drop(KNOWN_TIME).join(made.known, on=USER_ID, how="left", maintain_order="left")
    return conform(view_named(view), known)


def rows_that_differ(fresh: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
    """Return the fresh rows of forecast_{g} that are not published, or published otherwise."""
    held = published.select(USER_ID, *(pl.col(name).alias(f"_{name}") for name in SAID))
    joined = fresh.join(held, on=USER_ID, how="left", maintain_order="left")
    plain = pl.all_horizontal(pl.col(name) == pl.col(f"_{name}") for name in SAID[:3])
    as_long = pl.all_horizontal(
        pl.col(name).list.len() == pl.col(f"_{name}").list.len() for name in (MEANS, SCALES)
    )
    is_same_U = joined.select((plain & as_long).fill_null(value=False)).to_series().to_numpy()
    both = joined.filter(pl.Series(is_same_U))
    if len(both):
        near_U = np.ones(len(both), bool)
        for name in (MEANS, SCALES):
            mine, theirs = (
                both[column].explode().to_numpy().reshape(len(both), -1)
                for column in (name, f"_{name}")
            )
            near_U &= np.abs(mine - theirs).max(axis=1) <= SAME
        is_same_U = is_same_U.copy()
        is_same_U[is_same_U] = near_U
    return fresh.filter(pl.Series(~is_same_U))
