"""Neither side of the error table misses the other, and what a caller is told."""

import ast
import errno
import sqlite3

import grpc
import pytest
from driftline.v1.error_reason_pb2 import ErrorReason
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from services.core import errors
from services.runtime.errors import (
    DETAILS_KEY,
    DOMAIN,
    TABLE,
    DeadlinePassed,
    InvalidRequest,
    failure_of,
)
from tests.architecture.source import python_files, tree

# One of each, with the metadata that the proto's comment promises.
EXAMPLES = {
    errors.InvalidArgument: (errors.InvalidArgument("page_size", "too big"), {"field"}),
    errors.UserNotFound: (errors.UserNotFound("u"), {"user_id"}),
    errors.ItemNotFound: (errors.ItemNotFound("i"), {"item_id"}),
    errors.ErasureNotFound: (errors.ErasureNotFound("e"), {"erasure_id"}),
    errors.SpaceMismatch: (
        errors.SpaceMismatch("a", "b"),
        {"expected_space_id", "actual_space_id"},
    ),
    errors.CohortTooSmall: (errors.CohortTooSmall("frequent", 20), {"cohort", "least_users"}),
    errors.WorseThanLive: (
        errors.WorseThanLive("m2", "m1", "0.1 against 0.2"),
        {"model_version", "live_model_version", "proof"},
    ),
    errors.Overloaded: (errors.Overloaded("3 calls"), {"limit"}),
    errors.DependencyUnavailable: (errors.DependencyUnavailable("redis"), {"dependency"}),
    errors.DiskUnavailable: (errors.DiskUnavailable("is full", "free space on it"), {"dependency"}),
    errors.NotReady: (errors.NotReady("index", "refresh"), {"missing"}),
    errors.EventConflict: (errors.EventConflict("e", "events[1].event_id"), {"event_id", "field"}),
    errors.Cancelled: (errors.Cancelled("refresh"), {"operation"}),
    errors.Unauthenticated: (errors.Unauthenticated("no credential"), {"problem"}),
    errors.PermissionDenied: (errors.PermissionDenied("admin"), {"scope"}),
    errors.Unimplemented: (errors.Unimplemented("time travel"), {"feature"}),
    DeadlinePassed: (DeadlinePassed("reading", 2), {"operation"}),
    InvalidRequest: (InvalidRequest((("a", "is bad"), ("b[1].c", "is worse"))), {"field"}),
}


def core_error_names() -> set[str]:
    """Return every class below CoreError in services/, found in the source: nothing is imported."""
    bases = {
        node.name: {ast.unparse(base).split(".")[-1] for base in node.bases}
        for path in python_files("services/")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }
    found = {"CoreError"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found - {"CoreError"}


def sent(failure):
    status = Status.FromString(dict(failure.trailing_metadata)[DETAILS_KEY])
    info, bad = ErrorInfo(), BadRequest()
    for detail in status.details:
        detail.Unpack(info) or detail.Unpack(bad)
    return status, info, bad


def test_every_error_has_an_example_here():
    assert core_error_names() == {kind.__name__ for kind in EXAMPLES}


def test_every_error_has_a_status_and_a_reason():
    homeless = {
        kind.__name__ for kind in EXAMPLES if not any(base in TABLE for base in kind.__mro__)
    }
    assert homeless == set()


def test_every_reason_has_an_error():
    given = {reason for _, reason in TABLE.values()}
    unsent = {ErrorReason.ERROR_REASON_UNSPECIFIED, ErrorReason.ERROR_REASON_INTERNAL}
    assert given == set(ErrorReason.values()) - unsent


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_an_error_carries_its_reason_and_facts(kind):
    error, keys = EXAMPLES[kind]
    failure = failure_of(error, "r1")
    status, info, _ = sent(failure)
    assert failure.code is not grpc.StatusCode.INTERNAL
    assert status.code == failure.code.value[0]
    assert status.message == failure.message == error.message
    assert info.domain == DOMAIN == "driftline.dev"
    assert set(info.metadata) == keys
    assert dict(failure.trailing_metadata)["x-request-id"] == "r1"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidArgument("f", "p"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.UserNotFound("u"), grpc.StatusCode.NOT_FOUND),
        (errors.ItemNotFound("i"), grpc.StatusCode.NOT_FOUND),
        (errors.SpaceMismatch("a", "b"), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.Overloaded("l"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.DependencyUnavailable("d"), grpc.StatusCode.UNAVAILABLE),
        (errors.NotReady("m", "r"), grpc.StatusCode.UNAVAILABLE),
        (errors.EventConflict("e", "f"), grpc.StatusCode.ALREADY_EXISTS),
        (errors.Cancelled("o"), grpc.StatusCode.CANCELLED),
        (DeadlinePassed("o", 1), grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.Unimplemented("f"), grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_statuses_are_those_agreed(error, code):
    assert failure_of(error, "r").code is code


def test_bad_fields_are_named_one_by_one():
    _, info, bad = sent(failure_of(EXAMPLES[InvalidRequest][0], "r"))
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("a", "is bad"),
        ("b[1].c", "is worse"),
    ]
    assert info.metadata["field"] == "a"


def test_a_conflict_names_the_field_of_the_second_event():
    _, _, bad = sent(failure_of(errors.EventConflict("e", "events[1].event_id"), "r"))
    assert [v.field for v in bad.field_violations] == ["events[1].event_id"]


def test_a_thousand_bad_fields_still_fit_the_trailing_metadata():
    many = InvalidRequest(tuple((f"events[{i}].user_id", "x" * 300) for i in range(1000)))
    failure = failure_of(many, "r")
    _, _, bad = sent(failure)
    assert len(bad.field_violations) == 16
    assert "(and 999 more)" in failure.message
    assert len(dict(failure.trailing_metadata)[DETAILS_KEY]) < 8000


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/user-42"), "is full"),
        (OSError(errno.EROFS, "Read-only file system"), "is read-only"),
        (PermissionError(errno.EACCES, "Permission denied"), "is closed to this program"),
        (
            RuntimeError("parquet: underlying IO error: File too large (os error 27)"),
            "no larger file",
        ),
        (sqlite3.OperationalError("database or disk is full"), "is full"),
        (sqlite3.OperationalError("disk I/O error"), "fails"),
        (OSError("10000 requested and 109 written"), "is full"),
    ],
)
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_a_disks_failure_is_named_however_a_library_says_it(error, problem, is_wrapped):
    if is_wrapped:
        try:
            raise errors.DependencyUnavailable("event store", "took no rows") from error
        except errors.DependencyUnavailable as caught:
            error = caught
    status, info, _ = sent(failure_of(error, "r"))
    assert problem in status.message
    assert status.message.startswith("the disk ")
    assert dict(info.metadata) == {"dependency": "disk"}
    assert b"user-42" not in status.SerializeToString()


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidArgument("text", "No space left on device (os error 28)"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        ValueError("database or disk is full"),
        errors.DependencyUnavailable("redis"),
    ],
)
def test_what_only_sounds_like_a_disk_is_told_as_what_it_is(error):
    assert "the disk" not in failure_of(error, "r").message


def test_a_fault_says_nothing_but_the_request_id():
    failure = failure_of(KeyError("user-42"), "r9")
    status, info, _ = sent(failure)
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.message == "internal error"
    assert b"user-42" not in status.SerializeToString()
    assert dict(info.metadata) == {"request_id": "r9"}
    assert info.reason == "ERROR_REASON_INTERNAL"
