"""A gateway whose disk takes no more: it says so, acknowledges nothing, reads on, and takes the same call later."""

from contextlib import contextmanager

import grpc
import pytest
from driftline.v1 import event_service_pb2 as ev
from driftline.v1 import event_service_pb2_grpc
from driftline.v1 import recommendation_service_pb2 as rec
from driftline.v1 import recommendation_service_pb2_grpc as rec_grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from services.core.schema import DEFAULT_TENANT
from services.store.layout import Layout
from services.store.tables import DeltaTables
from tests.disks import filled, mounted, read_only, small_files
from tests.gateway.process import gateway, publish
from tests.gateway.test_events import event
from tests.gateway.world import NOW, catalogue, ranker

PAST = {"seconds": 1_700_000_000}


@pytest.fixture(params=["no large files", "a full file system", "a read-only folder"])
def place(request, tmp_path):
    """Yield where the data lies, and what makes a running gateway's disk take nothing."""
    if request.param == "no large files":
        yield tmp_path / "data", lambda pid: small_files(0, pid)
    elif request.param == "a full file system":
        with mounted(tmp_path / "disk", 16) as disk:
            yield disk / "data", lambda pid: filled(disk)
    else:

        @contextmanager
        def closed(pid):
            with read_only(tmp_path / "data"):
                yield

        yield tmp_path / "data", closed


def recorded(channel, *names):
    events = [event(name, event_time=PAST) for name in names]
    stub = event_service_pb2_grpc.EventServiceStub(channel)
    return stub.RecordEvents(ev.RecordEventsRequest(events=events), timeout=20)


def refused(channel, *names):
    with pytest.raises(grpc.RpcError) as caught:
        recorded(channel, *names)
    metadata = dict(caught.value.trailing_metadata())
    status, info = Status.FromString(metadata["grpc-status-details-bin"]), ErrorInfo()
    assert status.details[0].Unpack(info)
    return caught.value.code(), info.metadata["dependency"], caught.value.details()


def test_nothing_is_acknowledged_and_the_same_call_works_when_there_is_space(place, trust):
    folder, closing = place
    layout = Layout(folder, 8)
    publish(layout, catalogue(), ranker())
    with (
        gateway(folder, now=NOW, metrics_port=0) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        assert recorded(channel, "a", "b").event_count == 2
        with closing(running.process.pid):
            for _ in range(3):
                code, dependency, text = refused(channel, "c", "d")
                assert (code, dependency) == (grpc.StatusCode.UNAVAILABLE, "disk")
                assert text.startswith("the disk ")
                assert "do the same again" in text
            reads = rec_grpc.RecommendationServiceStub(channel)
            asked = rec.RecommendItemsRequest(user_id="someone")
            # Its log lies on the same disk or under the same limit: no call fails for that.
            assert len(reads.RecommendItems(asked, timeout=20).items) == 4
        assert recorded(channel, "c", "d").event_count == 2
        assert recorded(channel, "c", "e").event_count == 2
    stored = DeltaTables(layout).read_inbox(DEFAULT_TENANT, {}).events["event_id"].to_list()
    trust("faults injected", 3, int(sorted(stored) != ["a", "b", "c", "c", "d", "e"]))
    assert sorted(stored) == ["a", "b", "c", "c", "d", "e"]


def test_a_gateway_that_cannot_write_its_inbox_says_so_and_stops(tmp_path):
    publish(Layout(tmp_path / "data", 8), catalogue(), ranker())
    with (
        read_only(tmp_path / "data"),
        pytest.raises(AssertionError) as caught,  # it ended
        gateway(tmp_path / "data", now=NOW, metrics_port=0),
    ):
        pass
    said = str(caught.value)
    assert "the disk " in said
    assert "Traceback" not in said
    with gateway(tmp_path / "data", now=NOW, metrics_port=0) as running:
        assert running.process.poll() is None
