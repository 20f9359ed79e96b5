"""Exports how many calls came in and how many were ended by us: the rest was refused, or given up, unseen.

Calls that gRPC refuses because too many wait never reach Python, so that nothing else here can count them.
"""

import json
from collections.abc import Iterator
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class Arrivals(Collector):
    """Asks gRPC's own statistics (channelz) at each scrape: a quarter of a millisecond."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield both counters, over the servers of this process."""
        arrived = ended = 0
        for server in _servers():
            data = server.get("data", {})
            arrived += int(data.get("callsStarted", 0))
            ended += int(data.get("callsSucceeded", 0)) + int(data.get("callsFailed", 0))
        yield CounterMetricFamily(
            "driftline_rpc_arrived", "Calls that came in, health checks among them.", value=arrived
        )
        yield CounterMetricFamily(
            "driftline_rpc_ended",
            "Calls that were answered or failed here; those that came in and are not among them were refused "
            "or given up before anything looked at them.",
            value=ended,
        )


def _servers() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cygrpc.channelz_get_servers(0)).get("server", [])
    return found
