"""Ways into a list of rendered resources."""

from collections.abc import Iterator


def of_kind(resources: list[dict], kind: str) -> list[dict]:
    return [resource for resource in resources if resource["kind"] == kind]


def named(resources: list[dict], kind: str, name: str) -> dict:
    found = [r for r in of_kind(resources, kind) if r["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind}/{name}"
    return found[0]


def pods(resources: list[dict]) -> Iterator[tuple[str, dict]]:
    """Yield (where, pod template) of everything that runs."""
    for resource in resources:
        name = f"{resource['kind']}/{resource['metadata']['name']}"
        spec = resource.get("spec", {})
        if resource["kind"] in {"Deployment", "StatefulSet"}:
            yield name, spec["template"]
        elif resource["kind"] == "CronJob":
            yield name, spec["jobTemplate"]["spec"]["template"]
        elif resource["kind"] == "RayService":
            cluster = spec["rayClusterConfig"]
            yield f"{name}/head", cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                yield f"{name}/{group['groupName']}", group["template"]
        else:
            assert "template" not in spec, f"{name} runs pods that no test here sees"


def containers(resources: list[dict]) -> Iterator[tuple[str, dict, dict]]:
    """Yield (where, container, pod spec)."""
    for where, pod in pods(resources):
        for key in ("initContainers", "containers"):
            for container in pod["spec"].get(key, []):
                yield f"{where}/{container['name']}", container, pod["spec"]
