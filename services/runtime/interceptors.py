"""What happens around every call, so that handlers do none of it.

From outside in: request id, log line and metrics; errors to statuses; the concurrency limit; the
request's rules; the deadline; then the handler. Health checks and reflection pass untouched.
"""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from services.core.errors import Cancelled, CoreError, Overloaded
from services.runtime.errors import REQUEST_ID_KEY, DeadlinePassed, Failure, failure_of
from services.runtime.logs import call_log, trace_of
from services.runtime.metrics import Metrics
from services.runtime.validation import Rules

if TYPE_CHECKING:  # generic in their stubs only
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one process takes on."""

    # Calls at once; more are refused before they are parsed.
    max_concurrent_calls: int
    # Where the client sets no deadline, seconds.
    default_deadline_s: float
    # The same for a call whose answer is a stream.
    default_stream_deadline_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    # As in logs and metrics: driftline.v1.InterestService/GetInterest.
    name: str
    request_type: str
    parse: Callable[[bytes], Any]
    # Returns an awaitable, or where the answer is a stream an asynchronous iterator.
    behaviour: "Callable[[Any, Context], Any]"
    log: Callable[[str, float, str], None]


class Calls:
    """Wraps every method with one request that a service registers.

    gRPC's own interceptors do the same at each call, for 8 us more of it (`DECISIONS.md`).
    """

    def __init__(self, rules: Rules, limits: Limits, metrics: Metrics) -> None:
        self._rules, self._limits, self._metrics = rules, limits, metrics
        self._in_flight = 0

    def around(self, server: grpc.aio.Server) -> "WrappingServer":
        """Return what services register with instead of the server."""
        return WrappingServer(server, self._wrap)

    def _wrap(self, path: str, handler: "Handler") -> "Handler":
        parse: Any = handler.request_deserializer
        behaviour: Any = handler.unary_stream or handler.unary_unary
        method = _Method(
            name=path.removeprefix("/"),
            request_type=parse.__self__.DESCRIPTOR.full_name,
            parse=parse,
            behaviour=behaviour,
            log=call_log(path.removeprefix("/")),
        )

        async def call(data: bytes, context: "Context") -> Any:
            return await self._observed(method, data, context)

        async def stream(data: bytes, context: "Context") -> AsyncIterator[Any]:
            # Closed at once where the caller goes away between two parts.
            async with aclosing(self._observed_stream(method, data, context)) as responses:
                async for response in responses:
                    yield response

        # No deserializer: a call that is refused is not even parsed.
        if handler.response_streaming:
            streamed: Handler = grpc.unary_stream_rpc_method_handler(
                stream, response_serializer=handler.response_serializer
            )
            return streamed
        wrapped: Handler = grpc.unary_unary_rpc_method_handler(
            call,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    async def _observed(self, method: _Method, data: bytes, context: "Context") -> Any:
        """Run a call, tell the caller how it went, and count and log it once."""
        request_id, code = _request_id(context), "OK"
        started = time.perf_counter()
        self._metrics.call_started()
        try:
            response = await self._limited(method, data, context)
            context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
            return response
        except asyncio.CancelledError:
            # Nobody hears an answer: the caller went away, or its deadline passed.
            code = "DEADLINE_EXCEEDED" if _is_late(context) else "CANCELLED"
            raise
        except Exception as error:
            failure = _failure(method, context, error, request_id)
            code = failure.code.name
        finally:
            self._ended(method, code, started, request_id)
        # Last, as the others: whoever has an answer finds its line in the log.
        return await context.abort(failure.code, failure.message, failure.trailing_metadata)

    async def _observed_stream(
        self, method: _Method, data: bytes, context: "Context"
    ) -> AsyncGenerator[Any, None]:
        """Run a call whose answer is a stream; see `_observed`."""
        request_id, code = _request_id(context), "OK"
        started = time.perf_counter()
        self._metrics.call_started()
        try:
            async with aclosing(self._limited_stream(method, data, context)) as responses:
                async for response in responses:
                    yield response
            context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
            return
        except (asyncio.CancelledError, GeneratorExit):
            code = "DEADLINE_EXCEEDED" if _is_late(context) else "CANCELLED"
            raise
        except Exception as error:
            failure = _failure(method, context, error, request_id)
            code = failure.code.name
        finally:
            self._ended(method, code, started, request_id)
        await context.abort(failure.code, failure.message, failure.trailing_metadata)

    def _ended(self, method: _Method, code: str, started: float, request_id: str) -> None:
        seconds = time.perf_counter() - started
        self._metrics.call_ended(method.name, code, seconds)
        method.log(code, seconds, request_id)

    def _admit(self) -> None:
        """Count a call in; whoever calls this counts it out."""
        if self._in_flight >= self._limits.max_concurrent_calls:
            raise Overloaded(f"{self._limits.max_concurrent_calls} calls at once")
        self._in_flight += 1

    async def _limited_stream(
        self, method: _Method, data: bytes, context: "Context"
    ) -> AsyncGenerator[Any, None]:
        self._admit()
        has_deadline = context.time_remaining() is not None
        seconds = None if has_deadline else self._limits.default_stream_deadline_s
        allowed = asyncio.timeout(seconds)
        try:
            self._rules.check_bytes(method.request_type, data)
            async with allowed:
                async for response in method.behaviour(method.parse(data), context):
                    yield response
        except TimeoutError:
            if seconds is None or not allowed.expired():
                raise
            raise DeadlinePassed(method.name, seconds) from None
        finally:
            self._in_flight -= 1

    async def _limited(self, method: _Method, data: bytes, context: "Context") -> Any:
        self._admit()
        try:
            self._rules.check_bytes(method.request_type, data)
            # gRPC itself cancels a call at its client's deadline.
            if context.time_remaining() is not None:
                return await method.behaviour(method.parse(data), context)
            return await self._within_default(method, data, context)
        finally:
            self._in_flight -= 1

    async def _within_default(self, method: _Method, data: bytes, context: "Context") -> Any:
        seconds = self._limits.default_deadline_s
        allowed = asyncio.timeout(seconds)
        try:
            async with allowed:
                return await method.behaviour(method.parse(data), context)
        except TimeoutError:
            if not allowed.expired():
                raise
            raise DeadlinePassed(method.name, seconds) from None


def _failure(method: _Method, context: "Context", error: Exception, request_id: str) -> Failure:
    """Return what the caller is told; what nobody foresaw is logged with its trace."""
    if not isinstance(error, CoreError):
        trace = trace_of(error)
        log.error("call failed", method=method.name, request_id=request_id, **trace)
    return failure_of(_seen_by(context, error), request_id)


class WrappingServer:
    """The registering half of a grpc.aio.Server: passes handlers on, wrapped."""

    def __init__(self, server: grpc.aio.Server, wrap: "Callable[[str, Handler], Handler]") -> None:
        self._server, self._wrap = server, wrap

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Drop them: the stubs register every method by name as well, and gRPC prefers those."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: "Mapping[str, Handler]"
    ) -> None:
        """Register the wrapped methods of a service."""
        wrapped = {
            name: handler
            if handler.request_streaming
            else self._wrap(f"/{service_name}/{name}", handler)
            for name, handler in method_handlers.items()
        }
        generic = grpc.method_handlers_generic_handler(service_name, wrapped)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service_name, wrapped)


def _is_late(context: "Context") -> bool:
    remaining = context.time_remaining()
    return remaining is not None and remaining <= 0


def _seen_by(context: "Context", error: Exception) -> Exception:
    """Return the error as the caller sees it: work that stopped at their deadline passed it."""
    if isinstance(error, Cancelled) and _is_late(context):
        return DeadlinePassed(error.metadata["operation"], 0)
    return error


def _request_id(context: "Context") -> str:
    """Return the caller's id of this request where it is one, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return secrets.token_hex(16)
