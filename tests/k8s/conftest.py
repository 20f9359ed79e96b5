"""Renders what is deployed, by real kustomize, once a session."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("dev", "prod")


@functools.cache
def render(folder: str) -> list[dict]:
    """Return the resources that `kubectl kustomize k8s/FOLDER` prints."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", str(K8S / folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def resources(overlay: str) -> list[dict]:
    return render(f"overlays/{overlay}")


@pytest.fixture
def prod() -> list[dict]:
    return render("overlays/prod")


@pytest.fixture
def feast_operator() -> list[dict]:
    return render("feast-operator")
