"""The long forms of tests/gateway/test_hostile_clients.py, with a gateway's own settings but for their times."""

from concurrent.futures import ThreadPoolExecutor

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
from tests.gateway.test_hostile_clients import SLACK, judge, many_files
from tests.runtime.raw_http2 import Raw

pytestmark = pytest.mark.slow
IDLE, LORIS = 10_000, 2_000
# MiB a thousand connections; 16 were measured.
OF_A_THOUSAND = 32.0


def test_ten_thousand_idle_connections_leave_the_gateway_as_it_was(tmp_path, trust):
    with many_files(IDLE + 1000), served(tmp_path, idle_connection_s=20.0) as process:
        with watching(process) as watch:
            idle = [Raw(process.port) for _ in range(IDLE)]
            for _ in range(20):
                watch.call()
            await_closed(idle)
        judge(trust, watch, IDLE, SLACK + OF_A_THOUSAND * IDLE / 1000)


def test_two_thousand_clients_that_stop_halfway_are_closed(tmp_path, trust):
    with (
        many_files(LORIS + 1000),
        served(tmp_path, handshake_s=5.0, idle_connection_s=5.0) as process,
    ):
        for begin in (nothing_said, half_a_preface, half_a_header):
            with watching(process) as watch:
                await_closed([begin(process.port) for _ in range(LORIS)])
            judge(trust, watch, LORIS, SLACK + OF_A_THOUSAND * LORIS / 1000)


def test_half_messages_on_hundreds_of_connections_are_given_up(tmp_path, trust):
    with served(tmp_path, request_s=5.0, idle_connection_s=5.0) as process:
        with watching(process) as watch:
            loris = [half_messages(process.port) for _ in range(300)]
            await_closed(loris)
        judge(trust, watch, 16 * len(loris), 2 * SLACK, may_refuse=True)


def test_large_messages_from_many_at_once_are_refused(tmp_path, trust):
    message = b"x" * 100_000_000
    with served(tmp_path) as process, ThreadPoolExecutor(4) as threads:
        with watching(process) as watch:
            found = list(
                threads.map(lambda _: one_call(process.port, RECOMMEND, message)[0], range(20))
            )
        judge(trust, watch, len(found))
        assert found == ["RESOURCE_EXHAUSTED"] * 20
        message = batch_of(1_000_000)
        with watching(process) as watch:
            found = list(
                threads.map(lambda _: one_call(process.port, BATCH, message)[0], range(20))
            )
        # Four at once, their bytes twice.
        judge(trust, watch, len(found), SLACK + 8 * len(message) / 2**20)
        assert found == ["INVALID_ARGUMENT"] * 20


def test_floods_of_hundreds_of_thousands_of_frames_pass(tmp_path, trust):
    with served(tmp_path) as process:
        for flood in (ping_flood, settings_flood, rapid_reset):
            with watching(process) as watch:
                flood(process.port, 300_000)
            judge(trust, watch, 1, 2 * SLACK, may_refuse=flood is rapid_reset)


def test_thousands_of_streams_that_nobody_reads_hold_little(tmp_path, trust):
    with served(tmp_path) as process, watching(process) as watch:
        readers = [never_reads(process.port, users=300, streams=16) for _ in range(200)]
        for _ in range(20):
            watch.call()
        for raw in readers:
            raw.close()
    judge(trust, watch, 16 * len(readers), 2 * SLACK, may_refuse=True)
