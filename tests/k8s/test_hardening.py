"""What runs can do no more than it must."""

import re

import pytest

from tests.k8s.manifests import containers, named, of_kind, pods

SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|_URL$|_KEY$")
USER_INFO = re.compile(r"://[^/$]*:(?!\$\()[^/@]+@")


def test_pods_run_as_nobody_special_without_a_token(resources):
    for where, pod in pods(resources):
        spec = pod["spec"]
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, where
        assert context["runAsUser"] > 0, where
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert spec["automountServiceAccountToken"] is False, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), where
        assert not [v for v in spec["volumes"] if "hostPath" in v], where


def test_containers_cannot_change_their_image_or_gain_rights(resources):
    for where, container, _ in containers(resources):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, where
        assert context["allowPrivilegeEscalation"] is False, where
        assert context["capabilities"] == {"drop": ["ALL"]}, where


def test_containers_have_requests_and_limits(resources):
    for where, container, _ in containers(resources):
        for bound in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][bound]), where


def test_temporary_volumes_are_bounded(resources):
    for where, pod in pods(resources):
        for volume in pod["spec"]["volumes"]:
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"], f"{where}: {volume['name']}"


def test_whatever_serves_is_probed(resources):
    for where, container, _ in containers(resources):
        if container.get("ports"):
            assert {"readinessProbe", "livenessProbe"} <= set(container), where


def test_the_gateway_is_probed_by_the_grpc_health_protocol(resources):
    pod = named(resources, "Deployment", "gateway")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == 50051


def test_images_are_pinned(resources):
    for where, container, _ in containers(resources):
        image, _, tag = container["image"].partition(":")
        assert image, where
        assert tag, f"{where}: {container['image']} has no tag"
        assert tag != "latest", where


def test_no_secret_stands_in_plain_sight(resources):
    for where, container, _ in containers(resources):
        for variable in container.get("env", []):
            value = variable.get("value", "")
            assert not USER_INFO.search(value), f"{where}: {variable['name']}"
            if SECRET_NAME.search(variable["name"]) and "value" in variable:
                assert "$(" in value, f"{where}: {variable['name']} has a literal value"
    for config in of_kind(resources, "ConfigMap"):
        for key, value in config.get("data", {}).items():
            assert not USER_INFO.search(value), f"{config['metadata']['name']}: {key}"
            assert not re.search(r"(password|requirepass)[= ](?!\$\{)\S", value), key


def test_production_brings_no_secrets(prod):
    assert of_kind(prod, "Secret") == []


def test_referenced_secrets_are_those_that_an_operator_makes(resources):
    used = {
        (ref["name"], ref["key"])
        for _, container, _ in containers(resources)
        for variable in container.get("env", [])
        if (ref := variable.get("valueFrom", {}).get("secretKeyRef"))
    }
    assert {
        ("redis-auth", "gateway"),
        ("redis-auth", "publisher"),
        ("redis-auth", "features"),
        ("registry", "url"),
        ("compute-auth", "token"),
    } <= used
    made = {
        (secret["metadata"]["name"], key)
        for secret in of_kind(resources, "Secret")
        for key in secret["data"]
    }
    assert not made or used <= made


def test_every_ray_pod_asks_for_a_token(resources):
    cluster = named(resources, "RayService", "compute")["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    # Replicas ask for one of ours too, and the pipeline has it.
    ray = [(w, c) for w, c, _ in containers(resources) if w.startswith(("RayService/", "CronJob/"))]
    assert len(ray) == 4
    for where, container in ray:
        variables = {v["name"]: v.get("valueFrom", {}) for v in container["env"]}
        token = variables["DRIFTLINE_COMPUTE_TOKEN"]
        assert token == {"secretKeyRef": {"name": "compute-auth", "key": "token"}}, where


def test_everything_carries_the_recommended_labels(resources, overlay):
    for resource in resources:
        labels = resource["metadata"]["labels"]
        where = f"{resource['kind']}/{resource['metadata']['name']}"
        assert labels["app.kubernetes.io/part-of"] == "driftline", where
        assert labels["app.kubernetes.io/managed-by"] == "kustomize", where
        assert labels["app.kubernetes.io/instance"] == overlay, where
        assert labels["app.kubernetes.io/name"], where


def matches(selector: dict, labels: dict) -> bool:
    wanted = selector.get("matchLabels", {})
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return wanted.items() <= labels.items()


def test_everything_is_denied_first(resources):
    deny = named(resources, "NetworkPolicy", "default-deny")["spec"]
    assert deny["podSelector"] == {}
    assert sorted(deny["policyTypes"]) == ["Egress", "Ingress"]
    assert not {"ingress", "egress"} & set(deny)


def test_network_policies_select_pods_that_exist(resources):
    labels = [pod["metadata"]["labels"] for _, pod in pods(resources)]
    for policy in of_kind(resources, "NetworkPolicy"):
        spec = policy["spec"]
        peers = [
            peer
            for rules, side in ((spec.get("ingress", []), "from"), (spec.get("egress", []), "to"))
            for rule in rules
            for peer in rule.get(side, [])
        ]
        inside = [p["podSelector"] for p in peers if set(p) == {"podSelector"}]
        for selector in [spec["podSelector"], *inside]:
            assert any(matches(selector, one) for one in labels), policy["metadata"]["name"]


def test_every_kind_of_pod_is_let_through_by_some_policy(resources):
    policies = [p["spec"] for p in of_kind(resources, "NetworkPolicy") if p["spec"]["podSelector"]]
    for where, pod in pods(resources):
        assert any(matches(p["podSelector"], pod["metadata"]["labels"]) for p in policies), where


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        ("gateway", "redis", 6379),
        ("compute", "redis", 6379),
        ("pipeline", "redis", 6379),
        ("feature-server", "redis", 6379),
        ("pipeline", "compute", 9000),
    ],
)
def test_both_ends_allow_each_connection(resources, source, target, port):
    pod = {component_of(p): p for _, p in pods(resources)}
    names = {
        p["name"]: p["containerPort"] for c in pod[target]["spec"]["containers"] for p in c["ports"]
    }
    leaves = allowed(resources, pod[source], pod[target], "egress")
    enters = allowed(resources, pod[target], pod[source], "ingress")
    assert port in {names.get(p, p) for p in leaves}
    assert port in {names.get(p, p) for p in enters}


def component_of(pod: dict) -> str:
    return pod["metadata"]["labels"]["app.kubernetes.io/component"]


def allowed(resources: list[dict], pod: dict, peer: dict, direction: str) -> set[int | str]:
    """Return the ports, by number or name, on which `pod` may meet `peer` in one direction."""
    side = {"egress": "to", "ingress": "from"}[direction]
    ports = set()
    for policy in of_kind(resources, "NetworkPolicy"):
        spec = policy["spec"]
        if not matches(spec["podSelector"], pod["metadata"]["labels"]):
            continue
        for rule in spec.get(direction, []):
            selectors = [p["podSelector"] for p in rule.get(side, []) if set(p) == {"podSelector"}]
            if any(matches(s, peer["metadata"]["labels"]) for s in selectors):
                ports |= {p["port"] for p in rule.get("ports", [])}
    return ports


def test_the_gateway_cannot_reach_ray(resources):
    pod = {component_of(p): p for _, p in pods(resources)}
    assert allowed(resources, pod["gateway"], pod["compute"], "egress") == set()
