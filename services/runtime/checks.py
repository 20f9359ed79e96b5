"""Health of single services: one whose store does not answer is NOT_SERVING, the others go on.

The server's own health (the empty name) stays SERVING: events are recorded whatever the online store
does, and a restart would mend nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from grpc_health.v1 import health, health_pb2

from services.core.errors import CoreError

log = structlog.get_logger()

# Raises a CoreError where what a service needs cannot do its work.
Check = Callable[[], Awaitable[None]]

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Checks:
    """Tells health what checks find. Services that share a check are asked once."""

    def __init__(self, status: health.aio.HealthServicer, checks: Mapping[str, Check]) -> None:
        """Ask nothing yet.

        Args:
            status: what is told.
            checks: by full name of the service.
        """
        self._status = status
        self._services: dict[Check, list[str]] = {}
        for name, check in checks.items():
            self._services.setdefault(check, []).append(name)
        # What was wrong at the last look; empty where nothing was.
        self._problems: dict[Check, str] = {}

    async def look(self) -> None:
        """Run every check once."""
        for check, names in self._services.items():
            problem = await _problem(check)
            for name in names:
                await self._status.set(name, _NOT_SERVING if problem else _SERVING)
            if bool(problem) != bool(self._problems.get(check)):
                self._say(names, problem)
            self._problems[check] = problem

    async def keep_looking(self, every_s: float) -> None:
        """Look until cancelled."""
        while self._services:
            await asyncio.sleep(every_s)
            await self.look()

    @staticmethod
    def _say(names: list[str], problem: str) -> None:
        if problem:
            log.warning("services cannot serve", services=names, problem=problem)
        else:
            log.info("services serve again", services=names)


async def _problem(check: Check) -> str:
    try:
        await check()
    except CoreError as error:
        return error.message
    except Exception:
        log.exception("a check failed")
        return "its check failed"
    return ""
