"""The read benches: the same content from both sides, figures worked out right. Speed is not tested."""

import pytest

from services.store.feast_config import FeastConfig
from tests.bench import reads, servers
from tests.bench.load import Load
from tests.bench.store import fill, redis_server
from tests.gateway.process import gateway


def test_figures_are_per_answered_call():
    found = reads.figures_of(Load(seconds=2.0, latencies_s=[0.001, 0.003, 0.002, 0.002]), 0.4)
    assert found.calls_per_s == 2.0
    assert found.cpu_ms_per_call == pytest.approx(100.0)
    assert found.p50_ms == pytest.approx(2.0)


def test_a_run_with_refused_calls_is_no_result():
    with pytest.raises(ValueError, match="1 calls were refused"):
        reads.figures_of(Load(seconds=1.0, latencies_s=[0.1], refused=1), 0.1)


def test_batches_are_distinct_users_and_begin_with_each_user():
    groups = reads.batches(["a", "b", "c"], 2)
    assert groups == [["a", "b"], ["b", "c"], ["c", "a"]]


def test_the_gateway_answers_one_and_many_on_redis_as_written(tmp_path):
    with redis_server() as url:
        filled = fill(
            tmp_path / "data", FeastConfig(online_store="redis", redis_url=url), users=120
        )
        with gateway(filled.folder, metrics_port=0, online_store="redis", redis_url=url) as running:
            server = servers.Server(pid=running.process.pid, port=running.port)
            for name, batch in (("read-floor", 1), ("read-100", reads.BATCH)):
                side = reads.driftline_side(server, filled, batch)
                figures, found = side.run(0.3)
                reads.check_same_content(found, Load(), filled, name)
                assert figures.calls_per_s > 0
                assert figures.cpu_ms_per_call > 0
            with reads.peer_of(
                "read-floor", reads.driftline_side(server, filled, 1), filled, tmp_path
            ) as peer:
                (_, message), *_ = peer.run(0.2)[1].samples
                assert len(message) > 4 * 128


@pytest.mark.slow
@pytest.mark.parametrize("name", ["read-1", "read-1g", "read-sqlite"])
def test_feasts_servers_give_the_same_content(tmp_path, name):
    with redis_server() as url:
        config = FeastConfig(online_store="redis", redis_url=url)
        filled = fill(
            tmp_path / "data", FeastConfig() if name == "read-sqlite" else config, users=120
        )
        found = reads.compare(name, filled, tmp_path, pairs=1, seconds=0.3)
    assert found["pairs"] == 1
    assert found["ratio"] > 0
