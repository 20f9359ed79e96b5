"""`driftline erase`, `receipts` and `export`: what a privacy officer types."""

import json
import re
import zipfile

import pytest
from typer.testing import CliRunner

from services.cli import app
from services.core.errors import ErasureNotFound, InvalidArgument


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(tmp_path / "data"))
    rows = [
        {"event_id": f"{user}-{n}", "user_id": user, "item_id": "tea", "kind": "view",
         "event_time": "2026-03-01T00:00:00Z"}
        for user in ("ann", "bob", "cy") for n in range(3)
    ]  # fmt: skip
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run("import", str(tmp_path / "events.jsonl"))
    return tmp_path


def run(*words):
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_many_are_erased_at_once_each_with_a_receipt_that_holds(store, trust):
    (store / "ids.txt").write_text("bob\n")
    said = run("erase", "ann", "--file", str(store / "ids.txt"))
    ids = re.findall(r"erasure (\w+): DONE", said)
    trust("users erased", 2, 2 - len(ids))
    assert len(ids) == 2
    assert said.count("inbox: 3 removed") == 2
    assert "ann" not in run("receipts", "show")
    assert run("receipts", "verify").count("holds") == 2
    file = store / "receipt.json"
    run("receipts", "write", ids[0], str(file))
    assert ids[0] in run("receipts", "verify", str(file))
    file.write_text(file.read_text().replace("DONE", "GONE"))
    with pytest.raises(InvalidArgument, match="altered"):
        run("receipts", "verify", str(file))
    with pytest.raises(ErasureNotFound):
        run("receipts", "show", "nothing")
    with pytest.raises(InvalidArgument, match="at least one"):
        run("erase")


def test_a_request_for_later_waits_and_export_writes_what_is_held(store):
    assert "driftline refresh" in run("erase", "cy", "--later")
    assert "waiting_erasures" in run("status")
    out = store / "ann.zip"
    run("export", "ann", "--out", str(out))
    with zipfile.ZipFile(out) as archive:
        assert len(archive.read("inbox.jsonl").splitlines()) == 3
        assert b"All that is held" in archive.read("README.txt")
