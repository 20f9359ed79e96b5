"""A real gRPC server on a free loopback port, made of the generated servicers."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as PackedAny
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from driftline.v1 import (
    content_service_pb2_grpc,
    event_service_pb2_grpc,
    interest_service_pb2_grpc,
    model_service_pb2_grpc,
    privacy_service_pb2_grpc,
    profile_service_pb2_grpc,
    recommendation_service_pb2_grpc,
)

Script = Callable[[str, Any, grpc.ServicerContext], Any]

STUBS = {
    "Content": content_service_pb2_grpc,
    "Event": event_service_pb2_grpc,
    "Interest": interest_service_pb2_grpc,
    "Model": model_service_pb2_grpc,
    "Privacy": privacy_service_pb2_grpc,
    "Profile": profile_service_pb2_grpc,
    "Recommendation": recommendation_service_pb2_grpc,
}


@dataclass
class TestServer:
    """A server that answers what a script says; `seen` are the calls that reached it."""

    __test__ = False
    target: str
    seen: list[tuple[str, Any]] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def _servicer(service: str, handle: Script) -> Any:
    base = getattr(STUBS[service], f"{service}ServiceServicer")

    def method(name: str) -> Callable[[Any, Any, Any], Any]:
        full = f"driftline.v1.{service}Service/{name}"
        return lambda self, request, context: handle(full, request, context)

    names = [name for name in vars(base) if not name.startswith("_")]
    return type(f"Scripted{service}", (base,), {name: method(name) for name in names})()


@pytest.fixture
def serve() -> Iterator[Callable[..., TestServer]]:
    """Return what starts a server: serve(script, credentials=None, options=()) -> TestServer."""
    servers = []

    def start(
        script: Script,
        credentials: "grpc.ServerCredentials | None" = None,
        options: "tuple[tuple[str, Any], ...]" = (),
    ) -> TestServer:
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0), *options])
        made = TestServer(target="")

        def handle(name: str, request: Any, context: grpc.ServicerContext) -> Any:
            with made.lock:
                made.seen.append((name, request))
                made.metadata.append(dict(context.invocation_metadata()))
            return script(name, request, context)

        for service, stubs in STUBS.items():
            add = getattr(stubs, f"add_{service}ServiceServicer_to_server")
            add(_servicer(service, handle), server)
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        made.target = f"127.0.0.1:{port}"
        return made

    yield start
    for server in servers:
        server.stop(0).wait()


@pytest.fixture
def refuse() -> Callable[..., None]:
    """Return what ends a call with an error: refuse(context, {code, message, reason, ...})."""
    return _refuse


def _refuse(context: grpc.ServicerContext, error: dict[str, Any]) -> None:
    code = grpc.StatusCode[error["code"]]
    status = Status(code=code.value[0], message=error["message"])
    details: list[Any] = []
    if "reason" in error:
        details.append(
            ErrorInfo(
                reason=error["reason"], domain="driftline.dev", metadata=error.get("metadata", {})
            )
        )
    if "violations" in error:
        details.append(
            BadRequest(
                field_violations=[BadRequest.FieldViolation(**one) for one in error["violations"]]
            )
        )
    for detail in details:
        packed = PackedAny()
        packed.Pack(detail)
        status.details.append(packed)
    if details:
        context.set_trailing_metadata(
            (("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", "r-7"))
        )
    context.abort(code, error["message"])
