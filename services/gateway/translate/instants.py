"""Timestamps, the instants a read is asked for, and the basis of an answer."""

from datetime import UTC, datetime, timedelta

from driftline.v1 import vector_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from services.core.errors import InvalidArgument
from services.core.schema import Granularity
from services.gateway.answers import AsOf, Basis, Instants

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NOTHING = timedelta(0)
# 9999-12-31T23:59:59, the last second that Timestamp and datetime know.
_LAST_SECOND = 253_402_300_799

_GRANULARITIES: dict[int, Granularity] = {
    vector_pb2.GRANULARITY_UNSPECIFIED: Granularity.WEEK,
    vector_pb2.GRANULARITY_DAY: Granularity.DAY,
    vector_pb2.GRANULARITY_WEEK: Granularity.WEEK,
    vector_pb2.GRANULARITY_MONTH: Granularity.MONTH,
}
_GRANULARITIES_TO_PB = {
    Granularity.DAY: vector_pb2.GRANULARITY_DAY,
    Granularity.WEEK: vector_pb2.GRANULARITY_WEEK,
    Granularity.MONTH: vector_pb2.GRANULARITY_MONTH,
}


def micros_from_pb(stamp: Timestamp, field: str) -> int:
    """Return microseconds since 1970, nanoseconds cut off.

    Raises:
        InvalidArgument: before 1970, after 9999, or nanos out of range.
    """
    if not 0 <= stamp.seconds <= _LAST_SECOND or not 0 <= stamp.nanos < 1_000_000_000:
        raise InvalidArgument(field, "must be an instant from 1970 to 9999")
    return stamp.seconds * 1_000_000 + stamp.nanos // 1000


def instant_from_pb(stamp: Timestamp, field: str) -> datetime:
    """Return the instant, to the microsecond. Raises InvalidArgument as `micros_from_pb`."""
    return _EPOCH + micros_from_pb(stamp, field) * _MICROSECOND


def micros_of(instant: datetime) -> int:
    """Return an instant as microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def instant_to_pb(instant: datetime) -> Timestamp:
    """Return the instant as a Timestamp."""
    stamp = Timestamp()
    write_instant(stamp, instant)
    return stamp


def write_instant(stamp: Timestamp, instant: datetime) -> None:
    """Write an instant into a Timestamp in place."""
    since = instant - _EPOCH
    stamp.seconds = since.days * 86_400 + since.seconds
    stamp.nanos = since.microseconds * 1000
    # 1970-01-01 has no field set, and is there all the same.
    stamp.SetInParent()


def granularity_from_pb(value: int, field: str = "granularity") -> Granularity:
    """Return the granularity; unset means week.

    Raises:
        InvalidArgument: not a value of the enum.
    """
    granularity = _GRANULARITIES.get(value)
    if granularity is None:
        raise InvalidArgument(
            field, "must be one of GRANULARITY_DAY, GRANULARITY_WEEK, GRANULARITY_MONTH"
        )
    return granularity


def granularity_to_pb(granularity: Granularity) -> vector_pb2.Granularity.ValueType:
    """Return the enum's value."""
    return _GRANULARITIES_TO_PB[granularity]


def as_of_from_pb(as_of: vector_pb2.AsOf, now: Instants) -> AsOf:
    """Return the instants to answer for; unset ones are now.

    Raises:
        InvalidArgument: one lies in the future.
    """
    event_time, ingest_time, is_now = now.event_time, now.ingest_time, True
    if as_of.HasField("event_time"):
        event_time = _not_future(as_of.event_time, "as_of.event_time", now.event_time)
        is_now = False
    if as_of.HasField("ingest_time"):
        ingest_time = _not_future(as_of.ingest_time, "as_of.ingest_time", now.ingest_time)
        is_now = False
    return AsOf(event_time=event_time, ingest_time=ingest_time, is_now=is_now)


def as_of_now(now: Instants) -> AsOf:
    """Return now, for reads that take no instants."""
    return AsOf(event_time=now.event_time, ingest_time=now.ingest_time, is_now=True)


def basis_to_pb(basis: Basis) -> vector_pb2.AnswerBasis:
    """Return what an answer rests on. The age of an input that reaches beyond the instant is 0."""
    message = vector_pb2.AnswerBasis(
        model_version=basis.model_version,
        space_id=basis.space_id,
        kind=vector_pb2.BASIS_KIND_PERSONAL
        if basis.is_personal
        else vector_pb2.BASIS_KIND_FALLBACK,
        is_stale=basis.is_stale,
    )
    # In place: to make and copy five small messages costs as much as the rest of an answer.
    write_instant(message.as_of_event_time, basis.as_of.event_time)
    write_instant(message.as_of_ingest_time, basis.as_of.ingest_time)
    if basis.input_time is not None:
        since = max(basis.as_of.event_time - basis.input_time, _NOTHING)
        message.input_age.seconds = since.days * 86_400 + since.seconds
        message.input_age.nanos = since.microseconds * 1000
        message.input_age.SetInParent()
    return message


def _not_future(stamp: Timestamp, field: str, now: datetime) -> datetime:
    instant = instant_from_pb(stamp, field)
    if instant > now:
        raise InvalidArgument(field, "lies in the future; leave it unset to mean now")
    return instant
