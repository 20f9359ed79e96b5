"""Encoder and forecaster on a real Ray Serve cluster, with the config that k8s runs.

One cluster serves the whole file; under pytest-xdist the group keeps it in one process.
"""

import ipaddress
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import polars as pl
import psutil
import pytest
from driftline.v1 import (
    encoder_service_pb2,
    encoder_service_pb2_grpc,
    forecaster_service_pb2,
    forecaster_service_pb2_grpc,
    vector_pb2,
)
from driftline.v1.event_pb2 import Item
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.core.items import encoder_text
from services.core.model import Model
from services.core.schema import (
    DEFAULT_TENANT,
    Granularity,
    by_period_view,
    forecast_view,
)
from services.runtime.cluster import REPLICA_GRPC_BASE, Cluster, start_cluster
from services.runtime.compute_token import call_metadata
from services.runtime.settings import Settings
from services.store.backbone import Backbone, load_backbone
from services.store.layout import Layout
from tests.small_store import BUCKETS, NOW, TITLES, USERS, WIDTH, fill, make_model

pytestmark = pytest.mark.xdist_group("serve")


@dataclass
class Served:
    """A running cluster over a small store, and stubs to call it."""

    cluster: Cluster
    model: Model
    layout: Layout
    channel: grpc.Channel

    def encoder(self, method, request, timeout=60):
        stub = encoder_service_pb2_grpc.EncoderServiceStub(self.channel)
        metadata = call_metadata("encoder", self.cluster.settings.compute_token)
        return getattr(stub, method)(request, timeout=timeout, metadata=metadata)

    def forecaster(self, method, request, timeout=60):
        stub = forecaster_service_pb2_grpc.ForecasterServiceStub(self.channel)
        metadata = call_metadata("forecaster", self.cluster.settings.compute_token)
        return getattr(stub, method)(request, timeout=timeout, metadata=metadata)

    def offline(self, view: str) -> pl.DataFrame:
        parts = self.layout.offline_dir(DEFAULT_TENANT, view).glob("part-b*.parquet")
        return pl.concat([pl.read_parquet(part) for part in parts])


@pytest.fixture(scope="session")
def minilm() -> Backbone:
    return load_backbone()


@pytest.fixture(scope="session")
def served(minilm: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serve")
    settings = Settings(
        data_dir=folder / "data",
        bucket_count=BUCKETS,
        now=NOW,
        serve_grpc_port=0,
        serve_http_port=0,
        refresh_chunk_users=2,
        compute_threads=1,
    )
    layout = Layout(settings.data_dir, BUCKETS)
    model = make_model(minilm)
    fill(layout, model, folder)
    cluster = start_cluster(settings, folder / "logs")
    try:
        target = f"{settings.serve_host}:{cluster.settings.serve_grpc_port}"
        with grpc.insecure_channel(target) as channel:
            yield Served(cluster=cluster, model=model, layout=layout, channel=channel)
    finally:
        cluster.stop()
        assert cluster.processes() == []
        assert not cluster.temp_dir.exists()


def test_items_are_encoded_by_the_real_backbone_and_packed(served: Served, minilm: Backbone):
    items = [Item(item_id=key, title=title, text="x") for key, title in TITLES.items()]
    request = encoder_service_pb2.EncodeItemsRequest(items=items)
    answer = served.encoder("EncodeItems", request)
    assert (answer.model_version, answer.vectors.space_id) == ("m1", served.model.space_id)
    made = np.frombuffer(answer.vectors.values, "<f4").reshape(-1, answer.vectors.width)
    texts = [encoder_text(title, "x") for title in TITLES.values()]
    expected = served.model.tower.text_parts(minilm.encode(texts))
    assert np.abs(made - expected).max() < 1e-5


def test_calls_at_once_get_each_their_own_vectors(served: Served):
    stub = encoder_service_pb2_grpc.EncoderServiceStub(served.channel)
    requests = [
        encoder_service_pb2.EncodeItemsRequest(
            items=[Item(item_id="x", title=f"title {n} {m}") for m in range(n % 3 + 1)]
        )
        for n in range(20)
    ]
    alone = [served.encoder("EncodeItems", request) for request in requests]
    metadata = call_metadata("encoder", served.cluster.settings.compute_token)
    at_once = [stub.EncodeItems.future(r, timeout=60, metadata=metadata) for r in requests]
    for one, other in zip(alone, at_once, strict=True):
        a, b = (np.frombuffer(x.vectors.values, "<f4") for x in (one, other.result()))
        assert np.abs(a - b).max() < 1e-5


def test_forecasts_come_from_the_other_application(served: Served):
    east = np.eye(1, WIDTH, dtype="<f4")
    trajectory = forecaster_service_pb2.Trajectory(
        vectors=vector_pb2.VectorBatch(
            space_id=served.model.space_id, width=WIDTH, values=east.tobytes()
        ),
        periods=["2026-W10"],
        event_counts=[3],
    )
    request = forecaster_service_pb2.ForecastInterestsRequest(trajectories=[trajectory])
    answer = served.forecaster("ForecastInterests", request)
    first = answer.forecasts[0].forecasts[0]
    assert first.period == "2026-W11"
    assert np.allclose(np.frombuffer(first.mean.values, "<f4"), east)


@pytest.mark.parametrize("application", ["encoder", "forecaster"])
def test_a_bad_request_is_refused_with_the_name_of_its_field(served: Served, application):
    call, method, request, field = {
        "encoder": (
            served.encoder, "EncodeItems",
            encoder_service_pb2.EncodeItemsRequest(items=[Item(title="no id")]), "items[0].item_id",
        ),
        "forecaster": (
            served.forecaster, "RefreshForecasts",
            forecaster_service_pb2.RefreshForecastsRequest(buckets=[BUCKETS]), "buckets[0]",
        ),
    }[application]  # fmt: skip
    with pytest.raises(grpc.RpcError) as caught:
        call(method, request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value)
    assert details(status, error_details_pb2.ErrorInfo).reason == "ERROR_REASON_INVALID_ARGUMENT"
    (violation,) = details(status, error_details_pb2.BadRequest).field_violations
    assert violation.field == field


def details(status, kind):
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    raise AssertionError(f"no {kind.__name__}")


def test_a_space_that_is_not_live_is_a_failed_precondition(served: Served):
    request = encoder_service_pb2.EncodeItemsRequest(
        items=[Item(item_id="x", title="x")], expected_space_id="other_1"
    )
    with pytest.raises(grpc.RpcError) as caught:
        served.encoder("EncodeItems", request)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_the_write_path_cut_by_a_deadline_stops_and_its_retry_publishes_nothing_twice(
    served: Served,
):
    items = served.encoder("RefreshItems", encoder_service_pb2.RefreshItemsRequest())
    assert (items.item_count, items.space_id) == (len(TITLES), served.model.space_id)
    request = encoder_service_pb2.RefreshInterestsRequest()
    view = by_period_view(Granularity.DAY, items.space_id)
    with pytest.raises(grpc.RpcError) as caught:
        served.encoder("RefreshInterests", request, timeout=1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    stopped_at = rows_once_still(served, view)
    assert stopped_at < USERS
    made = served.encoder("RefreshInterests", request)
    assert 0 < made.user_count <= USERS - stopped_at
    assert made.replica_pid == items.replica_pid
    again = served.encoder("RefreshInterests", request)
    assert (again.user_count, again.bucket_count) == (0, 0)
    for granularity in Granularity:
        rows = served.offline(by_period_view(granularity, items.space_id))
        assert rows.select("user_id", "period").is_unique().all()
        assert rows["user_id"].n_unique() == USERS

    forecast = forecaster_service_pb2.RefreshForecastsRequest()
    forecasts = served.forecaster("RefreshForecasts", forecast)
    assert forecasts.user_count == USERS
    assert forecasts.replica_pid != items.replica_pid
    rows = served.offline(forecast_view(Granularity.WEEK, items.space_id))
    assert rows["user_id"].is_unique().all()
    assert set(rows["made_at"]) == {"2026-W13"}
    assert served.forecaster("RefreshForecasts", forecast).forecast_count == 0


def rows_once_still(served: Served, view: str) -> int:
    """Wait until nothing is published any more; return the users that were."""
    users, give_up = -1, time.monotonic() + 20
    while time.monotonic() < give_up:
        parts = list(served.layout.offline_dir(DEFAULT_TENANT, view).glob("part-b*.parquet"))
        now = pl.concat(map(pl.read_parquet, parts))["user_id"].n_unique() if parts else 0
        if now == users:
            return users
        users = now
        time.sleep(1)
    raise AssertionError("the work went on after its deadline")


def test_calls_are_counted_by_application_with_the_processes_that_answered(served: Served):
    before = served.cluster.request_counts()
    served.encoder(
        "EncodeItems", encoder_service_pb2.EncodeItemsRequest(items=[Item(item_id="x", title="x")])
    )
    give_up = time.monotonic() + 10
    while served.cluster.request_counts()["encoder"] == before["encoder"]:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    assert served.cluster.request_counts()["encoder"] == before["encoder"] + 1
    encoders, forecasters = (
        set(served.cluster.replica_pids()[name]) for name in ("encoder", "forecaster")
    )
    assert encoders and forecasters and not encoders & forecasters
    assert encoders | forecasters <= set(served.cluster.processes())


def test_the_caller_imports_no_ray():
    import subprocess

    code = "import sys, services.runtime.cluster; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_whoever_lacks_the_token_is_refused_by_both_applications(served: Served):
    for stub, method, request in (
        (encoder_service_pb2_grpc.EncoderServiceStub, "RefreshItems", "encoder"),
        (forecaster_service_pb2_grpc.ForecasterServiceStub, "RefreshForecasts", "forecaster"),
    ):
        made = getattr(encoder_service_pb2, f"{method}Request", None) or getattr(
            forecaster_service_pb2, f"{method}Request"
        )
        with pytest.raises(grpc.RpcError) as caught:
            call = getattr(stub(served.channel), method)
            call(made(), timeout=10, metadata=call_metadata(request, "guessed"))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


# What Ray Serve gives no address for, by process; the threat model says what closes each.
REPLICA_PORTS = range(REPLICA_GRPC_BASE, REPLICA_GRPC_BASE + 1_000)


def open_sockets(pids: list[int]) -> dict[str, set[int]]:
    """Return ports that others can connect to, by the process's name."""
    found: dict[str, set[int]] = {}
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            for socket in process.net_connections("inet"):
                address = ipaddress.ip_address(socket.laddr.ip)
                address = getattr(address, "ipv4_mapped", None) or address
                if socket.status == psutil.CONN_LISTEN and not address.is_loopback:
                    found.setdefault(process.name(), set()).add(socket.laddr.port)
    return found


def test_every_socket_is_on_loopback_or_named_in_the_threat_model(served: Served):
    found = open_sockets(served.cluster.processes())
    # Metrics and statistics: counts, to read.
    metrics_port = int(served.cluster.metrics_url.rsplit(":", 1)[1].split("/")[0])
    assert metrics_port in (haproxy := found.pop("haproxy"))
    assert len(haproxy) == 2
    # Serve's own proxy, where HAProxy knows no replica: our applications answer there too.
    assert len(found.pop("ray::ProxyActor")) == 1
    # Our applications, and Serve's port between deployments.
    replicas = [found.pop(name) for name in list(found) if name.startswith("ray::ServeReplica")]
    assert len(replicas) == 2
    for ports in replicas:
        assert len(ports) == 2
        assert len([port for port in ports if port in REPLICA_PORTS]) == 1
    assert found == {}
    page = (Path(__file__).parents[2] / "docs/threat-model.md").read_text()
    for name in (
        "31000",
        "`DRIFTLINE_COMPUTE_TOKEN`",
        "ProxyActor",
        "HAProxy",
        "`RAY_AUTH_MODE=token`",
    ):
        assert name in page


def test_what_listens_everywhere_asks_for_a_token_ours_or_rays(served: Served):
    sockets = open_sockets(served.cluster.processes())
    replicas = {n: p for n, p in sockets.items() if n.startswith("ray::ServeReplica")}
    ours = "/driftline.v1.EncoderService/EncodeItems"
    rays = "/ray.serve.ASGIService/HandleRequest"
    asked = [
        (port, ours if port in REPLICA_PORTS else rays) for p in replicas.values() for port in p
    ]
    asked += [(port, ours) for port in sockets["ray::ProxyActor"]]
    codes = []
    for port, path in asked:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(path)(b"", timeout=10, metadata=(("application", "encoder"),))
            codes.append((path, caught.value.code().name))
    # The forecaster's replica does not know EncodeItems; nobody is let in.
    assert {code for path, code in codes if path == rays} == {"UNAUTHENTICATED"}
    assert {code for path, code in codes if path == ours} <= {
        "UNAUTHENTICATED", "UNIMPLEMENTED", "NOT_FOUND",
    }  # fmt: skip
    assert Counter(codes)[ours, "UNAUTHENTICATED"] >= 1
