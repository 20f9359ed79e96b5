"""Calls by the clock, and what is made of them."""

import asyncio

import grpc
import pytest

from tests.bench.open_load import Generator, Phase
from tests.bench.overload import INSTANT_S, figures, recovery_s
from tests.bench.test_load import Upper


def phase(due, took_s, refused=(), sent=None, seconds=10.0):
    return Phase(
        rate=10.0,
        started=100.0,
        seconds=seconds,
        sent=len(due) + len(refused) if sent is None else sent,
        due=list(due),
        took_s=list(took_s),
        refused_due=list(refused),
    )


async def test_calls_go_out_by_the_clock_whether_answers_come_or_not():
    handler, server = Upper(), grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    generator = Generator([b"one", b"bad"], 1)
    try:
        await generator.connect(port, "/a.B/C", 2)
        found = await generator.run(200, 0.5)
        for _ in range(500):
            if len(handler.seen) == found.sent:
                break
            await asyncio.sleep(0.01)
    finally:
        generator.close()
        await server.stop(None)
    # By the clock: so many as were due, however slow the machine is.
    assert found.sent == len(handler.seen) == int(found.seconds * 200)
    assert found.took_s
    assert found.refused_due
    # Since the call was due, not since it went out.
    assert all(took > 0 for took in found.took_s)


def test_goodput_is_what_was_answered_in_time_and_slowdown_compares_with_alone():
    alone = phase([100 + i / 10 for i in range(100)], [0.002] * 100)
    flood = phase([100 + i / 10 for i in range(100)], [0.006] * 100, [101.0] * 200)
    found = figures(10.0, alone, flood, alone)
    assert found.goodput_share == pytest.approx(1.0)
    assert found.offered_share == pytest.approx(3.0)
    assert found.slowdown == pytest.approx(3.0)
    assert found.recovery_s == INSTANT_S


def test_it_is_over_when_calls_are_answered_as_before():
    due = [100 + i / 100 for i in range(1000)]
    slow_at_first = [1.0 if at < 101.5 else 0.002 for at in due]
    # A hundredth of the calls may be slow; those that were last count as these.
    assert recovery_s(phase(due, slow_at_first), 0.01) == pytest.approx(1.39, abs=0.02)
    assert recovery_s(phase(due, [0.002] * 1000), 0.01) == INSTANT_S
    refused = [100 + i / 100 for i in range(100)]
    assert recovery_s(phase(due, [0.002] * 1000, refused), 0.01) == pytest.approx(0.88, abs=0.03)


def test_calls_that_nobody_answered_are_no_recovery():
    due = [100 + i / 100 for i in range(100)]
    assert recovery_s(phase(due, [0.002] * 100, sent=1000), 0.01) == 10.0
