"""Alerts: each fires on what it is for and on nothing else, reads metrics that exist, and has a runbook entry."""

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from services.core.drift import DRIFT_LIMIT
from services.core.schema import DEFAULT_TENANT
from services.runtime.health import StoreHealth
from services.runtime.metrics import Metrics
from services.store.health import HEALTH, REFRESHED, Health, health_to_state, refreshed_to_state
from services.store.layout import Layout
from services.store.tables import DeltaTables
from tests.k8s.conftest import K8S, ROOT

RULES = yaml.safe_load((K8S / "components" / "monitoring" / "rules.yaml").read_text())["spec"]
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
# Words of PromQL, and Prometheus's own `up`, that no process of ours exports.
LANGUAGE = {
    "absent", "and", "by", "histogram_quantile", "max", "min", "or", "rate", "sum", "time", "up",
}  # fmt: skip
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")


@pytest.fixture
def exported(tmp_path) -> dict[str, set[str]]:
    """Metric names that a gateway really exports, with the labels of each."""
    layout = Layout(tmp_path, 2)
    tables, now = DeltaTables(layout), datetime.now(UTC)
    health = Health(
        measured_time=now,
        space_id="toy_00000001",
        users_covered=1.0,
        items_covered=0.5,
        divergence=0.0,
        vector_drift={"week": 1.5},
        score_drift={"week": -0.5},
    )
    tables.write_state(DEFAULT_TENANT, HEALTH, health_to_state(health))
    tables.write_state(DEFAULT_TENANT, REFRESHED, refreshed_to_state(now))
    metrics = Metrics()
    metrics.registry.register(StoreHealth(layout))
    metrics.call_started()
    metrics.call_ended("/driftline.v1.InterestService/GetInterest", "OK", 0.001, DEFAULT_TENANT)
    found: dict[str, set[str]] = {}
    for line in generate_latest(metrics.registry).decode().splitlines():
        if not line.startswith("#"):
            name, labels = re.match(r"(\w+)(?:{(.*)})?", line).groups()
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels or ""))
    return found


def names_in(expression: str) -> set[str]:
    """Return the metrics of an expression: words outside braces, brackets and strings."""
    bare = re.sub(r'"[^"]*"|{[^}]*}|\[[^\]]*\]|(?:by|without) *\([^)]*\)', " ", expression)
    return set(re.findall(r"[a-z_][a-z0-9_]*", bare)) - LANGUAGE


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_reads_metrics_and_labels_that_are_exported(alert, exported):
    expression = ALERTS[alert]["expr"]
    names = names_in(expression)
    assert names <= exported.keys(), names - exported.keys()
    labels = {
        name
        for group in re.findall(r"{([^}]*)}", expression)
        for name in re.findall(r"(\w+)[=!]", group)
    }
    labels |= {
        name.strip()
        for group in re.findall(r"by \(([^)]*)\)", expression)
        for name in group.split(",")
    }
    known = set().union(*(exported[name] for name in names)) | {"job", "le"}
    assert labels <= known, labels - known


@pytest.mark.parametrize("alert", ["VectorDrift", "ScoreDrift"])
def test_drift_raises_an_alert_where_the_core_calls_it_drift(alert):
    assert ALERTS[alert]["expr"].endswith(f" > {DRIFT_LIMIT:g}")


def test_every_alert_reads_something():
    assert {alert for alert, rule in ALERTS.items() if not names_in(rule["expr"])} == {
        "GatewayDown"
    }


def test_the_health_of_a_store_is_exported_as_it_was_measured(exported, tmp_path):
    text = generate_latest(_registry(tmp_path)).decode()
    assert 'driftline_coverage_ratio{of="items",tenant="default"} 0.5' in text
    assert 'driftline_vector_drift{granularity="week",tenant="default"} 1.5' in text
    assert 'driftline_score_drift{granularity="week",tenant="default"} -0.5' in text


def test_a_store_that_nobody_looked_at_exports_no_figure(tmp_path):
    Layout(tmp_path, 2)
    text = generate_latest(_registry(tmp_path)).decode()
    assert not [line for line in text.splitlines() if line.startswith("driftline_coverage_ratio{")]


def _registry(folder: Path):
    metrics = Metrics()
    metrics.registry.register(StoreHealth(Layout(folder, 2)))
    return metrics.registry


def test_every_alert_has_an_entry_in_the_runbook_and_every_entry_an_alert():
    text = (ROOT / "docs" / "runbook.md").read_text()
    entries = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sorted(entries) == sorted(ALERTS)
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        for word in ("*Means*", "*Look*", "*Do*", "*Over*"):
            assert word in part, (part.splitlines()[0], word)


def test_the_runbook_names_commands_that_exist():
    from services.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    text = " ".join((ROOT / "docs" / "runbook.md").read_text().split())
    named = set(re.findall(r"`driftline ([a-z-]+)", text))
    assert named
    assert named <= known, named - known


CALLS = "driftline_rpc_calls_total"
READ = 'method="/driftline.v1.InterestService/GetInterest",tenant="default"'
# Alert -> (series that must raise it, series that must not, minutes until it is looked at).
# A value is Prometheus's notation: start+step x steps, a minute each.
CASES = {
    "GatewayDown": ({'up{job="gateway"}': "0x20"}, {'up{job="gateway"}': "1x20"}, 10),
    "GatewayErrors": (
        {
            f'{CALLS}{{{READ},code="OK"}}': "0+95x60",
            f'{CALLS}{{{READ},code="UNAVAILABLE"}}': "0+5x60",
        },
        {
            f'{CALLS}{{{READ},code="OK"}}': "0+95x60",
            f'{CALLS}{{{READ},code="NOT_FOUND"}}': "0+50x60",
            f'{CALLS}{{{READ},code="INTERNAL"}}': "0+0x60",
        },
        40,
    ),
    "GatewaySlow": (
        {
            f'driftline_rpc_duration_seconds_bucket{{{READ},le="0.1"}}': "0+90x60",
            f'driftline_rpc_duration_seconds_bucket{{{READ},le="0.25"}}': "0+100x60",
            f'driftline_rpc_duration_seconds_bucket{{{READ},le="+Inf"}}': "0+100x60",
        },
        {
            f'driftline_rpc_duration_seconds_bucket{{{READ},le="0.1"}}': "0+100x60",
            f'driftline_rpc_duration_seconds_bucket{{{READ},le="0.25"}}': "0+100x60",
            f'driftline_rpc_duration_seconds_bucket{{{READ},le="+Inf"}}': "0+100x60",
        },
        40,
    ),
    "GatewayRefuses": (
        {f'{CALLS}{{{READ},code="RESOURCE_EXHAUSTED"}}': "0+600x60"},
        {f'{CALLS}{{{READ},code="RESOURCE_EXHAUSTED"}}': "0+6x60"},
        30,
    ),
    "FeaturesStale": (
        {'driftline_refreshed_timestamp_seconds{tenant="default"}': "0x120"},
        {'driftline_refreshed_timestamp_seconds{tenant="default"}': "0+60x120"},
        60,
    ),
    "HealthUnknown": (
        {'driftline_health_timestamp_seconds{tenant="default"}': "0x300"},
        {'driftline_health_timestamp_seconds{tenant="default"}': "0+60x300"},
        240,
    ),
    "VectorDrift": (
        {'driftline_vector_drift{tenant="default",granularity="week"}': "1x10 9x30"},
        {'driftline_vector_drift{tenant="default",granularity="week"}': "4x60"},
        30,
    ),
    "ScoreDrift": (
        {'driftline_score_drift{tenant="default",granularity="week"}': "1x10 9x30"},
        {'driftline_score_drift{tenant="default",granularity="week"}': "-9x60"},
        30,
    ),
    "UsersUncovered": (
        {'driftline_coverage_ratio{tenant="default",of="users"}': "0.9x120"},
        {
            'driftline_coverage_ratio{tenant="default",of="users"}': "0.99x120",
            'driftline_coverage_ratio{tenant="default",of="items"}': "0.5x120",
        },
        90,
    ),
    "ItemsUncovered": (
        {'driftline_coverage_ratio{tenant="default",of="items"}': "0.9x120"},
        {
            'driftline_coverage_ratio{tenant="default",of="items"}': "1x120",
            'driftline_coverage_ratio{tenant="default",of="users"}': "0.5x120",
        },
        90,
    ),
    "OnlineOfflineDiverged": (
        {'driftline_divergence_ratio{tenant="default"}': "0.2x120"},
        {'driftline_divergence_ratio{tenant="default"}': "0x120"},
        90,
    ),
}


def test_every_alert_has_a_case():
    assert CASES.keys() == ALERTS.keys()


@pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool: Debian's package prometheus has it, or set PROMTOOL"
)
def test_by_promtool_each_alert_fires_on_its_fault_and_is_silent_without(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(RULES))
    tests = []
    for alert, (faulty, sound, minutes) in CASES.items():
        for series, is_raised in ((faulty, True), (sound, False)):
            raised = [
                {
                    "exp_labels": _labels(alert, series),
                    "exp_annotations": ALERTS[alert]["annotations"],
                }
            ]
            tests.append(
                {
                    "name": f"{alert} {'raised' if is_raised else 'silent'}",
                    "interval": "1m",
                    "input_series": [
                        {"series": name, "values": values} for name, values in series.items()
                    ],
                    "alert_rule_test": [
                        {
                            "eval_time": f"{minutes}m",
                            "alertname": alert,
                            "exp_alerts": raised if is_raised else [],
                        }
                    ],
                }
            )
    # Refused where nothing of ours could count it.
    tests.append(
        {
            "name": "GatewayRefuses raised by calls that were never looked at",
            "interval": "1m",
            "input_series": [
                {"series": "driftline_rpc_arrived_total", "values": "0+6000x60"},
                {"series": "driftline_rpc_ended_total", "values": "0+3000x60"},
            ],
            "alert_rule_test": [
                {
                    "eval_time": "30m",
                    "alertname": "GatewayRefuses",
                    "exp_alerts": [
                        {
                            "exp_labels": ALERTS["GatewayRefuses"]["labels"],
                            "exp_annotations": ALERTS["GatewayRefuses"]["annotations"],
                        }
                    ],
                }
            ],
        }
    )
    # Nobody ever looked: there is no such series at all.
    tests.append(
        {
            "name": "HealthUnknown raised by absence",
            "interval": "1m",
            "input_series": [{"series": 'up{job="gateway"}', "values": "1x60"}],
            "alert_rule_test": [
                {
                    "eval_time": "40m",
                    "alertname": "HealthUnknown",
                    "exp_alerts": [
                        {
                            "exp_labels": ALERTS["HealthUnknown"]["labels"],
                            "exp_annotations": ALERTS["HealthUnknown"]["annotations"],
                        }
                    ],
                }
            ],
        }
    )
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [rules.name], "tests": tests}))
    for command in (["check", "rules", rules.name], ["test", "rules", file.name]):
        done = subprocess.run(
            [PROMTOOL, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _labels(alert: str, series: dict[str, str]) -> dict[str, str]:
    """Return the labels of the raised alert: the rule's, and those it keeps apart by."""
    rule = ALERTS[alert]
    kept = re.search(r"(?:max|min) by \(([^)]*)\)", rule["expr"])
    names = [name.strip() for name in kept[1].split(",")] if kept else []
    (first, *_) = series
    given = dict(re.findall(r'(\w+)="([^"]*)"', first))
    return {**rule["labels"], **{name: given[name] for name in names}}
