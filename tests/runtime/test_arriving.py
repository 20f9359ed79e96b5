"""A request is taken in when its caller has been let in, and within its time."""

import asyncio

import grpc
import pytest
from driftline.v1 import interest_service_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from services.runtime import open_calls
from tests.runtime.raw_http2 import HEADERS, Raw
from tests.runtime.scripted import call, running, until

GET = "/driftline.v1.InterestService/GetInterest"
CHECK = "/grpc.health.v1.Health/Check"
LIMIT_S = 30.0


async def in_thread(function, *arguments):
    return await asyncio.to_thread(function, *arguments)


async def test_a_stranger_is_answered_before_the_request_is_in(tmp_path):
    settings = {"auth": "required", "keys_file": tmp_path / "keys.json"}
    async with running(**settings) as server:
        raw = await in_thread(Raw, server.port)
        stream = await in_thread(raw.half_a_message, GET, 1 << 20, 1000)
        # Trailers alone: the status. The rest of the request is not waited for.
        assert (HEADERS, stream) in await in_thread(raw.frames, HEADERS)
        await until(lambda: any(line["event"] == "rpc" for line in server.log_lines()), LIMIT_S)
        (line,) = [line for line in server.log_lines() if line["event"] == "rpc"]
        assert line["code"] == "UNAUTHENTICATED"
        raw.close()


@pytest.mark.parametrize("path", [GET, CHECK])
async def test_a_request_that_does_not_come_in_time_ends_its_call(path):
    async with running(request_s=0.2) as server, server.channel() as channel:
        raw = await in_thread(Raw, server.port)
        stream = await in_thread(raw.half_a_message, path, 1 << 20, 1000)
        assert (HEADERS, stream) in await in_thread(raw.frames, HEADERS)
        await call(channel)
        raw.close()
    assert server.handler.seen == ["u"]


async def test_a_call_that_sends_no_request_is_told_so():
    async with running() as server, server.channel() as channel:
        none = channel.stream_unary(GET)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await none(iter(()), timeout=LIMIT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "did not come" in caught.value.details()


async def test_requests_of_strangers_that_are_held_back_are_few(monkeypatch):
    monkeypatch.setattr(open_calls, "MOST_ARRIVING", 4)
    async with running() as server, server.channel() as channel:
        raw = await in_thread(Raw, server.port)
        for _ in range(4):
            await in_thread(raw.half_a_message, CHECK, 1 << 20, 100)
        probe = health_pb2_grpc.HealthStub(channel).Check
        from grpc_health.v1.health_pb2 import HealthCheckRequest

        codes = set()

        async def refused() -> bool:
            try:
                await probe(HealthCheckRequest(), timeout=LIMIT_S)
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
                return True
            return False

        async with asyncio.timeout(LIMIT_S):
            # All four are being taken in ...
            while not await refused():
                await asyncio.sleep(0.01)
            # ... until whoever held them back leaves: probes pass again.
            raw.close()
            while await refused():
                await asyncio.sleep(0.01)
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_a_health_check_of_other_bytes_is_the_callers_fault():
    async with running() as server, server.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(CHECK)(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_without_a_deadline_is_read_and_answered():
    async with running() as server, server.channel() as channel:
        assert await call(channel) == pb.GetInterestResponse()
        assert await call(channel, timeout=3600) == pb.GetInterestResponse()
