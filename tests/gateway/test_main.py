"""The gateway as a process of its own: `python -m services.gateway.main`."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request

import grpc
import pytest
from driftline.v1 import event_service_pb2 as ev
from driftline.v1 import event_service_pb2_grpc, privacy_service_pb2_grpc
from driftline.v1 import privacy_service_pb2 as pr
from driftline.v1 import recommendation_service_pb2 as rec
from driftline.v1 import recommendation_service_pb2_grpc as rec_grpc

from services.core.schema import DEFAULT_TENANT
from services.store.erasures import ErasedUsers
from services.store.layout import Layout
from services.store.tables import DeltaTables
from tests.gateway.process import gateway, publish
from tests.gateway.test_events import event
from tests.gateway.world import NOW, catalogue, ranker
from tests.runtime.scripted import free_port

HEAVY = ("torch", "ray", "feast", "scipy", "transformers", "pandas", "duckdb")


def test_it_imports_neither_torch_nor_ray_nor_feast_nor_scipy(tmp_path):
    code = f"""
import sys
from pathlib import Path
from services.gateway import main, tenants
from services.runtime.settings import Settings
from services.store.layout import Layout
layout = Layout(Path({str(tmp_path)!r}), 8)
for store in ("sqlite", "redis"):
    tenants.open_online_reader(Settings(online_store=store).feast_config(), layout)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_it_serves_what_is_published_and_says_where(tmp_path):
    publish(Layout(tmp_path / "data", 8), catalogue(), ranker())
    with gateway(tmp_path / "data", now=NOW, metrics_port=free_port()) as running:
        process, port, log = running.process, running.port, running.log
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            reply = rec_grpc.RecommendationServiceStub(channel).RecommendItems(
                rec.RecommendItemsRequest(user_id="user-who-must-not-be-logged")
            )
        assert [item.item_id for item in reply.items] == ["jam", "rye", "soap", "tea"]
        url = f"http://127.0.0.1:{running.metrics_port}/metrics"
        scraped = urllib.request.urlopen(url).read().decode()
        assert (
            'code="OK",method="driftline.v1.RecommendationService/RecommendItems",tenant="default"'
            in scraped
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    serving = next(line for line in lines if line["event"] == "serving")
    assert (serving["port"], serving["metrics_port"]) == (port, running.metrics_port)
    assert [line["event"] for line in lines].count("rpc") == 1
    assert lines[-1]["event"] == "stopped"
    assert "user-who-must-not-be-logged" not in log.read_text()


async def test_sigterm_loses_no_accepted_call(tmp_path):
    """Calls go on while it stops: what was answered is stored, and what was not is refused."""
    layout = Layout(tmp_path / "data", 8)
    accepted, refused = set(), []
    with gateway(tmp_path / "data", metrics_port=0) as running:
        process, port, log = running.process, running.port, running.log
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = event_service_pb2_grpc.EventServiceStub(channel)

            async def client(number: int) -> None:
                for i in range(1000):
                    event_id = f"c{number}-{i}"
                    request = ev.RecordEventsRequest(events=[event(event_id, event_time=PAST)])
                    try:
                        await stub.RecordEvents(request, timeout=10)
                    except grpc.aio.AioRpcError as error:
                        refused.append(error.code())
                        return
                    accepted.add(event_id)

            clients = [asyncio.create_task(client(number)) for number in range(10)]
            while len(accepted) < 50:
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            await asyncio.gather(*clients)
        assert await asyncio.to_thread(process.wait, 20) == 0
    stored = DeltaTables(layout).read_inbox(DEFAULT_TENANT, {}).events["event_id"].to_list()
    assert accepted <= set(stored)
    assert len(stored) == len(set(stored))
    assert len(accepted) >= 50
    assert set(refused) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    done = [line for line in logged if line["event"] == "rpc" and line["code"] == "OK"]
    # Whatever the server finished, its caller was told.
    assert len(done) == len(accepted)


PAST = {"seconds": 1_700_000_000}


def test_an_erasure_survives_a_restart(tmp_path):
    layout = Layout(tmp_path / "data", 8)
    with gateway(tmp_path / "data", metrics_port=0) as running:
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            privacy_service_pb2_grpc.PrivacyServiceStub(channel).EraseUser(
                pr.EraseUserRequest(user_id="u")
            )
        running.process.kill()
        running.process.wait()
    assert ErasedUsers(layout).users(DEFAULT_TENANT) == {"u"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DRIFTLINE_PORT", "many"),
        ("DRIFTLINE_HOST", "0.0.0.0"),
        ("DRIFTLINE_TLS_CERT", "only.pem"),
    ],
)
def test_a_bad_setting_stops_it_and_is_named(tmp_path, name, value):
    done = subprocess.run(
        [sys.executable, "-m", "services.gateway.main"],
        env={**os.environ, "DRIFTLINE_DATA_DIR": str(tmp_path), name: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert name in done.stderr
    assert "Traceback" not in done.stderr
