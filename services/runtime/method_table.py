"""The methods of a server in one table, and the half of a server that stubs register with."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:  # generic in their stubs only
    Handler = grpc.RpcMethodHandler[Any, Any]


class MethodTable(grpc.GenericRpcHandler):
    """Every method of a server under its path. Stubs register with it as with a server.

    grpc.aio waits for the next call of each method that is registered with it by name, so that every
    call costs something for each of them; one table of all is one thing to wait for.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """Return the handler of a call's method."""
        return self._handlers.get(handler_call_details.method)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Drop them: the stubs register every method by name as well."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: "Mapping[str, Handler]"
    ) -> None:
        """Take in the methods of a service."""
        for name, handler in method_handlers.items():
            self._handlers[f"/{service_name}/{name}"] = handler


class WrappingTable:
    """Takes the methods of services into a table, wrapped."""

    def __init__(self, table: MethodTable, wrap: "Callable[[str, Handler], Handler]") -> None:
        self._table, self._wrap = table, wrap

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Drop them; see MethodTable."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: "Mapping[str, Handler]"
    ) -> None:
        """Take in the methods of a service, wrapped."""
        wrapped = {
            name: self._wrap(f"/{service_name}/{name}", handler)
            for name, handler in method_handlers.items()
        }
        self._table.add_registered_method_handlers(service_name, wrapped)
