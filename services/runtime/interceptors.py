"""What happens around every call, so that handlers do none of it.

From outside in: request id, log line and metrics; errors to statuses; who calls, and whether they
may; their quota and the server's limit; the request's bytes and their rules; the deadline; then the
handler of the caller's tenant. So nothing is kept of a request whose caller is not let in. Health
checks pass by (open_calls.py).
"""

import asyncio
import re
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from services.core.access import ANYONE, RPC_SCOPES, Principal, Scope, authorise
from services.core.errors import (
    Cancelled,
    CoreError,
    DiskUnavailable,
    Overloaded,
    Unauthenticated,
)
from services.core.schema import DEFAULT_TENANT
from services.runtime.arriving import received
from services.runtime.errors import REQUEST_ID_KEY, DeadlinePassed, Failure, failure_of
from services.runtime.guard import INVALID, Guard, OpenDoor
from services.runtime.logs import CallLines, call_log, trace_of
from services.runtime.method_table import MethodTable, WrappingTable
from services.runtime.metrics import Metrics
from services.runtime.quotas import Meter, QuotaConfig, Quotas
from services.runtime.request_ids import request_ids
from services.runtime.validation import Rules
from services.store.disk import told

if TYPE_CHECKING:  # generic in their stubs only
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

# Registers the handlers of a tenant's own services with what it is given.
RegisterTenant = Callable[[Any], None]
# Opens the stores of a tenant that has not called before. Raises Unauthenticated where there is no such tenant.
OpenTenant = Callable[[str], Awaitable[RegisterTenant]]

log = structlog.get_logger()

AUTHORIZATION_KEY = "authorization"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# Whoever could not show who they are, in logs and metrics.
_NOBODY = Principal(tenant="", scopes=frozenset(), key_id="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one process takes on."""

    # Calls at once; more are refused before they are parsed.
    max_concurrent_calls: int
    # Where the client sets no deadline, seconds.
    default_deadline_s: float
    # The same for a call whose answer is a stream.
    default_stream_deadline_s: float = 3600.0
    # Longest a request may take to come in, seconds.
    request_s: float = 30.0


async def only_one_tenant(tenant: str) -> RegisterTenant:
    """Open no tenant: for a server that has the default one alone."""
    raise Unauthenticated(INVALID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may call, how much, and how tenants are opened."""

    guard: Guard = field(default_factory=OpenDoor)
    quotas: QuotaConfig = field(default_factory=QuotaConfig)
    open_tenant: OpenTenant = only_one_tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    # As in logs and metrics: driftline.v1.InterestService/GetInterest.
    name: str
    scope: Scope | None
    request_type: str
    parse: Callable[[bytes], Any]
    # By tenant. Each returns an awaitable, or where the answer is a stream an asynchronous iterator.
    behaviours: "dict[str, Callable[[Any, Context], Any]]"
    log: Callable[[str, float, str, Principal], None]


class Calls:
    """Wraps every method with one request that a service registers.

    gRPC's own interceptors do the same at each call, for 8 us more of it (`DECISIONS.md`).
    """

    def __init__(
        self,
        rules: Rules,
        limits: Limits,
        metrics: Metrics,
        lines: CallLines,
        access: Access | None = None,
    ) -> None:
        self._rules, self._limits, self._metrics = rules, limits, metrics
        self._lines, self._ids = lines, request_ids()
        access = access or Access()
        self._guard, self._open_tenant = access.guard, access.open_tenant
        self._quotas = Quotas(access.quotas)
        self._methods: dict[str, _Method] = {}
        self._openings: dict[str, asyncio.Task[None]] = {}
        self._in_flight = 0

    def around(self, table: MethodTable) -> WrappingTable:
        """Return what services of the default tenant register with instead of the table."""
        return WrappingTable(table, self._wrap)

    def _wrap(self, path: str, handler: "Handler") -> "Handler":
        name = path.removeprefix("/")
        if name not in RPC_SCOPES:
            raise LookupError(f"{name} has no scope: name it in services/core/access.py")
        if handler.request_streaming:
            return self._guarded_stream(handler)
        parse: Any = handler.request_deserializer
        method = self._methods[path] = _Method(
            name=name,
            scope=RPC_SCOPES[name],
            request_type=parse.__self__.DESCRIPTOR.full_name,
            parse=parse,
            behaviours={DEFAULT_TENANT: _behaviour(handler)},
            log=call_log(name, self._lines),
        )

        async def call(_: Any, context: "Context") -> Any:
            return await self._observed(method, context)

        async def stream(_: Any, context: "Context") -> AsyncIterator[Any]:
            # Closed at once where the caller goes away between two parts.
            async with aclosing(self._observed_stream(method, context)) as responses:
                async for response in responses:
                    yield response

        # As a stream of requests: so it is called before the one request is in, and reads it when it is due
        # (arriving.py). No deserializer: a call that is refused is not even parsed.
        if handler.response_streaming:
            streamed: Handler = grpc.stream_stream_rpc_method_handler(
                stream, response_serializer=handler.response_serializer
            )
            return streamed
        wrapped: Handler = grpc.stream_unary_rpc_method_handler(
            call, response_serializer=_serializer(handler)
        )
        return wrapped

    def _guarded_stream(self, handler: "Handler") -> "Handler":
        """Ask who calls before a stream of requests (reflection) is read; any credential will do."""
        behaviour: Any = handler.stream_stream

        async def stream(requests: Any, context: "Context") -> AsyncIterator[Any]:
            request_id, header = _arrival(context, self._ids)
            try:
                self._guard.principal(header)
            except CoreError as error:
                failure = failure_of(error, request_id)
                await context.abort(failure.code, failure.message, failure.trailing_metadata)
            async for response in behaviour(requests, context):
                yield response

        guarded: Handler = grpc.stream_stream_rpc_method_handler(
            stream, handler.request_deserializer, handler.response_serializer
        )
        return guarded

    async def _observed(self, method: _Method, context: "Context") -> Any:
        """Run a call, tell the caller how it went, and count and log it once."""
        request_id, header = _arrival(context, self._ids)
        caller, code = _NOBODY, "OK"
        started = time.perf_counter()
        self._metrics.call_started()
        try:
            caller = self._guard.principal(header)
            response = await self._limited(method, caller, context)
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
            self._ended(method, caller, code, started, request_id)
        # Last: whoever is told of a failure finds its line in the log.
        return await context.abort(failure.code, failure.message, failure.trailing_metadata)

    async def _observed_stream(
        self, method: _Method, context: "Context"
    ) -> AsyncGenerator[Any, None]:
        """Run a call whose answer is a stream; see `_observed`."""
        request_id, header = _arrival(context, self._ids)
        caller, code = _NOBODY, "OK"
        started = time.perf_counter()
        self._metrics.call_started()
        try:
            caller = self._guard.principal(header)
            async with aclosing(self._limited_stream(method, caller, context)) as responses:
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
            self._ended(method, caller, code, started, request_id)
        await context.abort(failure.code, failure.message, failure.trailing_metadata)

    def _ended(
        self, method: _Method, caller: Principal, code: str, started: float, request_id: str
    ) -> None:
        seconds = time.perf_counter() - started
        self._metrics.call_ended(method.name, code, seconds, caller.tenant)
        method.log(code, seconds, request_id, caller)

    def _admit(self, method: _Method, caller: Principal) -> Meter | None:
        """Count a call in that its caller may make; whoever calls this calls `_leave`."""
        authorise(caller, method.scope)
        if self._in_flight >= self._limits.max_concurrent_calls:
            raise Overloaded(f"{self._limits.max_concurrent_calls} calls at once", 0.1)
        meter = None if caller is ANYONE else self._quotas.enter(caller, time.perf_counter())
        self._in_flight += 1
        return meter

    def _leave(self, caller: Principal, meter: Meter | None) -> None:
        self._in_flight -= 1
        if meter is not None:
            self._quotas.leave(caller, meter)

    async def _limited_stream(
        self, method: _Method, caller: Principal, context: "Context"
    ) -> AsyncGenerator[Any, None]:
        meter = self._admit(method, caller)
        has_deadline = context.time_remaining() is not None
        seconds = None if has_deadline else self._limits.default_stream_deadline_s
        allowed = asyncio.timeout(seconds)
        try:
            data = await received(context, method.name, self._limits.request_s)
            request = self._rules.parsed(method.request_type, data, method.parse)
            async with allowed:
                behaviour = await self._behaviour(method, caller.tenant)
                async for response in behaviour(request, context):
                    yield response
        except TimeoutError:
            if seconds is None or not allowed.expired():
                raise
            raise DeadlinePassed(method.name, seconds) from None
        finally:
            self._leave(caller, meter)

    async def _limited(self, method: _Method, caller: Principal, context: "Context") -> Any:
        meter = self._admit(method, caller)
        try:
            data = await received(context, method.name, self._limits.request_s)
            request = self._rules.parsed(method.request_type, data, method.parse)
            behaviour = method.behaviours.get(caller.tenant)
            if behaviour is None:
                behaviour = await self._behaviour(method, caller.tenant)
            # gRPC itself cancels a call at its client's deadline.
            if context.time_remaining() is not None:
                return await behaviour(request, context)
            return await self._within_default(method, behaviour, request, context)
        finally:
            self._leave(caller, meter)

    async def _within_default(
        self, method: _Method, behaviour: Callable[..., Any], request: Any, context: "Context"
    ) -> Any:
        seconds = self._limits.default_deadline_s
        allowed = asyncio.timeout(seconds)
        try:
            async with allowed:
                return await behaviour(request, context)
        except TimeoutError:
            if not allowed.expired():
                raise
            raise DeadlinePassed(method.name, seconds) from None

    async def _behaviour(self, method: _Method, tenant: str) -> Callable[..., Any]:
        """Return a tenant's handler of a method; a tenant that calls for the first time is opened."""
        if tenant not in method.behaviours:
            opening = self._openings.get(tenant)
            if opening is None:
                opening = self._openings[tenant] = asyncio.create_task(self._open(tenant))
                opening.add_done_callback(lambda _: self._openings.pop(tenant))
            # Others may wait for it too.
            await asyncio.shield(opening)
        return method.behaviours[tenant]

    async def _open(self, tenant: str) -> None:
        register = await self._open_tenant(tenant)
        register(_TenantMethods(self._methods, tenant))


class _TenantMethods:
    """Takes the handlers of one more tenant, to stand beside those that are registered."""

    def __init__(self, methods: Mapping[str, _Method], tenant: str) -> None:
        self._methods, self._tenant = methods, tenant

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Drop them; see MethodTable."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: "Mapping[str, Handler]"
    ) -> None:
        """Keep each handler under its method."""
        for name, handler in method_handlers.items():
            method = self._methods[f"/{service_name}/{name}"]
            method.behaviours[self._tenant] = _behaviour(handler)


def _behaviour(handler: "Handler") -> Callable[..., Any]:
    behaviour: Any = handler.unary_stream or handler.unary_unary
    return behaviour  # type: ignore[no-any-return]


def _serializer(handler: "Handler") -> Callable[[Any], bytes]:
    """Return what serializes a response that a handler did not serialize itself."""
    serialize: Any = handler.response_serializer

    def as_bytes(response: Any) -> bytes:
        return response if type(response) is bytes else serialize(response)

    return as_bytes


def _failure(method: _Method, context: "Context", error: Exception, request_id: str) -> Failure:
    """Return what the caller is told; what nobody foresaw, or the disk did, is logged with its trace."""
    if not isinstance(error, CoreError) or isinstance(told(error), DiskUnavailable):
        trace = trace_of(error)
        log.error("call failed", method=method.name, request_id=request_id, **trace)
    return failure_of(_seen_by(context, error), request_id)


def _is_late(context: "Context") -> bool:
    remaining = context.time_remaining()
    return remaining is not None and remaining <= 0


def _seen_by(context: "Context", error: Exception) -> Exception:
    """Return the error as the caller sees it: work that stopped at their deadline passed it."""
    if isinstance(error, Cancelled) and _is_late(context):
        return DeadlinePassed(error.metadata["operation"], 0)
    return error


def _arrival(context: "Context", ids: Iterator[str]) -> tuple[str, str | None]:
    """Return the id of this request, the caller's where it is one, and the credential that came along."""
    request_id, header, headers = "", None, 0
    for key, value in context.invocation_metadata() or ():
        if key == AUTHORIZATION_KEY:
            header, headers = str(value), headers + 1
        elif key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            request_id = request_id or value
    # Of several it is not known which one an earlier hop looked at.
    return request_id or next(ids), header if headers == 1 else None
