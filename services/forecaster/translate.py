"""ForecasterService's messages <-> core types."""

import os
from dataclasses import dataclass

import numpy as np
from driftline.v1 import forecaster_service_pb2 as pb
from driftline.v1 import vector_pb2

from services.core.errors import InvalidArgument
from services.core.periods import Period, period_from_name
from services.core.records import F32
from services.core.schema import DEFAULT_TENANT, Granularity
from services.forecaster.forecaster import Forecasts, Trajectory
from services.forecaster.forecasts import ForecastsSummary
from services.runtime.serving import Refresh

DEFAULT_HORIZONS = 4

_GRANULARITIES = {
    vector_pb2.GRANULARITY_UNSPECIFIED: Granularity.WEEK,
    vector_pb2.GRANULARITY_DAY: Granularity.DAY,
    vector_pb2.GRANULARITY_WEEK: Granularity.WEEK,
    vector_pb2.GRANULARITY_MONTH: Granularity.MONTH,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to forecast, and how far."""

    trajectories: tuple[Trajectory, ...]
    granularity: Granularity
    horizon_count: int


def query_from_pb(request: pb.ForecastInterestsRequest) -> Query:
    """Return what to forecast.

    Raises:
        InvalidArgument: lengths do not agree, or a period has a bad name; names the field.
    """
    granularity = _GRANULARITIES[request.granularity]
    return Query(
        trajectories=tuple(
            _trajectory(trajectory, granularity, f"trajectories[{position}]")
            for position, trajectory in enumerate(request.trajectories)
        ),
        granularity=granularity,
        horizon_count=request.horizon_count or DEFAULT_HORIZONS,
    )


def forecasts_to_pb(forecasts: Forecasts) -> pb.ForecastInterestsResponse:
    """Return the response."""
    rows = zip(
        forecasts.batch.means_UHD, forecasts.batch.scales_UHD, forecasts.made_at, strict=True
    )
    return pb.ForecastInterestsResponse(
        forecasts=[
            pb.TrajectoryForecast(forecasts=_vectors(forecasts, means_HD, scales_HD, made_at))
            for means_HD, scales_HD, made_at in rows
        ],
        forecaster=forecasts.forecaster,
        model_version=forecasts.model_version,
    )


def refresh_from_pb(request: pb.RefreshForecastsRequest) -> Refresh:
    """Return what to refresh."""
    return Refresh(
        tenant=request.tenant or DEFAULT_TENANT,
        buckets=tuple(request.buckets),
        is_full=request.is_full,
        model_version=request.model_version,
    )


def summary_to_pb(summary: ForecastsSummary) -> pb.RefreshForecastsResponse:
    """Return the response, with this process's id."""
    return pb.RefreshForecastsResponse(
        user_count=summary.user_count,
        forecast_count=summary.forecast_count,
        bucket_count=summary.bucket_count,
        replica_pid=os.getpid(),
    )


def population_tenant_from_pb(request: pb.RefreshPopulationRequest) -> str:
    """Return whose population."""
    return request.tenant or DEFAULT_TENANT


def population_to_pb(rise_count: int) -> pb.RefreshPopulationResponse:
    """Return the response, with this process's id."""
    return pb.RefreshPopulationResponse(rise_count=rise_count, replica_pid=os.getpid())


def _trajectory(given: pb.Trajectory, granularity: Granularity, field: str) -> Trajectory:
    vec_LD = _rows(given.vectors, f"{field}.vectors")
    for name, values in (("periods", given.periods), ("event_counts", given.event_counts)):
        if len(values) != len(vec_LD):
            problem = f"{len(values)} of them where there are {len(vec_LD)} vectors"
            raise InvalidArgument(f"{field}.{name}", problem)
    periods = [
        period_from_name(granularity, name, f"{field}.periods[{position}]")
        for position, name in enumerate(given.periods)
    ]
    last = periods[-1]
    if given.last_period:
        last = period_from_name(granularity, given.last_period, f"{field}.last_period")
    return Trajectory(
        space_id=given.vectors.space_id,
        period_L=np.array([period.ordinal for period in periods], np.int64),
        vec_LD=vec_LD,
        count_L=np.array(given.event_counts, np.int64),
        last=last,
    )


def _rows(vectors: vector_pb2.VectorBatch, field: str) -> F32:
    if len(vectors.values) % (4 * vectors.width):
        problem = f"{len(vectors.values)} bytes are no whole rows of {vectors.width} floats"
        raise InvalidArgument(f"{field}.values", problem)
    rows: F32 = np.frombuffer(vectors.values, "<f4").reshape(-1, vectors.width)
    return rows


def _vectors(
    forecasts: Forecasts, means_HD: F32, scales_HD: F32, made_at: Period
) -> list[vector_pb2.ForecastVector]:
    return [
        vector_pb2.ForecastVector(
            mean=vector_pb2.Vector(space_id=forecasts.space_id, values=_packed(mean_D)),
            scale_values=_packed(scale_D),
            horizon=horizon,
            period=(made_at + horizon).name,
        )
        for horizon, mean_D, scale_D in zip(forecasts.horizons, means_HD, scales_HD, strict=True)
    ]


def _packed(vector_D: F32) -> bytes:
    return bytes(np.ascontiguousarray(vector_D, "<f4").tobytes())
