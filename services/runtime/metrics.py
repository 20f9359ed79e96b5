"""Prometheus metrics of one server process."""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from services.runtime.arrivals import Arrivals

# Seconds. Reads take about a millisecond, group commits about twenty.
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BOUNDS = (*map(floatToGoString, BUCKETS), "+Inf")


@dataclass(slots=True)
class _Durations:
    """How long the calls of one method took for one tenant."""

    # Calls by the first of BUCKETS that holds them; the last place is of those above all.
    count_B: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total_s: float = 0.0


class Metrics(Collector):
    """Counts calls, and serves the counts over HTTP.

    The event loop counts in plain numbers, a scrape makes Prometheus' families of them: its own counters,
    each behind a lock, were a fifteenth of a read. A scrape may see a call that ends in one family and not
    yet in another.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(Arrivals())
        self.registry.register(self)
        self._in_flight = 0
        # Ended calls by (method, code, tenant), and their durations by (method, tenant).
        self._calls: dict[tuple[str, str, str], int] = {}
        self._durations: dict[tuple[str, str], _Durations] = {}

    def call_started(self) -> None:
        """Count a call in."""
        self._in_flight += 1

    def call_ended(self, method: str, code: str, seconds: float, tenant: str) -> None:
        """Count a call out; an empty tenant is a caller who was not let in."""
        self._in_flight -= 1
        call, of = (method, code, tenant), (method, tenant)
        self._calls[call] = self._calls.get(call, 0) + 1
        durations = self._durations.get(of)
        if durations is None:
            durations = self._durations[of] = _Durations()
        durations.count_B[bisect_left(BUCKETS, seconds)] += 1
        durations.total_s += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield what was counted so far."""
        yield GaugeMetricFamily("driftline_rpc_in_flight", "Calls under way.", self._in_flight)
        calls = CounterMetricFamily(
            "driftline_rpc_calls",
            "Calls that ended, by method, gRPC status and tenant (empty: of a caller who was not let in).",
            labels=("method", "code", "tenant"),
        )
        # Copied at once: the loop may add to them meanwhile.
        for call, count in list(self._calls.items()):
            calls.add_metric(call, count)
        yield calls
        seconds = HistogramMetricFamily(
            "driftline_rpc_duration_seconds",
            "How long calls took, by method and tenant.",
            labels=("method", "tenant"),
        )
        for of, durations in list(self._durations.items()):
            count_B = accumulate(list(durations.count_B))
            buckets = [(bound, float(count)) for bound, count in zip(_BOUNDS, count_B, strict=True)]
            seconds.add_metric(of, buckets, durations.total_s)
        yield seconds

    @contextmanager
    def serve(self, host: str, port: int) -> Iterator[int]:
        """Serve http://host:port/metrics until the end of the block; port 0 serves nothing.

        Raises:
            SystemExit: the port is taken; the message names the setting.
        """
        if not port:
            yield 0
            return
        try:
            server, thread = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise SystemExit(
                f"DRIFTLINE_METRICS_PORT: cannot listen on {host}:{port} ({error.strerror}); "
                "choose another, or 0 for no metrics"
            ) from None
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
