"""The benchmark of reads runs and says what it promises."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_it_writes_both_servers_figures_and_their_ratio(tmp_path):
    out = tmp_path / "read.json"
    command = [sys.executable, "-m", "tests.bench.read", "--pairs=1", "--calls=64", f"--out={out}"]
    subprocess.run(command, check=True, timeout=200)
    found = json.loads(out.read_text())
    assert {"name", "ours", "peer", "ratio", "pairs", "machine", "versions"} <= found.keys()
    assert found["pairs"] == 1
    assert all(value > 0 for side in ("ours", "peer") for value in found[side].values())
    assert found["ratio"] == pytest.approx(found["ours"]["p50_ms"] / found["peer"]["p50_ms"])
