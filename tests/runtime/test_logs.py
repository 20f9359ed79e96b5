"""JSON lines without user content."""

import asyncio
import io
import json
import logging
from datetime import datetime, timedelta

import pytest
import structlog

from services.core.access import ANYONE, Principal
from services.runtime.logs import MAX_WAITING, CallLines, call_log, configure_logs, trace_of


@pytest.fixture
def stream():
    out = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    yield out
    structlog.reset_defaults()
    logging.getLogger().handlers[:], _ = before
    logging.getLogger().setLevel(before[1])


def lines(stream) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail():
    raise KeyError("user-42")


def test_a_line_is_one_json_object(stream):
    configure_logs("info", stream)
    structlog.get_logger().info("serving", port=7)
    (line,) = lines(stream)
    assert line["event"] == "serving"
    assert line["port"] == 7
    assert line["level"] == "info"


def test_a_level_hides_what_is_below_it(stream):
    configure_logs("warning", stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_a_trace_names_places_not_values(stream):
    configure_logs("info", stream)
    try:
        fail()
    except KeyError:
        structlog.get_logger().exception("poll failed")
    (line,) = lines(stream)
    assert line["error"] == "KeyError"
    assert any("test_logs.py" in frame and frame.endswith("fail") for frame in line["trace"])
    assert "user-42" not in stream.getvalue()


def test_a_librarys_lines_are_json_without_values_too(stream):
    configure_logs("info", stream)
    try:
        fail()
    except KeyError:
        logging.getLogger("library").exception("went wrong")
    (line,) = lines(stream)
    assert line["event"] == "went wrong"
    assert line["logger"] == "library"
    assert "user-42" not in stream.getvalue()


def test_causes_are_part_of_a_trace():
    try:
        try:
            fail()
        except KeyError as error:
            raise RuntimeError("above") from error
    except RuntimeError as error:
        trace = trace_of(error)["trace"]
    assert trace[0] == "RuntimeError"
    assert "KeyError" in trace


KNOWN = Principal(tenant="acme", scopes=frozenset(), key_id="0123")


@pytest.mark.parametrize("level", ["debug", "info"])
@pytest.mark.parametrize(
    ("caller", "who"), [(ANYONE, {}), (KNOWN, {"tenant": "acme", "key_id": "0123"})]
)
def test_a_calls_line_is_the_one_structlog_would_write(stream, level, caller, who):
    configure_logs(level, stream)
    call_log('a.B/"C"', CallLines(0))("OK", 0.00123449, "req-1", caller)
    structlog.get_logger().info(
        "rpc", method='a.B/"C"', code="OK", duration_ms=1.234, request_id="req-1", **who
    )
    ours, theirs = lines(stream)
    stamps = [line.pop("timestamp") for line in (ours, theirs)]
    assert list(ours.items()) == list(theirs.items())
    assert len(stamps[0]) == len(stamps[1])
    first, second = map(datetime.fromisoformat, stamps)
    assert timedelta(0) <= second - first < timedelta(seconds=5)


def test_calls_are_not_logged_above_the_info_level(stream):
    configure_logs("warning", stream)
    call_log("a.B/C", CallLines(0))("OK", 0.001, "req-1", ANYONE)
    assert stream.getvalue() == ""


HOUR = 3600.0


async def test_lines_that_can_wait_are_written_together_in_order(stream):
    configure_logs("info", stream)
    waiting = CallLines(HOUR)
    for line in ('{"a": 1}', '{"a": 2}'):
        waiting.add(line, can_wait=True)
    assert stream.getvalue() == ""
    waiting.flush()
    assert lines(stream) == [{"a": 1}, {"a": 2}]
    waiting.flush()
    assert len(lines(stream)) == 2


async def test_a_line_waits_no_longer_than_it_may(stream):
    configure_logs("info", stream)
    CallLines(0.01).add("{}", can_wait=True)
    async with asyncio.timeout(10):
        while not stream.getvalue():
            await asyncio.sleep(0.01)
    assert lines(stream) == [{}]


async def test_a_failed_call_is_written_at_once_after_those_before_it(stream):
    configure_logs("info", stream)
    log = call_log("a.B/C", CallLines(HOUR))
    log("OK", 0.001, "req-1", ANYONE)
    assert stream.getvalue() == ""
    log("NOT_FOUND", 0.001, "req-2", ANYONE)
    assert [line["request_id"] for line in lines(stream)] == ["req-1", "req-2"]


async def test_only_so_many_lines_wait(stream):
    configure_logs("info", stream)
    waiting = CallLines(HOUR)
    for _ in range(MAX_WAITING + 1):
        waiting.add("{}", can_wait=True)
    assert len(lines(stream)) == MAX_WAITING


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_line_that_cannot_be_written_fails_nothing(stream):
    configure_logs("info", Full())
    structlog.get_logger().info("serving")
    logging.getLogger("library").error("went wrong")
    call_log("Service/Method", CallLines(0))("OK", 0.01, "r1", KNOWN)
