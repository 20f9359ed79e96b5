"""What the core and the stores raise. `runtime/errors.py` maps each to a gRPC status; a test holds it complete."""


class CoreError(Exception):
    """Base of every expected failure. The message says what to do; the metadata holds its facts."""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class InvalidArgument(CoreError):
    """A value is malformed or out of range. Metadata: field."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", field=field)
        self.field = field
        self.problem = problem


class UserNotFound(CoreError):
    """Nothing is stored for the user. Metadata: user_id."""

    def __init__(self, user_id: str, what: str = "interest vector") -> None:
        super().__init__(
            f"no {what} for this user; record events and run `driftline refresh`", user_id=user_id
        )


class ItemNotFound(CoreError):
    """The item is not in the catalogue. Metadata: item_id."""

    def __init__(self, item_id: str) -> None:
        super().__init__("no such item; upsert it and run `driftline refresh`", item_id=item_id)


class ErasureNotFound(CoreError):
    """There is no such request to erase a user. Metadata: erasure_id."""

    def __init__(self, erasure_id: str) -> None:
        super().__init__(
            "no such erasure; take the id from the answer of EraseUser", erasure_id=erasure_id
        )


class SpaceMismatch(CoreError):
    """Two vector spaces met in one operation. Metadata: expected_space_id, actual_space_id."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(
            f"vector of space {actual} where {expected} is served; encode again with the live model",
            expected_space_id=expected,
            actual_space_id=actual,
        )


class CohortTooSmall(CoreError):
    """Too few users to say anything of them. Metadata: cohort, least_users."""

    def __init__(self, cohort: str, least_users: int) -> None:
        super().__init__(
            f"cohort {cohort} has too few users: less noise, its size is below {least_users}; "
            "ask for a larger one",
            cohort=cohort,
            least_users=str(least_users),
        )


class WorseThanLive(CoreError):
    """A candidate is proven worse than the live model. Metadata: model_version, live_model_version, proof."""

    def __init__(self, model_version: str, live_model_version: str, proof: str) -> None:
        super().__init__(
            f"{model_version} is proven worse than the live {live_model_version}: {proof}; train again, "
            "or say that a worse model is accepted",
            model_version=model_version,
            live_model_version=live_model_version,
            proof=proof,
        )


class EventConflict(CoreError):
    """One event id came twice in a call with different content. Metadata: event_id, field."""

    def __init__(self, event_id: str, field: str) -> None:
        problem = "comes twice in the call with different content; give each event an id of its own"
        super().__init__(f"{field}: {problem}", event_id=event_id, field=field)
        self.field = field
        self.problem = problem


class Overloaded(CoreError):
    """At a limit; try again with backoff. Metadata: limit."""

    def __init__(self, limit: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"at the limit of {limit}; try again with backoff", limit=limit)
        # When the same call can be taken, where that is known.
        self.retry_after_s = retry_after_s


class DependencyUnavailable(CoreError):
    """A store or service did not answer, or cannot do its work. Metadata: dependency."""

    def __init__(
        self,
        dependency: str,
        problem: str = "did not answer",
        remedy: str = "try again with backoff",
    ) -> None:
        super().__init__(f"{dependency} {problem}; {remedy}", dependency=dependency)


class DiskUnavailable(DependencyUnavailable):
    """A disk takes nothing: full, read-only, closed, failing. Metadata: dependency, always "disk"."""

    def __init__(self, problem: str, remedy: str) -> None:
        message = (
            f"the disk {problem}; {remedy}, then do the same again: nothing is lost or doubled"
        )
        CoreError.__init__(self, message, dependency="disk")


class NotReady(CoreError):
    """Nothing has been published yet. Metadata: missing."""

    def __init__(self, missing: str, remedy: str) -> None:
        super().__init__(f"no {missing} yet; {remedy}", missing=missing)


class Cancelled(CoreError):
    """The deadline passed or the caller went away. Metadata: operation."""

    def __init__(self, operation: str) -> None:
        super().__init__(
            f"{operation} stopped before it was done; call it again, it goes on where it stopped",
            operation=operation,
        )


class Unimplemented(CoreError):
    """Asked for something that is agreed but not built. Metadata: feature."""

    def __init__(self, feature: str) -> None:
        super().__init__(f"{feature} is not served yet", feature=feature)


class Unauthenticated(CoreError):
    """No credential, or none that is valid. Metadata: problem, never what was sent."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; send `authorization: Bearer KEY`", problem=problem)


class PermissionDenied(CoreError):
    """The credential does not allow the call. Metadata: scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"this credential does not allow it: that takes one with the scope `{scope}`",
            scope=scope,
        )
