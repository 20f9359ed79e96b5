"""Prometheus metrics of one server process."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.process_collector import ProcessCollector

from services.runtime.arrivals import Arrivals

# Seconds. Reads take about a millisecond, group commits about twenty.
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters of calls, in a registry of their own, and an HTTP endpoint for them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(Arrivals())
        self._calls = Counter(
            "driftline_rpc_calls",
            "Calls that ended, by method, gRPC status and tenant (empty: of a caller who was not let in).",
            ("method", "code", "tenant"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "driftline_rpc_duration_seconds",
            "How long calls took, by method and tenant.",
            ("method", "tenant"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "driftline_rpc_in_flight", "Calls under way.", registry=self.registry
        )

        # Looking a child up by its labels costs as much as counting.
        self._of_call: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}

    def call_started(self) -> None:
        """Count a call in."""
        self._in_flight.inc()

    def call_ended(self, method: str, code: str, seconds: float, tenant: str) -> None:
        """Count a call out; an empty tenant is a caller who was not let in."""
        self._in_flight.dec()
        counted = self._of_call.get((method, code, tenant))
        if counted is None:
            counted = (
                self._calls.labels(method, code, tenant),
                self._seconds.labels(method, tenant),
            )
            self._of_call[method, code, tenant] = counted
        counted[0].inc()
        counted[1].observe(seconds)

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
