"""Calls that anyone may make: health checks. What they may cost is bounded all the same."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from services.core.errors import CoreError, InvalidArgument, Overloaded
from services.runtime.arriving import received
from services.runtime.errors import failure_of

if TYPE_CHECKING:  # generic in their stubs only
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

# Requests that come in at once. A probe's is there as soon as its call; more are strangers who hold theirs back.
MOST_ARRIVING = 64


class OpenCalls:
    """The registering half of a grpc.aio.Server; each method takes one request, which must come in time."""

    def __init__(self, server: grpc.aio.Server, request_s: float) -> None:
        self._server, self._request_s = server, request_s
        self._arriving = 0

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Drop them: the stubs register every method by name as well, and gRPC prefers those."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: "Mapping[str, Handler]"
    ) -> None:
        """Register the methods of a service."""
        wrapped = {
            name: self._wrap(f"{service_name}/{name}", handler)
            for name, handler in method_handlers.items()
        }
        generic = grpc.method_handlers_generic_handler(service_name, wrapped)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service_name, wrapped)

    def _wrap(self, name: str, handler: "Handler") -> "Handler":
        behaviour: Any = handler.unary_stream or handler.unary_unary

        async def call(_: Any, context: "Context") -> Any:
            return await behaviour(await self._request(name, handler, context), context)

        async def stream(_: Any, context: "Context") -> AsyncIterator[Any]:
            # Written by the behaviour itself where it yields nothing.
            request = await self._request(name, handler, context)
            responses = behaviour(request, context)
            if hasattr(responses, "__aiter__"):
                async for response in responses:
                    yield response
            else:
                await responses

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        wrapped: Handler = make(
            stream if handler.response_streaming else call,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    async def _request(self, name: str, handler: "Handler", context: "Context") -> Any:
        """Return the parsed request, or end the call."""
        try:
            if self._arriving >= MOST_ARRIVING:
                raise Overloaded(f"{MOST_ARRIVING} requests of {name} that come in at once")
            self._arriving += 1
            try:
                data = await received(context, name, self._request_s)
            finally:
                self._arriving -= 1
            return _parsed(handler, data)
        except CoreError as error:
            failure = failure_of(error, "")
            return await context.abort(failure.code, failure.message, failure.trailing_metadata)


def _parsed(handler: "Handler", data: bytes) -> Any:
    parse: Any = handler.request_deserializer
    try:
        return parse(data)
    except DecodeError:
        raise InvalidArgument("request", "is not of the method's type") from None
