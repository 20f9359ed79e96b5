"""What happens around every call that Ray Serve hands us: Serve has no interceptors for gRPC.

A handler's method takes a request and returns a response or raises; here its request is checked,
its error becomes a status with details, and the call is logged once. An error is answered by an
empty message with a status set: raising would lose the details.
"""

import asyncio
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, TypeVar

import grpc
import structlog
from google.protobuf.message import Message

from services.core.errors import CoreError, InvalidArgument
from services.runtime.compute_token import check_token
from services.runtime.errors import REQUEST_ID_KEY, failure_of
from services.runtime.logs import trace_of
from services.runtime.validation import Rules

log = structlog.get_logger()

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """What a refresh call asks for: what, whose, and how thoroughly."""

    tenant: str
    # None named means all.
    buckets: tuple[int, ...] = ()
    is_full: bool
    # Empty means the live one.
    model_version: str

    def by(self) -> "By":
        """Return how to refresh."""
        return {"is_full": self.is_full, "model_version": self.model_version}


class By(TypedDict):
    """How to refresh."""

    is_full: bool
    model_version: str


class CallContext(Protocol):
    """The part of Ray Serve's RayServegRPCContext that is used."""

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """Return what the caller sent along."""
        ...

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status."""
        ...

    def set_details(self, details: str) -> None:
        """Set the status's message."""
        ...

    def set_trailing_metadata(self, trailing_metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Set what goes along with the answer."""
        ...


async def answer(
    method: Callable[[Request], Awaitable[Response]],
    request: Request,
    context: CallContext,
    response_type: type[Response],
    rules: Rules,
    token: str,
) -> Response:
    """Run one call of a handler; on failure return an empty response with the status set.

    Args:
        method: the handler's.
        request: what came.
        context: of the call.
        response_type: what is returned on failure, empty.
        rules: that the request must keep.
        token: that the caller must show; empty: anyone may call.
    """
    name = request.DESCRIPTOR.name.removesuffix("Request")
    request_id, code, started = _request_id(context), "OK", time.perf_counter()
    try:
        check_token(token, context.invocation_metadata() or ())
        rules.check(request)
        response = await method(request)
        context.set_trailing_metadata([(REQUEST_ID_KEY, request_id)])
        return response
    except asyncio.CancelledError:
        code = "CANCELLED"
        raise
    except Exception as error:
        failure = failure_of(error, request_id)
        code = failure.code.name
        if not isinstance(error, CoreError):
            log.error("call failed", method=name, request_id=request_id, **trace_of(error))
        context.set_code(failure.code)
        context.set_details(failure.message)
        context.set_trailing_metadata(list(failure.trailing_metadata))
        return response_type()
    finally:
        took = round(1e3 * (time.perf_counter() - started), 3)
        log.info("rpc", method=name, code=code, duration_ms=took, request_id=request_id)


async def run_cancellable(work: Callable[[Callable[[], bool]], Result]) -> Result:
    """Run long work in a thread, and tell it when the caller went away or the deadline passed.

    A deadline stops the call, not the thread: the work must ask the function it is given, between
    chunks, whether it was cancelled.
    """
    flag = threading.Event()
    try:
        return await asyncio.to_thread(work, flag.is_set)
    finally:
        flag.set()


def check_buckets(buckets: Sequence[int], bucket_count: int) -> None:
    """Refuse buckets that the store does not have.

    Raises:
        InvalidArgument: names the first of them.
    """
    for position, bucket in enumerate(buckets):
        if bucket >= bucket_count:
            problem = f"{bucket} is not in [0, {bucket_count - 1}]"
            raise InvalidArgument(f"buckets[{position}]", problem)


def _request_id(context: CallContext) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and 0 < len(value) <= 64:
            return value
    return uuid.uuid4().hex


def replica_options(
    *, replicas: int, max_replicas: int, num_cpus: float, num_gpus: float
) -> dict[str, object]:
    """Return a deployment's options: a fixed number of replicas, or one that follows the load.

    Args:
        replicas: how many at least.
        max_replicas: how many at most; not above `replicas` means a fixed number.
        num_cpus: logical CPUs of one replica.
        num_gpus: GPUs of one replica.
    """
    options: dict[str, object] = {
        "ray_actor_options": {"num_cpus": num_cpus, "num_gpus": num_gpus},
    }
    if max_replicas > replicas:
        options["autoscaling_config"] = {"min_replicas": replicas, "max_replicas": max_replicas}
    else:
        options["num_replicas"] = replicas
    return options
