"""The wheel installs into an empty environment with what it declares, and imports nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1]
# The last two are of the compiler that grpcio was built with.
ALLOWED = ("driftline", "google", "grpc", "typing_extensions", "cython_runtime", "_cython_")

USE_IT = """
import json, sys
before = set(sys.modules)
import driftline, driftline.testing
import datetime
fake = driftline.testing.FakeClient()
fake.put_interest("u", [1.0, 0.0], period="2026-W40")
assert driftline.cosine(*[fake.get_interest("u").vector] * 2) == 1.0
try:
    driftline.Client("127.0.0.1:1", driftline.ClientOptions(retries=driftline.Retries(attempts=1))
        ).get_interest("u")
except driftline.UnavailableError:
    pass
foreign = {name.split(".")[0] for name in set(sys.modules) - before
           if name.split(".")[0] not in sys.stdlib_module_names}
print(json.dumps([driftline.__version__, driftline.__file__, sorted(foreign)]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(
        PACKAGE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "tests")
    )
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder / "dist", source)
    (built,) = (folder / "dist").glob("driftline-*.whl")
    return built


@pytest.mark.timeout(240)
def test_the_wheel_works_in_an_empty_environment(wheel, tmp_path):
    _run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    _run(python, "-m", "pip", "install", "-q", wheel)
    version, path, foreign = json.loads(_run(python, "-I", "-c", USE_IT, cwd=tmp_path))
    assert version == "0.1.0"
    assert Path(path).is_relative_to(tmp_path)
    assert [name for name in foreign if not name.startswith(ALLOWED)] == []
    listed = json.loads(_run(python, "-m", "pip", "list", "--format", "json"))
    installed = {one["name"].lower().replace("_", "-") for one in listed}
    declared = {"driftline", "grpcio", "protobuf", "googleapis-common-protos"}
    assert declared <= installed
    assert installed - declared <= {"pip", "setuptools", "typing-extensions"}


def test_the_wheel_carries_types_and_stubs(wheel):
    import zipfile

    names = set(zipfile.ZipFile(wheel).namelist())
    assert "driftline/py.typed" in names
    assert "driftline/v1/vector_pb2.pyi" in names
    assert not [name for name in names if name.startswith(("services", "tests"))]


def test_the_source_is_of_the_oldest_python_it_names():
    import ast

    for path in (PACKAGE / "src/driftline").glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 10))


def _run(*command: object, cwd: "Path | None" = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
