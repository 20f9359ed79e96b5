"""Encoder and forecaster die and come back, on a real Ray cluster: refreshes go on, reads never notice.

One cluster, killed and started anew; real replicas, real kill -9.
"""

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from driftline import Client
from driftline.v1 import encoder_service_pb2, encoder_service_pb2_grpc
from driftline.v1.event_pb2 import Item

from services.core.errors import CoreError, DependencyUnavailable
from services.core.schema import DEFAULT_TENANT, Granularity, by_period_view, forecast_view
from services.local import gateway_process
from services.pipeline.compute import open_compute
from services.pipeline.follow import Follower
from services.pipeline.refresh import refresh
from services.pipeline.stores import open_stores
from services.runtime.cluster import Cluster, start_cluster
from services.runtime.compute_token import call_metadata, held_token
from services.runtime.settings import Settings
from services.store.backbone import load_backbone
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from tests.small_store import BUCKETS, NOW, USERS, fill, make_model
from tests.whole_store import some_events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("serve")]

LIMIT_S = 300.0


@dataclass
class Standing:
    """A store, its cluster, and a gateway over it."""

    settings: Settings
    cluster: Cluster
    gateway: str
    layout: Layout
    logs: Path
    space_id: str

    def restart(self) -> None:
        """Stop Ray's head and all it runs; start another on the same port."""
        self.cluster.stop()
        self.start()

    def start(self) -> None:
        port = self.cluster.settings.serve_grpc_port
        again = self.settings.model_copy(update={"serve_grpc_port": port})
        self.cluster = start_cluster(again, self.logs)
        assert self.cluster.settings.serve_grpc_port == port

    def client_settings(self) -> Settings:
        """Return what a command beside the cluster knows: where it is; the token it finds."""
        port = self.cluster.settings.serve_grpc_port
        return self.settings.model_copy(update={"serve_grpc_port": port})

    def record(self, name: str, users: int) -> None:
        rows = some_events(20 * users, users=users, prefix=f"{name}-")
        rows = rows.with_columns(rows["user_id"] + f"-{name}")
        InboxWriter(self.layout, "gateway-9").append("events", rows)

    def offline_users(self, view: str) -> list[str]:
        features = open_stores(self.settings).features
        return sorted(
            user
            for bucket in range(BUCKETS)
            for user in features.read_offline(DEFAULT_TENANT, view, bucket)["user_id"].unique()
        )

    def vectors(self) -> list[str]:
        return self.offline_users(by_period_view(Granularity.WEEK, self.space_id))

    def forecasts(self) -> list[str]:
        return self.offline_users(forecast_view(Granularity.WEEK, self.space_id))


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compute")
    settings = Settings(
        data_dir=folder / "data", bucket_count=BUCKETS, now=NOW, port=0, metrics_port=0,
        serve_grpc_port=0, serve_http_port=0, refresh_chunk_users=2, compute_threads=1, poll_s=0.2,
    )  # fmt: skip
    layout, model = Layout(settings.data_dir, BUCKETS), make_model(load_backbone())
    fill(layout, model, folder)
    cluster = start_cluster(settings, folder / "logs")
    standing = Standing(settings, cluster, "", layout, folder / "logs", model.space_id)
    try:
        with gateway_process(settings, folder / "logs") as gateway:
            standing.gateway = gateway.target
            yield standing
    finally:
        standing.cluster.stop()


def run_refresh(standing):
    with open_compute(standing.client_settings(), DEFAULT_TENANT) as compute:
        return refresh(open_stores(standing.settings), compute, standing.settings)


def kill(standing, application):
    """kill -9 the replica that answered last."""
    running = set(standing.cluster.processes())
    pids = [pid for pid in standing.cluster.replica_pids()[application] if pid in running]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return pids


def wait_for(is_so):
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < LIMIT_S
        time.sleep(0.2)
    return time.monotonic() - started


@contextmanager
def reading(target, user, failures):
    """Read a user's vector, forecast and recommendations all the while."""
    stopped, count = threading.Event(), Counter()

    def read():
        with Client(target) as client:
            while not stopped.wait(0.05):
                for call in (client.get_interest, client.get_forecast, client.recommend):
                    try:
                        count[bool(call(user))] += 1
                    except Exception as error:
                        failures.append(repr(error))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield count
    finally:
        stopped.set()
        thread.join()


def test_an_encoder_killed_in_a_refresh_is_waited_for_and_loses_nothing(standing, trust):
    began = len(list(standing.layout.root.rglob("*by_period*/part-b*")))
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(run_refresh, standing)
        parts = standing.layout.feast_dir(DEFAULT_TENANT) / "offline"
        wait_for(lambda: len(list(parts.glob("*by_period*/part-b*"))) > began or refreshing.done())
        was_under_way = not refreshing.done()
        pids = kill(standing, "encoder")
        started = time.monotonic()
        summary = refreshing.result(LIMIT_S)
    print(f"refresh ended {time.monotonic() - started:.1f} s after the kill of {pids}: {summary}")
    lost = {f"u{n}" for n in range(USERS)} - (set(standing.vectors()) & set(standing.forecasts()))
    trust("kills", 1, len(lost))
    assert pids
    assert was_under_way
    assert lost == set()
    assert run_refresh(standing).vectors == 0


def test_texts_under_way_in_a_killed_encoder_fail_by_name_or_are_answered(standing, trust):
    target = f"127.0.0.1:{standing.cluster.settings.serve_grpc_port}"
    metadata = call_metadata("encoder", held_token(standing.settings))
    with grpc.insecure_channel(target) as channel:
        stub = encoder_service_pb2_grpc.EncoderServiceStub(channel)

        def encode(number, timeout=60):
            items = [Item(item_id=f"{number}-{n}", title=f"item {number} {n}") for n in range(64)]
            request = encoder_service_pb2.EncodeItemsRequest(items=items)
            try:
                stub.EncodeItems(request, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

        assert encode(-1) == "OK"
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(encode, number) for number in range(24)]
            wait_for(lambda: sum(one.done() for one in asked) >= 2)
            pids = kill(standing, "encoder")
            ended = Counter(one.result(120) for one in asked)
        took = wait_for(lambda: encode(99) == "OK")
    print(f"killed {pids}: calls ended {dict(ended)}; the next was answered after {took:.1f} s")
    trust("kills", 1, ended["DEADLINE_EXCEEDED"])
    assert pids
    assert ended["OK"] >= 2
    assert ended["DEADLINE_EXCEEDED"] == 0


def test_a_forecaster_that_is_gone_fails_no_read_and_its_forecasts_are_made_later(standing, trust):
    failures: list[str] = []
    wait_for(lambda: "u1" in standing.forecasts() or bool(run_refresh(standing)))
    with reading(standing.gateway, "u1", failures) as count:
        wait_for(lambda: count[True] >= 3)
        standing.record("gone", 4)
        with ThreadPoolExecutor(1) as pool:
            refreshing = pool.submit(run_refresh, standing)
            kills = 0
            while not refreshing.done() and kills < 3:
                kills += len(kill(standing, "forecaster"))
                time.sleep(0.5)
            try:
                refreshing.result(LIMIT_S)
            except CoreError as error:
                print(f"refresh: {error.message}")
                assert "forecaster" in error.message
        assert {f"u{n}-gone" for n in range(4)} <= set(standing.vectors())
        took = wait_for(lambda: done(lambda: run_refresh(standing)))
        print(f"{kills} kills; forecasts were made {took:.1f} s later; {count[True]} reads")
    left = {f"u{n}-gone" for n in range(4)} - set(standing.forecasts())
    trust("kills", kills, len(left))
    trust("faults injected", 1, len(failures))
    assert kills >= 1
    assert failures == []
    assert left == set()


def done(call):
    try:
        call()
    except CoreError:
        return False
    return True


def test_rays_head_restarted_fails_no_read_and_the_follower_finds_the_new_cluster(standing, trust):
    failures: list[str] = []
    with (
        open_compute(standing.client_settings(), DEFAULT_TENANT) as compute,
        reading(standing.gateway, "u1", failures) as count,
    ):
        follower = Follower(
            stores=open_stores(standing.settings), compute=compute, settings=standing.settings
        )
        follower.start()
        try:
            standing.record("before", 2)
            wait_for(lambda: {"u0-before", "u1-before"} <= set(standing.forecasts()))
            token = held_token(standing.settings)
            standing.cluster.stop()
            standing.record("while", 2)
            with pytest.raises(DependencyUnavailable, match="is `driftline up` running"):
                run_refresh(standing)
            standing.start()
            assert held_token(standing.settings) != token
            took = wait_for(lambda: {"u0-while", "u1-while"} <= set(standing.forecasts()))
        finally:
            follower.stop()
    print(f"served {took:.1f} s after the new head answered; {count[True]} reads meanwhile")
    trust("faults injected", 1, len(failures))
    assert failures == []
    assert count[True] > 0
