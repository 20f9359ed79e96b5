import json
import subprocess
import sys
from pathlib import Path

from tests.trust import PROMISED, Trust, add_up, main

ROOT = Path(__file__).parent.parent


def wrote(folder, test, failure="", **counts):
    made = Trust(test)
    for name, (tried, losses) in counts.items():
        made(name, tried, losses)
    made.write(folder / "counts", failure)


def rows(folder):
    return {row["name"]: row for row in add_up(folder / "counts")}


def test_counts_of_many_tests_add_up(tmp_path):
    wrote(tmp_path, "a", kills=(3, 0))
    wrote(tmp_path, "b", kills=(4, 0), other=(2, 0))
    found = rows(tmp_path)
    assert (found["kills"]["tried"], found["kills"]["losses"]) == (7, 0)
    assert found["other"]["failure"] == ""


def test_a_test_that_ran_again_counts_once(tmp_path):
    wrote(tmp_path, "a", kills=(3, 1))
    wrote(tmp_path, "a", kills=(5, 0))
    assert (rows(tmp_path)["kills"]["tried"], rows(tmp_path)["kills"]["losses"]) == (5, 0)


def test_a_failed_test_is_a_loss_in_every_row_it_named(tmp_path):
    wrote(tmp_path, "a", failure="call failed: two rows", kills=(3, 0))
    wrote(tmp_path, "silent", failure="setup failed: no disk")
    found = rows(tmp_path)
    assert (found["kills"]["losses"], found["kills"]["failure"]) == (1, "a: call failed: two rows")
    assert found["silent"]["losses"] == 1


def test_a_promise_that_nothing_tried_fails_the_report(tmp_path):
    assert main(tmp_path) == 1
    for name in PROMISED:
        assert main(tmp_path) == 1
        wrote(tmp_path, "a", **{name: (1, 0)})
    assert main(tmp_path) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(row["name"], row["losses"]) for row in report] == [(name, 0) for name in PROMISED]
    assert "<h1>" in (tmp_path / "report.html").read_text()


def test_the_fixture_writes_down_what_a_test_tried_and_that_it_failed(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "import tests.conftest as suite\n"
        f"suite.FOLDER = __import__('pathlib').Path({str(tmp_path)!r})\n"
        "from tests.conftest import trust, pytest_runtest_makereport, "
        "pytest_collection_modifyitems\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_good(trust):\n    trust('kills', tried=2)\n    trust('kills')\n"
        "def test_bad(trust):\n    trust('kills', tried=5)\n    assert False, 'lost'\n"
        "def test_other():\n    pass\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "trust", "-p", "no:cacheprovider", str(tmp_path),
         "--rootdir", str(tmp_path), "-c", str(ROOT / "pyproject.toml")],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    found = rows(tmp_path)
    assert found["kills"]["tried"] == 8, ran.stdout
    assert found["kills"]["losses"] == 1
    assert "lost" in found["kills"]["failure"]
    assert "1 failed, 1 passed, 1 deselected" in ran.stdout
