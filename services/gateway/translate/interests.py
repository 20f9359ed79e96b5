"""InterestService's messages <-> core types. Shape suffixes: D = width.

Answers that pass stored vectors on are made as the bytes of their message; see `packed.py`.
"""

import numpy as np
from driftline.v1 import interest_service_pb2 as pb
from driftline.v1 import vector_pb2

from services.core.periods import Period, period_from_name
from services.core.records import F32, Forecast
from services.core.schema import HISTORY_PERIODS, Granularity
from services.gateway.answers import (
    BatchAnswer,
    BatchQuery,
    ForecastAnswer,
    ForecastQuery,
    Instants,
    InterestAnswer,
    InterestQuery,
    TrajectoryAnswer,
    TrajectoryQuery,
)
from services.gateway.translate.instants import (
    as_of_from_pb,
    as_of_now,
    basis_to_pb,
    granularity_from_pb,
    instant_to_pb,
)
from services.gateway.translate.packed import first_field, interest_bytes, user_bytes
from services.gateway.translate.pages import before_from_token, trajectory_token


def interest_query_from_pb(request: pb.GetInterestRequest, now: Instants) -> InterestQuery:
    """Return the query.

    Raises:
        InvalidArgument: the period is not one of the granularity, or an instant lies in the future.
    """
    granularity = granularity_from_pb(request.granularity)
    return InterestQuery(
        user_id=request.user_id,
        granularity=granularity,
        period=_period(granularity, request.period),
        as_of=as_of_from_pb(request.as_of, now),
    )


def interest_to_wire(answer: InterestAnswer) -> bytes:
    """Return the response, a GetInterestResponse, serialized."""
    rest = pb.GetInterestResponse(basis=basis_to_pb(answer.basis)).SerializeToString()
    return first_field(interest_bytes(answer.interest, answer.basis.space_id)) + rest


def batch_query_from_pb(request: pb.BatchGetInterestsRequest, now: Instants) -> BatchQuery:
    """Return the query. Raises InvalidArgument where the granularity is unknown."""
    return BatchQuery(
        user_ids=tuple(request.user_ids),
        granularity=granularity_from_pb(request.granularity),
        as_of=as_of_now(now),
    )


def batch_to_wire(answer: BatchAnswer) -> bytes:
    """Return the response, a BatchGetInterestsResponse, serialized."""
    space_id = answer.basis.space_id
    rest = pb.BatchGetInterestsResponse(
        missing_user_ids=answer.missing_user_ids, basis=basis_to_pb(answer.basis)
    )
    parts = [first_field(user_bytes(user_id, row, space_id)) for user_id, row in answer.found]
    return b"".join((*parts, rest.SerializeToString()))


def trajectory_query_from_pb(request: pb.GetTrajectoryRequest, now: Instants) -> TrajectoryQuery:
    """Return the query; a page size of 0 is what the online store keeps.

    Raises:
        InvalidArgument: the token is not of this request, or an instant lies in the future.
    """
    granularity = granularity_from_pb(request.granularity)
    return TrajectoryQuery(
        user_id=request.user_id,
        granularity=granularity,
        limit=request.page_size or HISTORY_PERIODS[granularity],
        before=before_from_token(request.page_token, granularity),
        as_of=as_of_from_pb(request.as_of, now),
    )


def trajectory_to_wire(answer: TrajectoryAnswer) -> bytes:
    """Return the response, a GetTrajectoryResponse, serialized."""
    token = ""  # nosec B105
    if answer.next_before is not None:
        token = trajectory_token(answer.granularity, answer.next_before)
    space_id = answer.basis.space_id
    rest = pb.GetTrajectoryResponse(next_page_token=token, basis=basis_to_pb(answer.basis))
    parts = [first_field(interest_bytes(row, space_id)) for row in answer.interests]
    return b"".join((*parts, rest.SerializeToString()))


def forecast_query_from_pb(request: pb.GetForecastRequest, now: Instants) -> ForecastQuery:
    """Return the query.

    Raises:
        InvalidArgument: the period is not one of the granularity, or an instant lies in the future.
    """
    granularity = granularity_from_pb(request.granularity)
    return ForecastQuery(
        user_id=request.user_id,
        granularity=granularity,
        period=_period(granularity, request.period),
        as_of=as_of_from_pb(request.as_of, now),
    )


def forecast_to_pb(answer: ForecastAnswer) -> pb.GetForecastResponse:
    """Return the response."""
    forecast, space_id = answer.forecast, answer.basis.space_id
    return pb.GetForecastResponse(
        forecasts=[_forecast_to_pb(forecast, row, space_id) for row in answer.rows],
        forecaster=forecast.forecaster,
        made_time=instant_to_pb(forecast.made_at.end),
        basis=basis_to_pb(answer.basis),
    )


def _period(granularity: Granularity, name: str) -> Period | None:
    return period_from_name(granularity, name) if name else None


def _forecast_to_pb(forecast: Forecast, row: int, space_id: str) -> vector_pb2.ForecastVector:
    horizon = forecast.horizons[row]
    return vector_pb2.ForecastVector(
        mean=vector_pb2.Vector(space_id=space_id, values=_packed(forecast.means_HD[row])),
        scale_values=_packed(forecast.scales_HD[row]),
        horizon=horizon,
        period=(forecast.made_at + horizon).name,
    )


def _packed(values_D: F32) -> bytes:
    # No copy where the dtype is right already; `tobytes` writes rows in order whatever the layout.
    return np.asarray(values_D, "<f4").tobytes()
