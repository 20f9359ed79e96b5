"""What happens around every call: ids, errors, limits, deadlines, one log line."""

import asyncio

import grpc
import pytest
from driftline.v1 import interest_service_pb2 as pb
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from services.core.errors import Cancelled, UserNotFound
from tests.runtime.scripted import call, running, until

SECRET = "user-who-must-not-be-logged"


async def failure(channel, user_id="u", **options) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, user_id, **options)
    return caught.value


def reason(error: grpc.aio.AioRpcError) -> ErrorInfo:
    info = ErrorInfo()
    rpc_status.from_call(error).details[0].Unpack(info)
    return info


def raising(error: Exception):
    async def script(request):
        raise error

    return script


async def test_a_core_error_reaches_the_caller_with_its_reason():
    async with running(raising(UserNotFound(SECRET))) as server, server.channel() as channel:
        error = await failure(channel)
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert reason(error).reason == "ERROR_REASON_USER_NOT_FOUND"
    assert reason(error).metadata["user_id"] == SECRET


async def test_a_fault_shows_the_caller_its_request_id_and_the_log_its_trace():
    async with running(raising(KeyError(SECRET))) as server, server.channel() as channel:
        error = await failure(channel, metadata=(("x-request-id", "req-7"),))
        lines, text = server.log_lines(), server.log_text()
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "internal error"
    assert reason(error).metadata["request_id"] == "req-7"
    failed = next(line for line in lines if line["event"] == "call failed")
    assert failed["request_id"] == "req-7"
    assert failed["error"] == "KeyError"
    assert any("scripted.py" in frame for frame in failed["trace"])
    assert SECRET not in text


async def test_a_bad_field_is_refused_before_the_handler():
    async with running() as server, server.channel() as channel:
        error = await failure(channel, user_id="")
        seen = server.handler.seen
    bad = BadRequest()
    assert rpc_status.from_call(error).details[1].Unpack(bad)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [v.field for v in bad.field_violations] == ["user_id"]
    assert seen == []


async def test_bytes_that_are_no_message_are_the_callers_fault():
    async with running() as server, server.channel() as channel:
        raw = channel.unary_unary("/driftline.v1.InterestService/GetInterest")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(b"\x0a\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_request_id_comes_back_and_a_missing_one_is_made():
    async with running() as server, server.channel() as channel:
        ids = []
        for metadata in ((("x-request-id", "abc-1"),), (), (("x-request-id", "no good!"),)):
            reply = channel.unary_unary(
                "/driftline.v1.InterestService/GetInterest",
                pb.GetInterestRequest.SerializeToString,
            )(pb.GetInterestRequest(user_id="u"), metadata=metadata)
            await reply
            ids.append(dict(await reply.trailing_metadata())["x-request-id"])
        logged = [line["request_id"] for line in server.log_lines() if line["event"] == "rpc"]
    assert ids[0] == "abc-1"
    assert len(ids[1]) == len(ids[2]) == 32
    assert logged == ids


async def test_each_call_is_one_log_line_without_user_content():
    async with running() as server, server.channel() as channel:
        await call(channel, SECRET)
        await failure(channel, "")
        lines, text = server.log_lines(), server.log_text()
    assert [(line["event"], line["method"], line["code"]) for line in lines] == [
        ("rpc", "driftline.v1.InterestService/GetInterest", "OK"),
        ("rpc", "driftline.v1.InterestService/GetInterest", "INVALID_ARGUMENT"),
    ]
    assert all(line["duration_ms"] > 0 for line in lines)
    assert SECRET not in text


async def test_calls_above_the_limit_are_refused_at_once_and_the_rest_are_served():
    release = asyncio.Event()

    async def wait(request):
        await release.wait()
        return pb.GetInterestResponse()

    async with running(wait, max_concurrent_calls=2) as server, server.channel() as channel:
        held = [asyncio.create_task(call(channel, f"u{i}")) for i in range(2)]
        await until(lambda: len(server.handler.seen) == 2)
        error = await asyncio.wait_for(failure(channel), 2)
        release.set()
        await asyncio.gather(*held)
        await call(channel)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(error).reason == "ERROR_REASON_OVERLOADED"
    assert reason(error).metadata["limit"] == "2 calls at once"


async def test_a_call_without_a_deadline_gets_the_default_one():
    async def sleep(request):
        await asyncio.sleep(30)

    async with running(sleep, default_deadline_s=0.05) as server, server.channel() as channel:
        error = await asyncio.wait_for(failure(channel), 5)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason(error).reason == "ERROR_REASON_CANCELLED"
    assert "0.05 s" in error.details()


async def test_a_clients_own_deadline_counts_and_is_logged():
    stopped = asyncio.Event()

    async def sleep(request):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            stopped.set()
            raise

    async with running(sleep, default_deadline_s=0.01) as server, server.channel() as channel:
        error = await failure(channel, timeout=0.2)
        await asyncio.wait_for(stopped.wait(), 5)
        await until(lambda: any(line["event"] == "rpc" for line in server.log_lines()))
        (line,) = server.log_lines()
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert line["code"] == "DEADLINE_EXCEEDED"
    assert line["duration_ms"] > 100


async def test_a_caller_that_goes_away_frees_its_place():
    async def sleep(request):
        await asyncio.sleep(30)

    async with running(sleep, max_concurrent_calls=1) as server, server.channel() as channel:
        gone = asyncio.create_task(call(channel))
        await until(lambda: len(server.handler.seen) == 1)
        gone.cancel()
        await until(lambda: any(line.get("code") == "CANCELLED" for line in server.log_lines()))
        error = await failure(channel, timeout=0.1)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # it was let in


async def test_work_that_stopped_is_cancelled():
    async with running(raising(Cancelled("refresh"))) as server, server.channel() as channel:
        error = await failure(channel)
    assert error.code() is grpc.StatusCode.CANCELLED


async def test_a_timeout_inside_a_handler_is_a_fault_not_a_deadline():
    async with running(raising(TimeoutError())) as server, server.channel() as channel:
        assert (await failure(channel)).code() is grpc.StatusCode.INTERNAL
        assert (await failure(channel, timeout=5)).code() is grpc.StatusCode.INTERNAL
