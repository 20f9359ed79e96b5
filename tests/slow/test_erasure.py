"""Erasure at length: on Redis, after two trainings, and under refreshes that run at once."""

import threading
from pathlib import Path

import pytest
import redis
from driftline import Client, ErasureState

from services.local import gateway_process
from services.pipeline.erasure import request_erasures
from tests.bench.store import redis_server
from tests.pipeline.lived import MARK, SOURCES, TENANT, USER, event, lived, traces, use_everything

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def redis_url():
    with redis_server() as url:
        yield url


def dump_of(url):
    """Return every key's own bytes, and those of the file that the server wrote."""
    with redis.Redis.from_url(url) as client:
        client.save()
        folder, name = (client.config_get(key)[key] for key in ("dir", "dbfilename"))
        written = (Path(folder) / name).read_bytes()
        return written + b"".join(key + client.dump(key) for key in client.scan_iter())


def test_nothing_is_left_on_redis_after_two_trainings(tmp_path, redis_url, trust):
    (tmp_path / "logs").mkdir()
    made = lived(tmp_path / "store", online_store="redis", redis_url=redis_url)
    made.store.train(from_live=True, until=made.settings.now)
    made.refresh()
    with gateway_process(made.settings, tmp_path / "logs") as gateway, Client(gateway.target) as c:
        c.record_events([event(n) for n in range(3)])
        made.refresh()
        use_everything(c)
        assert {record.source for record in c.export_user(USER)} == SOURCES
        assert MARK.encode() in dump_of(redis_url)
        erasure_id = c.erase_user(USER).erasure_id
        made.refresh()
        receipt = c.get_erasure(erasure_id)
        assert receipt.state is ErasureState.DONE, receipt.places
        assert receipt.predated_model_count == 2
        made.import_file()
        made.refresh(is_full=True)
        made.store.train(until=made.settings.now)
        left = traces(tmp_path / "store") + [MARK] * (MARK.encode() in dump_of(redis_url))
        trust("users erased", 1, len(left))
        assert left == []


def test_refreshes_at_once_bring_nobody_back(tmp_path, trust):
    (tmp_path / "logs").mkdir()
    made = lived(tmp_path / "store")
    made.refresh()
    users = [f"u{number:02}" for number in range(6)] + [USER]
    failures = []

    def refresh():
        try:
            for _ in range(3):
                made.refresh(is_full=True)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=refresh) for _ in range(2)]
    for thread in threads:
        thread.start()
    for user in users:
        request_erasures(made.settings, TENANT, [user])
    for thread in threads:
        thread.join()
    assert failures == []
    made.refresh()
    left = [user for user in users if traces(made.root, user)]
    trust("users erased", len(users), len(left))
    assert left == []
