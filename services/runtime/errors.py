"""The one table from what the core raises to what a caller sees: gRPC status and reason.

`tests/runtime/test_errors.py` walks every `CoreError` and every `ErrorReason`: neither side may
miss the other.
"""

import typing
from dataclasses import dataclass

import grpc
from driftline.v1.error_reason_pb2 import ErrorReason
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from services.core import errors
from services.store.disk import told

DOMAIN = "driftline.dev"
DETAILS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"
# A caller's text in an answer is cut here: trailing metadata must stay under gRPC's 8 KiB.
MAX_TEXT = 512
# Violations named in one answer, and the longest text of each.
MAX_VIOLATIONS = 16
MAX_PROBLEM = 256


class DeadlinePassed(errors.Cancelled):
    """The time allowed ran out. Metadata: operation."""

    def __init__(self, operation: str, seconds: float) -> None:
        errors.CoreError.__init__(
            self,
            f"{operation} took longer than the {seconds:g} s allowed; "
            "allow more time or ask for less",
            operation=operation,
        )


class InvalidRequest(errors.InvalidArgument):
    """Several fields may be bad. Metadata: field, the first one."""

    def __init__(self, violations: "tuple[tuple[str, str], ...]") -> None:
        """Keep (field path, problem) pairs, at least one."""
        field, problem = violations[0]
        super().__init__(field, problem)
        self.violations = violations
        if len(violations) > 1:
            self.message += f" (and {len(violations) - 1} more)"


TABLE: dict[type[errors.CoreError], "tuple[grpc.StatusCode, ErrorReason.ValueType]"] = {
    errors.InvalidArgument: (
        grpc.StatusCode.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_INVALID_ARGUMENT,
    ),
    errors.UserNotFound: (grpc.StatusCode.NOT_FOUND, ErrorReason.ERROR_REASON_USER_NOT_FOUND),
    errors.ItemNotFound: (grpc.StatusCode.NOT_FOUND, ErrorReason.ERROR_REASON_ITEM_NOT_FOUND),
    errors.ErasureNotFound: (
        grpc.StatusCode.NOT_FOUND,
        ErrorReason.ERROR_REASON_ERASURE_NOT_FOUND,
    ),
    errors.SpaceMismatch: (
        grpc.StatusCode.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_SPACE_MISMATCH,
    ),
    errors.CohortTooSmall: (
        grpc.StatusCode.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_COHORT_TOO_SMALL,
    ),
    errors.WorseThanLive: (
        grpc.StatusCode.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_WORSE_THAN_LIVE,
    ),
    errors.Overloaded: (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        ErrorReason.ERROR_REASON_OVERLOADED,
    ),
    errors.DependencyUnavailable: (
        grpc.StatusCode.UNAVAILABLE,
        ErrorReason.ERROR_REASON_DEPENDENCY_UNAVAILABLE,
    ),
    errors.NotReady: (grpc.StatusCode.UNAVAILABLE, ErrorReason.ERROR_REASON_NOT_READY),
    errors.EventConflict: (
        grpc.StatusCode.ALREADY_EXISTS,
        ErrorReason.ERROR_REASON_EVENT_CONFLICT,
    ),
    errors.Cancelled: (grpc.StatusCode.CANCELLED, ErrorReason.ERROR_REASON_CANCELLED),
    DeadlinePassed: (grpc.StatusCode.DEADLINE_EXCEEDED, ErrorReason.ERROR_REASON_CANCELLED),
    errors.Unauthenticated: (
        grpc.StatusCode.UNAUTHENTICATED,
        ErrorReason.ERROR_REASON_UNAUTHENTICATED,
    ),
    errors.PermissionDenied: (
        grpc.StatusCode.PERMISSION_DENIED,
        ErrorReason.ERROR_REASON_PERMISSION_DENIED,
    ),
    errors.Unimplemented: (
        grpc.StatusCode.UNIMPLEMENTED,
        ErrorReason.ERROR_REASON_UNIMPLEMENTED,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What the caller of a failed call gets."""

    code: grpc.StatusCode
    # Of an unknown error always "internal error".
    message: str
    # The rich status and the request's id, for `set_trailing_metadata`.
    trailing_metadata: "tuple[tuple[str, str | bytes], ...]"


def failure_of(error: BaseException, request_id: str) -> Failure:
    """Return what a caller is told of an error. Only a `CoreError`, or a disk's failure, shows its text."""
    error = told(error) or error
    if isinstance(error, errors.CoreError):
        code, reason = _entry(type(error))
        message, metadata = error.message[:MAX_TEXT], error.metadata
    else:
        code, reason = grpc.StatusCode.INTERNAL, ErrorReason.ERROR_REASON_INTERNAL
        message, metadata = "internal error", {"request_id": request_id}
    info = ErrorInfo(
        reason=ErrorReason.Name(reason),
        domain=DOMAIN,
        metadata={key: str(value)[:MAX_TEXT] for key, value in metadata.items()},
    )
    status = Status(code=code.value[0], message=message, details=[_packed(info)])
    if isinstance(error, errors.InvalidArgument | errors.EventConflict):
        status.details.append(_packed(_bad_request(error)))
    if isinstance(error, errors.Overloaded) and error.retry_after_s is not None:
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(max(1, round(1e3 * error.retry_after_s)))
        status.details.append(_packed(retry))
    return Failure(
        code=code,
        message=message,
        trailing_metadata=(
            (DETAILS_KEY, status.SerializeToString()),
            (REQUEST_ID_KEY, request_id),
        ),
    )


def told_by(error: grpc.RpcError) -> ErrorInfo:
    """Return what a service of ours said of a failed call; empty where none of ours answered."""
    info, trailing = ErrorInfo(), dict[str, bytes]()
    pairs: typing.Any = error.trailing_metadata() or ()
    trailing.update(pairs)
    try:
        status = Status.FromString(trailing.get(DETAILS_KEY, b""))
    except DecodeError:  # a stranger's
        return info
    for detail in status.details:
        if detail.Is(ErrorInfo.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return ErrorInfo()


def _entry(kind: type[errors.CoreError]) -> "tuple[grpc.StatusCode, ErrorReason.ValueType]":
    for base in kind.__mro__:
        if base in TABLE:
            return TABLE[base]
    return grpc.StatusCode.INTERNAL, ErrorReason.ERROR_REASON_INTERNAL


def _bad_request(error: errors.InvalidArgument | errors.EventConflict) -> BadRequest:
    violations = (
        error.violations if isinstance(error, InvalidRequest) else ((error.field, error.problem),)
    )
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field=field, description=problem[:MAX_PROBLEM])
            for field, problem in violations[:MAX_VIOLATIONS]
        ]
    )


def _packed(message: "ErrorInfo | BadRequest | RetryInfo") -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
