"""A service that does what a test says, behind the real server."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog
from driftline.v1 import interest_service_pb2 as pb
from driftline.v1 import interest_service_pb2_grpc as pb_grpc

from services.runtime import ports
from services.runtime.logs import configure_logs
from services.runtime.metrics import Metrics
from services.runtime.server import Service, serving
from services.runtime.settings import Settings

Script = Callable[[pb.GetInterestRequest], Awaitable[pb.GetInterestResponse]]


async def answer(request: pb.GetInterestRequest) -> pb.GetInterestResponse:
    return pb.GetInterestResponse()


@dataclass
class Scripted(pb_grpc.InterestServiceServicer):
    """GetInterest runs the script."""

    script: Script = answer
    # Requests that reached the handler.
    seen: list[str] = field(default_factory=list)

    async def GetInterest(self, request: pb.GetInterestRequest, context: Any) -> Any:
        self.seen.append(request.user_id)
        return await self.script(request)

    def service(self) -> Service:
        return Service(
            full_name="driftline.v1.InterestService",
            register=lambda s: pb_grpc.add_InterestServiceServicer_to_server(self, s),
        )


@dataclass
class Running:
    """A started server."""

    port: int
    metrics_port: int
    handler: Scripted
    _stream: io.StringIO

    def channel(self, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
        target = f"localhost:{self.port}"
        if credentials:
            return grpc.aio.secure_channel(target, credentials)
        return grpc.aio.insecure_channel(target)

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def log_text(self) -> str:
        return self._stream.getvalue()


def free_port() -> int:
    """Return a free port outside the kernel's ephemeral range, where parallel tests take theirs."""
    return ports.free_port("127.0.0.1")


@asynccontextmanager
async def running(
    script: Script = answer, metrics_port: int = 0, **settings: Any
) -> AsyncIterator[Running]:
    """Serve a script on a free loopback port, its log kept."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs("info", stream)
    handler = Scripted(script)
    # A line for each call at once, so that a test finds it where the answer is.
    chosen = Settings(**({"port": 0, "metrics_port": metrics_port, "log_every_s": 0} | settings))
    try:
        async with serving(chosen, [handler.service()], Metrics()) as where:
            yield Running(where.port, where.metrics_port, handler, stream)
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)


async def call(channel: grpc.aio.Channel, user_id: str = "u", **options: Any) -> Any:
    request = pb.GetInterestRequest(user_id=user_id)
    return await pb_grpc.InterestServiceStub(channel).GetInterest(request, **options)


async def until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Wait until something holds; fail where it does not in time."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)
