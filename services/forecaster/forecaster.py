"""The forecaster: what its RPCs do, on core types.

Shape suffixes: L = periods of one trajectory, D = width, U = trajectories, H = horizons.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from services.core.burst_forecasts import BurstAware
from services.core.burst_spec import load_burst_model
from services.core.burst_state import BurstModel
from services.core.errors import InvalidArgument
from services.core.forecasters import Auto, load_forecaster
from services.core.forecasts import ForecastBatch, Forecaster
from services.core.model import Model
from services.core.periods import Period
from services.core.pooling import I64
from services.core.records import F32
from services.core.schema import BURST_GRANULARITIES, DEFAULT_TENANT, Granularity
from services.core.spaces import require_space
from services.core.trajectories import build_batch
from services.forecaster.burst_rows import Stamp
from services.forecaster.forecasts import ForecastsConfig, ForecastsRefresh, ForecastsSummary
from services.forecaster.population import PopulationRefresh
from services.runtime.serving import check_buckets
from services.runtime.settings import Settings
from services.store.live_models import LiveModels
from services.store.ports import EventTables, FeatureWriter

# Periods from a trajectory's first to its last closed one, at most: gaps cost as vectors do.
MAX_SPAN = 2000
# How far from 1 the norm of a vector may be.
NORM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One user's vectors, oldest first."""

    space_id: str
    # Ordinals, ascending.
    period_L: I64
    vec_LD: F32
    count_L: I64
    # Last closed period.
    last: Period


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """Forecasts of many trajectories and what made them."""

    batch: ForecastBatch
    # Each trajectory's last closed period.
    made_at: tuple[Period, ...]
    horizons: tuple[int, ...]
    forecaster: str
    model_version: str
    space_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecasterStores:
    """Everything outside that the forecaster touches."""

    models: LiveModels
    tables: EventTables
    features: FeatureWriter


class InterestForecaster:
    """Forecasts trajectories, and refreshes the stores. Blocking; safe between threads."""

    def __init__(self, stores: ForecasterStores, settings: Settings) -> None:
        self._stores = stores
        self._settings = settings
        self._loaded: dict[tuple[str, Granularity], Auto] = {}
        self._applied: set[tuple[str, str]] = set()
        # A retry that comes while the call it repeats has not yet noticed its end waits for it.
        self._refreshing: dict[object, threading.Lock] = defaultdict(threading.Lock)

    def forecast(
        self,
        trajectories: Sequence[Trajectory],
        granularity: Granularity,
        horizon_count: int,
    ) -> Forecasts:
        """Forecast 1 to `horizon_count` periods ahead, by the default tenant's live model.

        Raises:
            NotReady: no model is live.
            SpaceMismatch: a trajectory is of another space.
            InvalidArgument: a trajectory is malformed; names the field.
        """
        model = self._stores.models.model(DEFAULT_TENANT)
        for position, trajectory in enumerate(trajectories):
            require_space(model.space_id, trajectory.space_id)
            check_trajectory(trajectory, model.tower.width, f"trajectories[{position}]")
        forecaster: Forecaster = self._forecaster(model, granularity)
        if (bursts := load_burst_model(model, granularity)) is not None:
            forecaster = BurstAware(inner=forecaster, model=bursts)
        batch = build_batch(
            [(t.period_L, t.vec_LD, t.count_L) for t in trajectories],
            [t.last.ordinal for t in trajectories],
        )
        horizons = tuple(range(1, horizon_count + 1))
        return Forecasts(
            batch=forecaster.forecast(batch, horizons),
            made_at=tuple(trajectory.last for trajectory in trajectories),
            horizons=horizons,
            forecaster=forecaster.name,
            model_version=model.model_version,
            space_id=model.space_id,
        )

    def refresh_forecasts(
        self,
        tenant: str,
        buckets: Sequence[int],
        *,
        is_full: bool,
        cancelled: Callable[[], bool],
        model_version: str = "",
    ) -> ForecastsSummary:
        """Forecast and publish what changed in the buckets, by a model (empty: the live one).

        See ForecastsRefresh.run.

        Raises:
            InvalidArgument: there is no such bucket.
        """
        check_buckets(buckets, self._settings.bucket_count)
        model = self._stores.models.named(tenant, model_version)
        self._apply(tenant, model.space_id)
        granularities = self._settings.granularities
        refresh = ForecastsRefresh(
            features=self._stores.features,
            tables=self._stores.tables,
            model=model,
            forecasters={each: self._forecaster(model, each) for each in granularities},
            burst_models=_burst_models(model, granularities),
            config=ForecastsConfig(
                bucket_count=self._settings.bucket_count,
                granularities=granularities,
                publish_lag=timedelta(seconds=self._settings.publish_lag_s),
                users_a_chunk=self._settings.refresh_chunk_users,
            ),
            tenant=tenant,
            now=self._settings.clock(),
        )
        with self._refreshing[tenant, model.space_id, *sorted(buckets)]:
            return refresh.run(buckets, is_full=is_full, cancelled=cancelled)

    def refresh_population(self, tenant: str, *, model_version: str = "") -> int:
        """Publish bursts of everyone, from what every bucket's refresh left; return how many.

        Raises:
            NotReady: no model is live. InvalidArgument: there is no such model.
        """
        model = self._stores.models.named(tenant, model_version)
        self._apply(tenant, model.space_id)
        with self._refreshing[tenant, model.space_id, "population"]:
            return sum(
                PopulationRefresh(
                    features=self._stores.features,
                    tables=self._stores.tables,
                    tenant=tenant,
                    bucket_count=self._settings.bucket_count,
                    model=bursts,
                    stamp=Stamp(
                        granularity=granularity,
                        space_id=model.space_id,
                        model_version=model.model_version,
                        computed_time=self._stores.tables.tick(),
                        publish_lag=timedelta(seconds=self._settings.publish_lag_s),
                    ),
                ).run()
                for granularity, bursts in _burst_models(
                    model, self._settings.granularities
                ).items()
            )

    def _apply(self, tenant: str, space_id: str) -> None:
        if (tenant, space_id) not in self._applied:
            self._stores.features.apply(tenant, space_id)
            self._applied.add((tenant, space_id))

    def _forecaster(self, model: Model, granularity: Granularity) -> Auto:
        key = (model.model_version, granularity)
        if key not in self._loaded:
            self._loaded[key] = load_forecaster(model, granularity)
        return self._loaded[key]


def _burst_models(
    model: Model, granularities: Sequence[Granularity]
) -> dict[Granularity, BurstModel]:
    """Return the model's detection, of granularities whose bursts are stored."""
    found = {
        each: load_burst_model(model, each) for each in granularities if each in BURST_GRANULARITIES
    }
    return {granularity: bursts for granularity, bursts in found.items() if bursts is not None}


def check_trajectory(trajectory: Trajectory, width: int, field: str) -> None:
    """Refuse a trajectory that cannot be forecast.

    Raises:
        InvalidArgument: names the field below `field`.
    """
    if trajectory.vec_LD.shape[1] != width:
        problem = f"{trajectory.vec_LD.shape[1]} where the live model's vectors have {width}"
        raise InvalidArgument(f"{field}.vectors.width", problem)
    if not np.isfinite(trajectory.vec_LD).all():
        raise InvalidArgument(f"{field}.vectors.values", "holds a NaN or an infinity")
    norm_L = np.linalg.norm(trajectory.vec_LD, axis=1)
    if (np.abs(norm_L - 1) > NORM_TOLERANCE).any():
        raise InvalidArgument(f"{field}.vectors.values", "has a row that is not of unit norm")
    if (np.diff(trajectory.period_L) <= 0).any():
        raise InvalidArgument(f"{field}.periods", "must ascend, without repeats")
    first = int(trajectory.period_L[0])
    if trajectory.last.ordinal < first:
        raise InvalidArgument(f"{field}.last_period", "lies before the first of the periods")
    if trajectory.last.ordinal - first >= MAX_SPAN:
        problem = f"reach back more than {MAX_SPAN} periods from the last one; leave the oldest out"
        raise InvalidArgument(f"{field}.periods", problem)
