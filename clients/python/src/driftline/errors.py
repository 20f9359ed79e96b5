"""What calls raise. Everything derives from `DriftlineError`; what to catch is a class, not a code.

The server sends `google.rpc.ErrorInfo` (reason, facts) and, for bad fields, `BadRequest`; both end
up in attributes. Errors that the SDK finds before a call (a naive datetime) are the same classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """One bad field of a request."""

    # Path of the field on the wire, like `events[3].user_id`.
    field: str
    # What is wrong, or what is allowed.
    description: str


class DriftlineError(Exception):
    """Base of every failure of a call.

    Attributes:
        message: what happened and what to do.
        code: name of the gRPC status, like NOT_FOUND; INVALID_ARGUMENT where the SDK refused.
        reason: the server's machine-readable reason, like USER_NOT_FOUND; empty where it gave none.
        metadata: the reason's facts.
        request_id: names the call in the server's logs; empty where no server answered.
        committed_count: of a write that was split, how many events or items earlier parts stored.
    """

    # Whether the same call may succeed a little later.
    is_retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.request_id = request_id
        self.committed_count = 0


class InvalidArgumentError(DriftlineError, ValueError):
    """A value is missing, malformed or out of range.

    Attributes:
        field: path of the first bad field, like `user_id` or `events[3].event_time`.
        violations: every bad field that was named.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        violations: tuple[Violation, ...] = (),
        code: str = "INVALID_ARGUMENT",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(
            message, code=code, reason=reason, metadata=metadata, request_id=request_id
        )
        self.field = field or (violations[0].field if violations else "")
        self.violations = violations or ((Violation(self.field, message),) if field else ())


class NotFoundError(DriftlineError):
    """What was asked for is not there."""


class UserNotFoundError(NotFoundError):
    """Nothing is stored for the user: record events and refresh."""

    @property
    def user_id(self) -> str:
        """Who."""
        return self.metadata.get("user_id", "")


class ItemNotFoundError(NotFoundError):
    """The item is not in the catalogue: upsert it and refresh."""

    @property
    def item_id(self) -> str:
        """Which."""
        return self.metadata.get("item_id", "")


class ErasureNotFoundError(NotFoundError):
    """There is no such request to erase a user: take the id from `erase_user`'s answer."""

    @property
    def erasure_id(self) -> str:
        """Which."""
        return self.metadata.get("erasure_id", "")


class SpaceMismatchError(DriftlineError):
    """Vectors of two spaces met; read them again from the live model."""

    def __init__(
        self,
        message: str,
        *,
        expected_space_id: str = "",
        actual_space_id: str = "",
        **details: str,
    ) -> None:
        facts = {"expected_space_id": expected_space_id, "actual_space_id": actual_space_id}
        super().__init__(
            message,
            code=details.get("code", "FAILED_PRECONDITION"),
            reason="SPACE_MISMATCH",
            metadata=facts,
            request_id=details.get("request_id", ""),
        )
        self.expected_space_id = expected_space_id
        self.actual_space_id = actual_space_id


class CohortTooSmallError(DriftlineError):
    """Too few users are in the cohort to say anything of it: ask for a larger one."""

    @property
    def cohort(self) -> str:
        """Which."""
        return self.metadata.get("cohort", "")

    @property
    def least_users(self) -> int:
        """How many users it would need, less noise."""
        return int(self.metadata.get("least_users", "0"))


class WorseThanLiveError(DriftlineError):
    """A model is proven worse than the live one; see `Client.promote_model`."""

    @property
    def proof(self) -> str:
        """The figures that prove it."""
        return self.metadata.get("proof", "")


class EventConflictError(DriftlineError):
    """One event id came twice in a call with different content."""

    @property
    def event_id(self) -> str:
        """Which."""
        return self.metadata.get("event_id", "")

    @property
    def field(self) -> str:
        """Where it came for the second time, like `events[3].event_id`."""
        return self.metadata.get("field", "")


class OverloadedError(DriftlineError):
    """The server or this credential is at a limit, or a message was too large; try again with backoff.

    `code` is RESOURCE_EXHAUSTED; CANCELLED where so many calls waited that this one was not even looked at
    (the SDK has retried those already, within its budget).

    Attributes:
        retry_after_s: when the call can be taken, in seconds from now; None where the server did not say.
    """

    is_retryable = True
    retry_after_s: float | None = None


class UnavailableError(DriftlineError):
    """No server answered, or what stands behind it did not; the SDK has retried already."""

    is_retryable = True


class NotReadyError(UnavailableError):
    """The server is up, but nothing was published yet: train, import and refresh first."""

    @property
    def missing(self) -> str:
        """What is not there yet."""
        return self.metadata.get("missing", "")


class DeadlineError(DriftlineError):
    """The time allowed ran out. A write may or may not have been stored; repeating it is safe."""

    is_retryable = True


class AccessDeniedError(DriftlineError):
    """The server does not know the caller, or the caller may not do this."""


class UnsupportedError(DriftlineError):
    """The contract has it, this server does not yet."""


class InternalError(DriftlineError):
    """A fault of the server; `request_id` finds it in the server's log."""
