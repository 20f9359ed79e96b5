"""Every rendered resource is what its kind's schema allows, with no field it does not know."""

import copy

import kubernetes_validate
import pytest

from tests.k8s.custom_resources import CRDS, FILES, faults
from tests.k8s.manifests import of_kind

KUBERNETES = "1.33"
needs_crds = pytest.mark.skipif(
    not CRDS.is_dir(), reason=f"custom resource definitions are not on this machine ({CRDS.name}/)"
)


def test_built_in_kinds_pass_the_strict_schemas(resources):
    built_in = [r for r in resources if r["kind"] not in FILES]
    for resource in built_in:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    assert {"Deployment", "StatefulSet", "CronJob", "NetworkPolicy"} <= {
        r["kind"] for r in built_in
    }


def test_a_misspelt_field_of_a_built_in_kind_is_refused(resources):
    deployment = copy.deepcopy(of_kind(resources, "Deployment")[0])
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


@needs_crds
def test_custom_kinds_pass_their_definitions(resources, overlay):
    custom = [r for r in resources if r["kind"] in FILES]
    assert [f for r in custom for f in faults(r)] == []
    kinds = {r["kind"] for r in custom}
    expected = {"RayService"}
    if overlay == "prod":
        expected |= {"ServiceMonitor", "PrometheusRule"}
    assert kinds == expected


@needs_crds
def test_the_feature_store_resource_passes_its_definition(feast_operator):
    assert [r["kind"] for r in feast_operator] == ["FeatureStore"]
    assert faults(feast_operator[0]) == []


@needs_crds
def test_a_misspelt_field_of_a_ray_service_is_refused(prod):
    service = copy.deepcopy(of_kind(prod, "RayService")[0])
    head = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
    head["spec"]["containers"][0]["readynessProbe"] = {}
    assert any("readynessProbe" in fault for fault in faults(service))


def test_names_are_unique(resources):
    ids = [(r["kind"], r["metadata"].get("namespace"), r["metadata"]["name"]) for r in resources]
    assert len(ids) == len(set(ids))


def test_everything_but_the_namespace_is_in_it(resources):
    (namespace,) = of_kind(resources, "Namespace")
    for resource in resources:
        if resource["kind"] != "Namespace":
            assert resource["metadata"]["namespace"] == namespace["metadata"]["name"], resource[
                "metadata"
            ]["name"]
