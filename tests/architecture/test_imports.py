"""Who may import whom, and what nobody may."""

import subprocess
import sys
from pathlib import Path

from tests.architecture.source import ROOT, imports, python_files

# Each runs code from the file it reads. Models and states are safetensors, JSON and Parquet.
UNSAFE = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
# Names that say nothing about what stands inside.
NAMELESS = {"utils.py", "util.py", "helpers.py", "helper.py", "manager.py", "common.py", "misc.py"}


def test_import_contracts_are_kept():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "0 broken" in done.stdout


def test_nobody_imports_what_runs_code_from_files():
    found = [
        f"{path}:{line}: {name}"
        for path in python_files("services/", "feature_repo/", "clients/", "protos/", "tests/")
        for name, line in imports(path)
        if name.split(".")[0] in UNSAFE
    ]
    assert found == []


def test_modules_are_named_for_what_they_hold():
    named = python_files("services/", "feature_repo/", "clients/", "tests/")
    assert [path for path in named if Path(path).name in NAMELESS] == []
