"""Exports how well each tenant's store is, as the write path measured it (store/health.py)."""

from collections.abc import Iterator

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.core.errors import CoreError
from services.store.health import read_health, refreshed_time
from services.store.layout import Layout

log = structlog.get_logger()


# Gauge -> what it says, and its labels beside the tenant.
_GAUGES = {
    "driftline_refreshed_timestamp_seconds": (
        "When all that had come in was last served, seconds since 1970.", (),
    ),
    "driftline_health_timestamp_seconds": (
        "When coverage, drift and divergence were last measured, seconds since 1970.", (),
    ),
    "driftline_coverage_ratio": (
        "Share of users with usable events that have a vector; of items that are in the index.",
        ("of",),
    ),
    "driftline_divergence_ratio": (
        "Share of sampled users whose online vector is not the newest offline one.", (),
    ),
    "driftline_vector_drift": (
        "How unusual the last closed period's vectors are, robust standard deviations.",
        ("granularity",),
    ),
    "driftline_score_drift": (
        "How unusual the last closed period's scores are, robust standard deviations.",
        ("granularity",),
    ),
}  # fmt: skip
# Gauge, labels beside the tenant, value.
_Sample = tuple[str, tuple[str, ...], float]


class StoreHealth(Collector):
    """Reads the tenants' documents at each scrape: a few hundred bytes a tenant."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield every gauge; a tenant whose documents cannot be read has none."""
        gauges = {
            name: GaugeMetricFamily(name, said, labels=["tenant", *labels])
            for name, (said, labels) in _GAUGES.items()
        }
        for tenant in self._layout.tenants():
            try:
                samples = list(self._samples(tenant))
            except CoreError as error:
                log.warning("cannot read the store's health", problem=error.message)
                continue
            for name, labels, value in samples:
                gauges[name].add_metric([tenant, *labels], value)
        yield from gauges.values()

    def _samples(self, tenant: str) -> Iterator[_Sample]:
        """Yield what is known of a tenant. Raises DependencyUnavailable: a document is damaged."""
        if (at := refreshed_time(self._layout, tenant)) is not None:
            yield "driftline_refreshed_timestamp_seconds", (), at.timestamp()
        health = read_health(self._layout, tenant)
        if health is None:
            return
        yield "driftline_health_timestamp_seconds", (), health.measured_time.timestamp()
        yield "driftline_coverage_ratio", ("users",), health.users_covered
        yield "driftline_coverage_ratio", ("items",), health.items_covered
        yield "driftline_divergence_ratio", (), health.divergence
        for granularity, value in health.vector_drift.items():
            yield "driftline_vector_drift", (granularity,), value
        for granularity, value in health.score_drift.items():
            yield "driftline_score_drift", (granularity,), value
