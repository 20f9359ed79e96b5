"""Logs: one JSON object a line on standard output. Never a user's ids, texts or vectors."""

import asyncio
import json
import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import structlog

from services.core.access import Principal

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Lines of calls that wait to be written together at most.
MAX_WAITING = 256


def configure_logs(level: str = "info", stream: "TextIO | None" = None) -> None:
    """Send structlog's and the standard library's lines to `stream` (standard output) as JSON.

    Call it once in `main.py`, after the settings are read.
    """
    out = _Unfailing(stream or sys.stdout)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_messages,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, out)),
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _without_messages,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(LEVELS[level], logging.WARNING), force=True)


class _Unfailing:
    """A stream whose failures stay its own: a call is answered though its line cannot be written.

    What a full disk refused stays in the stream's buffer as far as that goes; the rest is dropped.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


class CallLines:
    """Writes the lines of calls, several at a time: a write for each is a twentieth of a read.

    Used from one event loop. Make it after `configure_logs`, and `flush` it in the end.
    """

    def __init__(self, every_s: float) -> None:
        """Write lines at most `every_s` seconds late; 0: each at once."""
        self._write = structlog.get_config()["logger_factory"]().msg
        self._every_s = every_s
        self._waiting: list[str] = []

    def add(self, line: str, *, can_wait: bool) -> None:
        """Take a line; one that cannot wait is written now, after those that do."""
        self._waiting.append(line)
        if not can_wait or not self._every_s or len(self._waiting) >= MAX_WAITING:
            self.flush()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(self._every_s, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            lines, self._waiting = self._waiting, []
            self._write("\n".join(lines))


def call_log(method: str, lines: CallLines) -> Callable[[str, float, str, Principal], None]:
    """Return what logs one call of a method: (code, seconds, request id, caller) -> an "rpc" line.

    The same line as structlog's own way gives, at a quarter of its cost: there is one for every call. Only the
    lines of calls that went well wait. Call it after `configure_logs`. Code, request id, tenant and key id must
    hold no character that JSON escapes. Of the caller's credential the line has the id alone.
    """
    if not structlog.get_logger().bind().is_enabled_for(LEVELS["info"]):
        return lambda code, seconds, request_id, caller: None
    head = f'{{"method": {json.dumps(method)}, "code": "'

    def log(code: str, seconds: float, request_id: str, caller: Principal) -> None:
        who = f', "tenant": "{caller.tenant}", "key_id": "{caller.key_id}"' if caller.key_id else ""
        # Without the "+00:00".
        now = datetime.now(UTC).isoformat(timespec="microseconds")[:-6]
        lines.add(
            f'{head}{code}", "duration_ms": {round(1e3 * seconds, 3)}, "request_id": "{request_id}"'
            f'{who}, "event": "rpc", "level": "info", "timestamp": "{now}Z"}}',
            can_wait=code == "OK",
        )

    return log


def trace_of(error: BaseException) -> dict[str, Any]:
    """Return an error's type and frames, its causes' too, for a log line.

    The messages stay out: a KeyError's text is a user's id.
    """
    chain: list[str] = []
    at: BaseException | None = error
    while at is not None:
        chain.append(type(at).__qualname__)
        chain.extend(
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(at.__traceback__)
        )
        at = at.__cause__ or at.__context__
    return {"error": type(error).__qualname__, "trace": chain}


def _without_messages(_: Any, __: str, event: Any) -> Any:
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()[1]
    elif isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        event.update(trace_of(given))
    return event
