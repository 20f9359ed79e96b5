"""The benchmark of ingest counts rows that are there."""

import numpy as np

from tests.bench.ingest import EVENTS_A_CALL, appends, frames, measure, requests


def test_every_acknowledged_row_is_in_the_logs_of_two_processes(tmp_path):
    found = measure(tmp_path, 2, 1, 0.5)
    assert found["failures"] == []
    assert found["committed_rows"] == found["acknowledged_rows"] >= 2 * EVENTS_A_CALL
    assert found["name"] == "ingest-2"


def test_the_peer_appends_the_rows_that_the_gateway_would():
    made = frames(requests()[:2])
    assert [frame.height for frame in made] == [EVENTS_A_CALL] * 2
    assert made[0]["event_id"].is_in(made[1]["event_id"].implode()).sum() == 0
    assert made[0]["ingest_time"].null_count() == 0


def test_rates_are_of_rows_and_latencies_of_calls():
    figures = appends(np.array([0.01, 0.03]), wall_s=0.5, cpu_s=0.25)
    assert (figures.rows_per_s, figures.rows_per_cpu_s) == (2000, 4000)
    assert figures.p50_ms == 20
