"""What a fresh machine installs is what was tested."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT

PIN = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+")


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    wrong = [line for line in lines if not PIN.fullmatch(line)]
    assert wrong == [], "only NAME==VERSION, with no local part, path or host"
    return {canonicalize_name(name): pin for name, pin in (line.split("==") for line in lines)}


def test_every_dependency_is_pinned_within_its_range():
    pinned = pins()
    for path in ("pyproject.toml", "clients/python/pyproject.toml"):
        project = tomllib.loads((ROOT / path).read_text())["project"]
        groups = [project["dependencies"], *project["optional-dependencies"].values()]
        for requirement in (Requirement(text) for group in groups for text in group):
            name = canonicalize_name(requirement.name)
            if name == "driftline":  # lies beside it
                continue
            assert name in pinned, f"{path}: {name} is not in constraints.txt"
            assert requirement.specifier.contains(pinned[name]), f"{name}=={pinned[name]}"


def test_what_runs_here_is_what_is_pinned():
    different = {}
    for name, pin in pins().items():
        try:
            installed = version(name).split("+")[0]
        except PackageNotFoundError:
            continue  # an extra that this environment does without
        if installed != pin:
            different[name] = (installed, pin)
    assert different == {}


def test_ci_runs_the_commands_of_the_makefile():
    script = (ROOT / ".ci/run").read_text()
    assert "for name in lint type proto-check" in script
    assert "make --no-print-directory test" in script
    assert (ROOT / ".ci/run").stat().st_mode & 0o100
