"""Instants, vectors and InterestService's messages <-> core types."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from driftline.v1 import interest_service_pb2 as pb
from driftline.v1 import vector_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.core.errors import InvalidArgument
from services.core.periods import Period, period_from_name
from services.core.records import F32, Forecast, InterestVector
from services.core.schema import Granularity
from services.gateway.reads import AsOf, Basis

_GRANULARITIES = {
    vector_pb2.GRANULARITY_UNSPECIFIED: Granularity.WEEK,
    vector_pb2.GRANULARITY_DAY: Granularity.DAY,
    vector_pb2.GRANULARITY_WEEK: Granularity.WEEK,
    vector_pb2.GRANULARITY_MONTH: Granularity.MONTH,
}
_GRANULARITIES_PB = {
    Granularity.DAY: vector_pb2.GRANULARITY_DAY,
    Granularity.WEEK: vector_pb2.GRANULARITY_WEEK,
    Granularity.MONTH: vector_pb2.GRANULARITY_MONTH,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One user, one granularity, perhaps one period."""

    user_id: str
    granularity: Granularity
    period: Period | None
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchQuery:
    """Many users."""

    user_ids: list[str]
    granularity: Granularity
    as_of: AsOf


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryQuery:
    """A page of one user's past."""

    user_id: str
    granularity: Granularity
    # 0: what the online store holds.
    page_size: int
    # Ordinal that the page ends before; None: from the newest.
    before: int | None
    as_of: AsOf


def query_from_pb(request: Any, now: datetime) -> Query:
    """Read a GetInterestRequest or GetForecastRequest.

    Raises:
        InvalidArgument: `period` is not of the granularity, or an instant is in the future.
    """
    granularity = _GRANULARITIES[request.granularity]
    return Query(
        user_id=request.user_id,
        granularity=granularity,
        period=period_from_name(granularity, request.period) if request.period else None,
        as_of=as_of_from_pb(request, now),
    )


def batch_from_pb(request: pb.BatchGetInterestsRequest, now: datetime) -> BatchQuery:
    """Read a BatchGetInterestsRequest."""
    return BatchQuery(
        user_ids=list(request.user_ids),
        granularity=_GRANULARITIES[request.granularity],
        as_of=_now(now),
    )


def trajectory_from_pb(request: pb.GetTrajectoryRequest, now: datetime) -> TrajectoryQuery:
    """Read a GetTrajectoryRequest.

    Raises:
        InvalidArgument: `page_token` is not one of ours, or an instant is in the future.
    """
    before = None
    if request.page_token:
        if not request.page_token.lstrip("-").isdigit():
            raise InvalidArgument("page_token", "is not one that GetTrajectory returned")
        before = int(request.page_token)
    return TrajectoryQuery(
        user_id=request.user_id,
        granularity=_GRANULARITIES[request.granularity],
        page_size=request.page_size,
        before=before,
        as_of=as_of_from_pb(request, now),
    )


def as_of_from_pb(request: Any, now: datetime) -> AsOf:
    """Read the instants of any read request.

    Raises:
        InvalidArgument: one is in the future.
    """
    if not request.HasField("as_of"):
        return _now(now)
    known = datetime.now(UTC)
    event_time, is_given = now, False
    if request.as_of.HasField("event_time"):
        event_time, is_given = _past(request.as_of.event_time, "as_of.event_time", now), True
    if request.as_of.HasField("ingest_time"):
        known, is_given = _past(request.as_of.ingest_time, "as_of.ingest_time", known), True
    return AsOf(event_time=event_time, ingest_time=known, is_past=is_given)


def interest_response_to_pb(vector: InterestVector, basis: Basis) -> pb.GetInterestResponse:
    """Return the response."""
    return pb.GetInterestResponse(
        interest=interest_to_pb(vector, basis.space_id), basis=basis_to_pb(basis)
    )


def batch_response_to_pb(
    user_ids: Sequence[str], vectors: Sequence[InterestVector | None], basis: Basis
) -> pb.BatchGetInterestsResponse:
    """Return the response: users with a vector, and those without."""
    pairs = list(zip(user_ids, vectors, strict=True))
    return pb.BatchGetInterestsResponse(
        interests=[
            pb.UserInterest(user_id=user, interest=interest_to_pb(vector, basis.space_id))
            for user, vector in pairs
            if vector is not None
        ],
        missing_user_ids=[user for user, vector in pairs if vector is None],
        basis=basis_to_pb(basis),
    )


def trajectory_response_to_pb(
    vectors: Sequence[InterestVector], before: int | None, basis: Basis
) -> pb.GetTrajectoryResponse:
    """Return the response."""
    return pb.GetTrajectoryResponse(
        interests=[interest_to_pb(vector, basis.space_id) for vector in vectors],
        next_page_token="" if before is None else str(before),
        basis=basis_to_pb(basis),
    )


def forecast_response_to_pb(
    forecast: Forecast, rows: Sequence[int], basis: Basis
) -> pb.GetForecastResponse:
    """Return the response with these rows of the forecast."""
    return pb.GetForecastResponse(
        forecasts=[
            vector_pb2.ForecastVector(
                mean=_vector(forecast.means_HD[row], basis.space_id),
                scale_values=_packed(forecast.scales_HD[row]),
                horizon=forecast.horizons[row],
                period=(forecast.made_at + forecast.horizons[row]).name,
            )
            for row in rows
        ],
        forecaster=forecast.forecaster,
        made_time=timestamp(forecast.made_at.end),
        basis=basis_to_pb(basis),
    )


def interest_to_pb(vector: InterestVector, space_id: str) -> vector_pb2.InterestVector:
    """Return one vector with its period."""
    return vector_pb2.InterestVector(
        vector=_vector(vector.vec_D, space_id),
        granularity=_GRANULARITIES_PB[vector.period.granularity],
        period=vector.period.name,
        period_start_time=timestamp(vector.period.start),
        period_end_time=timestamp(vector.period.end),
        event_count=vector.event_count,
        computed_time=timestamp(vector.computed_time),
    )


def basis_to_pb(basis: Basis) -> vector_pb2.AnswerBasis:
    """Return what an answer rests on."""
    return vector_pb2.AnswerBasis(
        as_of_event_time=timestamp(basis.as_of.event_time),
        as_of_ingest_time=timestamp(basis.as_of.ingest_time),
        model_version=basis.model_version,
        space_id=basis.space_id,
        kind=(
            vector_pb2.BASIS_KIND_FALLBACK if basis.is_fallback else vector_pb2.BASIS_KIND_PERSONAL
        ),
        is_stale=basis.is_stale,
        input_age=None if basis.input_age is None else _duration(basis.input_age),
    )


def timestamp(instant: datetime) -> Timestamp:
    """Return an aware instant as a message."""
    message = Timestamp()
    message.FromDatetime(instant.astimezone(UTC))
    return message


def _duration(span: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(span)
    return message


def _now(now: datetime) -> AsOf:
    return AsOf(event_time=now, ingest_time=datetime.now(UTC), is_past=False)


def _past(message: Timestamp, field: str, now: datetime) -> datetime:
    try:
        instant = message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(field, "is no valid instant") from None
    if instant > now:
        raise InvalidArgument(
            field, f"{instant.isoformat()} is in the future; now is {now.isoformat()}"
        )
    return instant


def _vector(vec_D: F32, space_id: str) -> vector_pb2.Vector:
    return vector_pb2.Vector(space_id=space_id, values=_packed(vec_D))


def _packed(vec_D: F32) -> bytes:
    return np.ascontiguousarray(vec_D, "<f4").tobytes()
