"""What a scrape shows of calls that were counted."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.runtime.metrics import BUCKETS, Metrics

OF_CALLS = ("driftline_rpc_calls", "driftline_rpc_duration_seconds", "driftline_rpc_in_flight")
READ, WRITE = "a.Reads/Get", "a.Writes/Put"
# Method, code, seconds, tenant; on a bucket's bound, below all and above all.
CALLS = [
    (READ, "OK", 0.0005, "acme"),
    (READ, "OK", 0.0, "acme"),
    (READ, "NOT_FOUND", 0.003, "acme"),
    (READ, "OK", 0.003, "zeta"),
    (WRITE, "OK", 99.0, ""),
]


def families(registry: CollectorRegistry) -> dict[str, tuple[str, str, dict]]:
    """Return every family of calls: type, help, and values by series."""
    return {
        family.name: (
            family.type,
            family.documentation,
            {
                (one.name, tuple(sorted(one.labels.items()))): one.value
                for one in family.samples
                if not one.name.endswith("_created")
            },
        )
        for family in registry.collect()
        if family.name in OF_CALLS
    }


def test_a_scrape_is_the_one_of_prometheus_own_counters():
    ours, theirs = Metrics(), CollectorRegistry()
    calls = Counter(
        "driftline_rpc_calls",
        "Calls that ended, by method, gRPC status and tenant (empty: of a caller who was not let in).",
        ("method", "code", "tenant"),
        registry=theirs,
    )
    seconds = Histogram(
        "driftline_rpc_duration_seconds",
        "How long calls took, by method and tenant.",
        ("method", "tenant"),
        buckets=BUCKETS,
        registry=theirs,
    )
    Gauge("driftline_rpc_in_flight", "Calls under way.", registry=theirs).set(2)
    for method, code, took_s, tenant in CALLS:
        ours.call_started()
        ours.call_ended(method, code, took_s, tenant)
        calls.labels(method, code, tenant).inc()
        seconds.labels(method, tenant).observe(took_s)
    for _ in range(2):
        ours.call_started()
    assert families(ours.registry) == families(theirs)
    assert set(families(theirs)) == set(OF_CALLS)
    # As text too, which has types and order.
    shown = generate_latest(ours.registry).decode()
    assert (
        'driftline_rpc_duration_seconds_bucket{le="+Inf",method="a.Writes/Put",tenant=""} 1.0'
        in shown
    )


def test_what_was_shown_goes_on_counting():
    metrics = Metrics()
    for total in (1.0, 2.0):
        metrics.call_started()
        metrics.call_ended(READ, "OK", 0.1, "acme")
        (series,) = families(metrics.registry)["driftline_rpc_calls"][2].values()
        assert series == total
