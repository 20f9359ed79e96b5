"""Receipts are signed by the store's own key, which only its owner can read."""

import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.core.errors import InvalidArgument
from services.core.receipts import ErasedPlace, Receipt
from services.core.schema import DEFAULT_TENANT as TENANT
from services.store.checkup import Checkup
from services.store.layout import Layout
from services.store.receipts import Receipts, verify

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def receipt(erasure_id="e-1", pending=""):
    place = ErasedPlace(name="events", removed=3, pending=pending)
    return Receipt(
        erasure_id=erasure_id, subject="00", requested_time=NOW, removed_time=NOW, places=(place,)
    )


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, 4)


def test_receipts_are_found_by_request_and_by_state(layout):
    receipts = Receipts(layout)
    assert receipts.get(TENANT, ["e-1"]) == {}
    assert receipts.list(TENANT) == []
    receipts.put(TENANT, [receipt("e-1"), receipt("e-2", pending="why")])
    assert receipts.get(TENANT, ["e-1", "nothing"])["e-1"].receipt == receipt("e-1")
    assert [s.receipt.erasure_id for s in receipts.list(TENANT, is_pending=True)] == ["e-2"]
    receipts.put(TENANT, [receipt("e-2")])
    assert receipts.list(TENANT, is_pending=True) == []


def test_an_altered_receipt_and_another_stores_do_not_hold(layout, tmp_path):
    receipts = Receipts(layout)
    receipts.put(TENANT, [receipt()])
    [signed] = receipts.list(TENANT)
    assert verify(layout, signed) == receipt()
    altered = replace(signed, content=signed.content.replace('"removed":3', '"removed":4'))
    other = Layout(tmp_path / "other", 4)
    Receipts(other).put(TENANT, [receipt()])
    for store, said in ((layout, altered), (other, signed)):
        with pytest.raises(InvalidArgument, match="altered, or another store"):
            verify(store, said)
    with pytest.raises(InvalidArgument, match="signed none"):
        verify(Layout(tmp_path / "fresh", 4), signed)


def test_only_the_owner_can_read_the_key(layout):
    Receipts(layout).put(TENANT, [receipt()])
    assert (layout.keys_dir() / "receipts.pem").stat().st_mode & 0o777 == 0o600
    [signed] = Receipts(layout).list(TENANT)
    Receipts(layout).put(TENANT, [receipt("e-2")])
    assert {s.key_id for s in Receipts(layout).list(TENANT)} == {signed.key_id}


KILLED = """
import os, signal, sqlite3, sys
file = sqlite3.connect(sys.argv[1])
file.execute("PRAGMA cache_size = 1")  # so that pages reach the file before the commit
file.execute("BEGIN IMMEDIATE")
for number in range(2000):
    row = (f"e-{number}", "DONE", "x" * 500, b"", "k")
    file.execute("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?, ?)", row)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_rolled_back_by_whoever_reads_next(layout, tmp_path, trust):
    receipts = Receipts(layout)
    receipts.put(TENANT, [receipt("e-1")])
    path = layout.receipts_file(TENANT)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.with_name(f"{path.name}-journal").stat().st_size > 0
    held = receipts.get(TENANT, ["e-1", "e-2"])
    trust("kills", 1, int(list(held) != ["e-1"]))
    assert held["e-1"].receipt == receipt("e-1")
    assert list(held) == ["e-1"]
    assert Checkup(layout=layout, tenant=TENANT, is_idle=True).findings() == []
