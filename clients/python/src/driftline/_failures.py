"""From a failed call to a typed error: by the server's reason, else by the status."""

from typing import Any, TypeVar

import grpc
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from . import errors as e

DOMAIN = "driftline.dev"
_PREFIX = "ERROR_REASON_"
_DETAILS_KEY = "grpc-status-details-bin"
_REQUEST_ID_KEY = "x-request-id"
# How gRPC words a call that this process ended itself.
_OWN_ENDS = ("Channel closed", "Locally cancelled")
_D = TypeVar("_D", BadRequest, ErrorInfo, RetryInfo)

_BY_REASON: dict[str, type[e.DriftlineError]] = {
    "INVALID_ARGUMENT": e.InvalidArgumentError,
    "USER_NOT_FOUND": e.UserNotFoundError,
    "ITEM_NOT_FOUND": e.ItemNotFoundError,
    "ERASURE_NOT_FOUND": e.ErasureNotFoundError,
    "COHORT_TOO_SMALL": e.CohortTooSmallError,
    "SPACE_MISMATCH": e.SpaceMismatchError,
    "WORSE_THAN_LIVE": e.WorseThanLiveError,
    "OVERLOADED": e.OverloadedError,
    "DEPENDENCY_UNAVAILABLE": e.UnavailableError,
    "NOT_READY": e.NotReadyError,
    "EVENT_CONFLICT": e.EventConflictError,
    "CANCELLED": e.DeadlineError,
    "UNAUTHENTICATED": e.AccessDeniedError,
    "PERMISSION_DENIED": e.AccessDeniedError,
    "INTERNAL": e.InternalError,
    "UNIMPLEMENTED": e.UnsupportedError,
}
_BY_CODE: dict[grpc.StatusCode, type[e.DriftlineError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: e.InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: e.InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: e.NotFoundError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: e.OverloadedError,
    grpc.StatusCode.UNAVAILABLE: e.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: e.DeadlineError,
    grpc.StatusCode.UNAUTHENTICATED: e.AccessDeniedError,
    grpc.StatusCode.PERMISSION_DENIED: e.AccessDeniedError,
    grpc.StatusCode.UNIMPLEMENTED: e.UnsupportedError,
    grpc.StatusCode.INTERNAL: e.InternalError,
    grpc.StatusCode.UNKNOWN: e.InternalError,
    grpc.StatusCode.DATA_LOSS: e.InternalError,
}


def error_from_rpc(failure: Any) -> e.DriftlineError:
    """Return the typed error of a `grpc.RpcError`, sync or aio."""
    code = failure.code() or grpc.StatusCode.UNKNOWN
    trailing = dict(failure.trailing_metadata() or ())
    status = _status(trailing.get(_DETAILS_KEY))
    info = _detail(status, ErrorInfo) or ErrorInfo()
    ours = info.domain == DOMAIN
    reason = info.reason.removeprefix(_PREFIX) if ours else info.reason
    metadata = dict(info.metadata)
    facts: dict[str, Any] = {
        "code": code.name,
        "reason": reason,
        "metadata": metadata,
        "request_id": trailing.get(_REQUEST_ID_KEY) or metadata.get("request_id", ""),
    }
    known = _BY_REASON.get(reason) if ours else None
    kind = known or _BY_CODE.get(code, e.DriftlineError)
    message = failure.details() or code.name.lower().replace("_", " ")
    if code is grpc.StatusCode.CANCELLED and not reason and not message.startswith(_OWN_ENDS):
        # Where too many calls wait, gRPC refuses new ones before any code of the server sees them.
        kind = e.OverloadedError
        message = "the server has more calls than it can answer; try again with backoff"
    if issubclass(kind, e.InvalidArgumentError):
        violations = _violations(status)
        return kind(message, field=metadata.get("field", ""), violations=violations, **facts)
    if issubclass(kind, e.SpaceMismatchError):
        return kind(
            message,
            expected_space_id=metadata.get("expected_space_id", ""),
            actual_space_id=metadata.get("actual_space_id", ""),
            code=code.name,
            request_id=facts["request_id"],
        )
    error = kind(message, **facts)
    if isinstance(error, e.OverloadedError) and (retry := _detail(status, RetryInfo)) is not None:
        error.retry_after_s = retry.retry_delay.ToMilliseconds() / 1e3
    return error


def _status(data: str | bytes | None) -> Status:
    try:
        return Status.FromString(data) if isinstance(data, bytes) else Status()
    except Exception:  # details of a stranger must not hide the error itself
        return Status()


def _detail(status: Status, kind: type[_D]) -> _D | None:
    for detail in status.details:
        found = kind()
        if detail.Is(kind.DESCRIPTOR) and detail.Unpack(found):
            return found
    return None


def _violations(status: Status) -> tuple[e.Violation, ...]:
    bad = _detail(status, BadRequest) or BadRequest()
    return tuple(e.Violation(one.field, one.description) for one in bad.field_violations)
