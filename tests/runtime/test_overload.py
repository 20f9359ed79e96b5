"""What a server does with more than it can answer: refused below Python, early, and over as soon as it is over."""

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from driftline.v1 import interest_service_pb2 as pb
from driftline.v1 import interest_service_pb2_grpc as pb_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.metrics import Metrics
from tests.runtime.scripted import Running, call, running, until

WAITING, CALLS, LIMIT_S = 8, 60, 30.0


def test_calls_that_would_wait_too_long_are_refused_before_python_sees_them():
    codes, seen, busy, unseen = asyncio.run(flood())
    # One is being answered, one was handed over, and so many wait; which of the others do is a matter of chance.
    assert codes["OK"] <= 2 + WAITING
    assert codes["CANCELLED"] >= CALLS - 1 - WAITING
    assert sum(codes.values()) == CALLS + 1
    assert busy == 1  # the refusals came while the server was still at its first call
    assert seen == codes["OK"]
    # What Python never saw is counted all the same; afterwards calls are answered as before.
    assert unseen == codes["CANCELLED"]


async def flood() -> tuple[Counter[str], int, int, float]:
    """Keep the server's loop busy with one call while others come."""
    refusals_are_in = threading.Event()

    async def hold(request: pb.GetInterestRequest) -> pb.GetInterestResponse:
        refusals_are_in.wait(LIMIT_S)
        return pb.GetInterestResponse()

    async with running(hold, max_waiting_calls=WAITING, max_calls_per_connection=0) as server:
        with ThreadPoolExecutor(1) as thread:
            before = unseen()
            done = asyncio.get_running_loop().run_in_executor(
                thread, send, server.port, server.handler.seen, refusals_are_in
            )
            codes, busy = await done
        seen = len(server.handler.seen)
        await until(lambda: unseen() - before == codes["CANCELLED"], LIMIT_S)
        async with server.channel() as channel:
            await call(channel, timeout=LIMIT_S)
        return codes, seen, busy, unseen() - before


def unseen() -> float:
    """Return how many calls came in and were neither answered nor failed by a handler."""
    found = {
        sample.name: sample.value
        for family in Metrics().registry.collect()
        for sample in family.samples
    }
    return found["driftline_rpc_arrived_total"] - found["driftline_rpc_ended_total"]


def send(port: int, seen: list[str], refusals_are_in: threading.Event) -> tuple[Counter[str], int]:
    """Send one call, then, when it is under way, the others at once."""
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        stub, request = pb_grpc.InterestServiceStub(channel), pb.GetInterestRequest(user_id="u")
        first = stub.GetInterest.future(request, timeout=LIMIT_S)
        while not seen:
            time.sleep(0.001)
        others = [stub.GetInterest.future(request, timeout=LIMIT_S) for _ in range(CALLS)]
        enough, refused = threading.Event(), []

        def count(call: grpc.Future) -> None:
            refused.append(call)
            if len(refused) >= CALLS - 1 - WAITING:
                enough.set()

        for other in others:
            other.add_done_callback(count)
        assert enough.wait(LIMIT_S)
        busy = len(seen)
        # A probe waits in a queue of its own: it is answered when the server comes to it, not refused.
        probe = health_pb2_grpc.HealthStub(channel).Check.future(
            health_pb2.HealthCheckRequest(), timeout=LIMIT_S
        )
        refusals_are_in.set()
        assert probe.result().status == health_pb2.HealthCheckResponse.SERVING
        return Counter((f.exception() or f).code().name for f in (first, *others)), busy


async def test_a_connection_keeps_calls_above_its_share_to_itself():
    release = asyncio.Event()

    async def hold(request: pb.GetInterestRequest) -> pb.GetInterestResponse:
        await release.wait()
        return pb.GetInterestResponse()

    async with (
        running(hold, max_calls_per_connection=4) as server,
        apart(server) as channel,
        apart(server) as other,
    ):
        # The limit is part of the server's settings, which come first.
        await channel.channel_ready()
        held = [asyncio.create_task(call(channel, timeout=LIMIT_S)) for _ in range(12)]
        await until(lambda: len(server.handler.seen) == 4, LIMIT_S)
        # Another connection has a share of its own.
        held.append(asyncio.create_task(call(other, "other", timeout=LIMIT_S)))
        await until(lambda: "other" in server.handler.seen, LIMIT_S)
        assert len(server.handler.seen) == 5
        release.set()
        assert len(await asyncio.gather(*held)) == 13


async def test_one_connection_too_many_is_closed_as_it_comes():
    async with running(max_connections=2) as server:
        async with apart(server) as one, apart(server) as two, apart(server) as three:
            await call(one)
            await call(two)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(three, timeout=LIMIT_S)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            await call(one)
        # Those have left: there is room again.
        async with apart(server) as late:
            async with asyncio.timeout(LIMIT_S):
                while not await answers(late):
                    await asyncio.sleep(0.05)


def apart(server: Running) -> grpc.aio.Channel:
    """Return a channel with a connection of its own: channels to one address share theirs."""
    return grpc.aio.insecure_channel(
        f"localhost:{server.port}", [("grpc.use_local_subchannel_pool", 1)]
    )


async def answers(channel: grpc.aio.Channel) -> bool:
    try:
        await call(channel, timeout=LIMIT_S, wait_for_ready=False)
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_a_connection_without_a_call_is_closed_and_its_client_comes_back():
    async with running(idle_connection_s=0.2) as server, server.channel() as channel:
        await call(channel)
        await until(lambda: channel.get_state() is not grpc.ChannelConnectivity.READY, LIMIT_S)
        await call(channel)
