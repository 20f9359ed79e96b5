"""Validates custom resources against their definitions: unknown fields are refused too."""

import functools
from pathlib import Path

import jsonschema
import yaml

ROOT = Path(__file__).resolve().parents[2]
CRDS = ROOT.parent / "shared" / "crds"
FILES = {
    "RayService": "rayservices.yaml",
    "ServiceMonitor": "servicemonitors.yaml",
    "PrometheusRule": "prometheusrules.yaml",
    "FeatureStore": "featurestores.yaml",
}


def faults(resource: dict) -> list[str]:
    """Return what a strict server would refuse, as PATH: MESSAGE."""
    validator = _validator(resource["kind"], resource["apiVersion"])
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"
        for error in validator.iter_errors(resource)
    ]


@functools.cache
def _validator(kind: str, api_version: str) -> jsonschema.Draft7Validator:
    with (CRDS / FILES[kind]).open() as stream:
        definition = next(
            document
            for document in yaml.load_all(stream, Loader=yaml.CSafeLoader)
            if document and document["spec"]["names"]["kind"] == kind
        )
    group, version = api_version.split("/")
    assert definition["spec"]["group"] == group
    served = {v["name"]: v for v in definition["spec"]["versions"] if v["served"]}
    schema = served[version]["schema"]["openAPIV3Schema"]
    schema = _strict(schema)
    # The definition leaves an object's own metadata to the server.
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft7Validator(schema)


def _strict(schema: dict) -> dict:
    """Return the schema closed to unknown fields, in JSON schema's words."""
    made = dict(schema)
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if made.pop("nullable", False) and "type" in made:
        made["type"] = [made["type"], "null"]
    if "properties" in made:
        made["properties"] = {name: _strict(part) for name, part in made["properties"].items()}
        is_open = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
        if not is_open:
            made["additionalProperties"] = False
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = _strict(made["additionalProperties"])
    if "items" in made:
        made["items"] = _strict(made["items"])
    return made
