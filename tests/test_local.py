"""Processes of one machine: gateways that share a port."""

from datetime import UTC, datetime

import grpc
from driftline.v1 import event_pb2
from driftline.v1 import event_service_pb2 as pb
from driftline.v1 import event_service_pb2_grpc as pb_grpc

from services.core.schema import DEFAULT_TENANT
from services.local import gateway_processes
from services.runtime.settings import Settings
from services.store import delta
from services.store.layout import Layout

CALLS = 40


def record(target, number):
    request = pb.RecordEventsRequest()
    event = request.events.add(
        event_id=f"e{number}", user_id="ann", item_id="tea", kind=event_pb2.EVENT_KIND_PURCHASE
    )
    event.event_time.FromDatetime(datetime.now(UTC))
    # A connection of its own, which the kernel deals out.
    own = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.insecure_channel(target, options=own) as channel:
        pb_grpc.EventServiceStub(channel).RecordEvents(request, timeout=20)


def test_gateways_share_a_port_and_no_call_is_lost_between_them(tmp_path):
    settings = Settings(data_dir=tmp_path / "data", port=0, metrics_port=0)
    layout = Layout(settings.data_dir, settings.bucket_count)
    with gateway_processes(settings, tmp_path, 2) as running:
        (target,) = {each.target for each in running}
        assert len({each.metrics_url for each in running}) == 2
        for number in range(CALLS):
            record(target, number)
    assert layout.inbox_writers(DEFAULT_TENANT) == ["gateway-0", "gateway-1"]
    logs = [layout.inbox_dir(DEFAULT_TENANT, f"gateway-{n}") / "events" for n in range(2)]
    counts = [sum(rows for rows, _ in delta.files(log).values()) for log in logs]
    # All of 40 connections on one side: once in 2 ** 39.
    assert sum(counts) == CALLS
    assert all(counts)
