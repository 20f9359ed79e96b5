"""Hostile clients: memory stays bounded, others are answered, refusals are early and named, and it passes.

Short forms; tests/slow/test_hostile_clients.py has the long ones.
"""

import resource
from contextlib import contextmanager

import pytest

from tests.gateway.hostile import (
    BATCH,
    RECOMMEND,
    await_closed,
    batch_of,
    half_a_header,
    half_a_preface,
    half_messages,
    never_reads,
    nothing_said,
    one_call,
    ping_flood,
    rapid_reset,
    served,
    settings_flood,
    watching,
)
from tests.runtime.raw_http2 import Raw

ROW = "hostile clients"
IDLE = 1000
# MiB. A gateway alone has some 150 to 250; an allocator's slack is part of it.
SLACK = 64.0


@contextmanager
def many_files(wanted):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this machine allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with served(tmp_path_factory.mktemp("hostile")) as process:
        yield process


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hasty")
    with served(folder, handshake_s=2.0, idle_connection_s=2.0, request_s=2.0) as process:
        yield process


def judge(trust, watch, tried, most_growth=SLACK, *, may_refuse=False):
    """Judge what was seen; `may_refuse`: others may be refused early while it goes on, as in any overload."""
    trust(ROW, tried, watch.losses(most_growth))
    assert watch.failed == []
    assert may_refuse or watch.refused == 0
    assert watch.growth <= most_growth
    assert watch.has_recovered


@pytest.mark.parametrize("begin", [nothing_said, half_a_preface, half_a_header])
def test_a_connection_that_stops_halfway_is_closed_and_others_are_answered(hasty, trust, begin):
    with watching(hasty) as watch:
        loris = [begin(hasty.port) for _ in range(50)]
        await_closed(loris)
    judge(trust, watch, len(loris))


def test_half_messages_are_given_up_in_time_and_hold_no_memory(hasty, trust):
    with watching(hasty) as watch:
        loris = [half_messages(hasty.port) for _ in range(20)]
        # Each call is ended; then the connection is idle, and closed.
        await_closed(loris)
    judge(trust, watch, 16 * len(loris), may_refuse=True)


def test_idle_connections_cost_little_and_are_closed(tmp_path, trust):
    with many_files(2 * IDLE + 200), served(tmp_path, idle_connection_s=3.0) as process:
        with watching(process) as watch:
            idle = [Raw(process.port) for _ in range(IDLE)]
            watch.call()
            await_closed(idle)
        judge(trust, watch, IDLE)


@pytest.mark.parametrize("megabytes", [40, 100])
def test_a_message_that_is_too_large_is_refused_by_its_first_bytes(running, trust, megabytes):
    message = b"x" * (megabytes * 1_000_000)
    with watching(running) as watch:
        found = [one_call(running.port, RECOMMEND, message)[0] for _ in range(3)]
    # Less than one message is ever held.
    judge(trust, watch, len(found), most_growth=32.0)
    assert found == ["RESOURCE_EXHAUSTED"] * 3


def test_a_million_users_in_one_call_are_refused_before_they_are_parsed(running, trust):
    message = batch_of(1_000_000)
    with watching(running) as watch:
        found = [one_call(running.port, BATCH, message)[0] for _ in range(3)]
    # The bytes themselves, twice, and no million of objects.
    judge(trust, watch, len(found), most_growth=SLACK + 2 * len(message) / 2**20)
    assert found == ["INVALID_ARGUMENT"] * 3


@pytest.mark.parametrize("flood", [ping_flood, settings_flood, rapid_reset])
def test_a_flood_of_frames_ends_its_own_connection_at_most(running, trust, flood):
    with watching(running) as watch:
        for _ in range(3):
            flood(running.port, 10_000)
    judge(trust, watch, 3, may_refuse=flood is rapid_reset)


def test_streams_that_nobody_reads_hold_no_more_than_their_windows(running, trust):
    with watching(running) as watch:
        readers = [never_reads(running.port, users=300, streams=16) for _ in range(5)]
        for _ in range(5):
            watch.call()
        for raw in readers:
            raw.close()
    judge(trust, watch, 16 * len(readers), may_refuse=True)
