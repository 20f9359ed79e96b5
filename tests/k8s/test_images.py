"""The two images hold what they must and no more."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "k8s/docker").glob("*.Dockerfile"))


def instructions(path: Path) -> list[str]:
    joined = re.sub(r"\\\n", " ", path.read_text())
    return [line.strip() for line in joined.splitlines() if line and not line.startswith("#")]


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.stem)
def dockerfile(request) -> Path:
    return request.param


def test_there_are_two_images():
    assert [path.stem for path in DOCKERFILES] == ["compute", "gateway"]


def test_hadolint_finds_nothing(dockerfile):
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, dockerfile], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_build_stays_out_of_the_image(dockerfile):
    lines = instructions(dockerfile)
    stages = [line for line in lines if line.startswith("FROM ")]
    assert len(stages) == 2
    last = lines[lines.index(stages[1]) :]
    assert "COPY --from=build /opt/venv /opt/venv" in last
    assert not any("pip install" in line for line in last)


def test_the_image_runs_as_the_user_the_manifests_name(dockerfile):
    users = [line for line in instructions(dockerfile) if line.startswith("USER ")]
    assert users == ["USER 10001:10001"]


def test_the_image_says_whether_it_is_healthy(dockerfile):
    assert any(line.startswith("HEALTHCHECK ") for line in instructions(dockerfile))


def test_what_is_installed_is_what_was_tested(dockerfile):
    (install,) = [line for line in instructions(dockerfile) if "pip install" in line]
    assert "-c constraints.txt" in install
    assert "--no-cache-dir" in install


def test_the_gateways_image_has_base_dependencies_only():
    (install,) = [
        line
        for line in instructions(ROOT / "k8s/docker/gateway.Dockerfile")
        if "pip install" in line
    ]
    assert install.endswith("./clients/python .")


def test_what_the_images_copy_is_in_the_build_context(dockerfile):
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    for line in instructions(dockerfile):
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert source in kept
                assert (ROOT / source).exists()
