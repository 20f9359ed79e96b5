"""Commands on a disk that takes nothing: one line that names it, and no traceback."""

import os
import resource
import subprocess
import sys


def run(folder, *words, most_bytes=resource.RLIM_INFINITY):
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *words],
        env={**os.environ, "DRIFTLINE_DATA_DIR": str(folder / "data"), "COLUMNS": "200"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes,) * 2),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_command_names_the_disk_in_one_line_and_works_later(tmp_path, trust):
    words = ("keys", "create", "--name", "app", "--scope", "read")
    done = run(tmp_path, *words, most_bytes=0)
    again = run(tmp_path, *words)
    trust("faults injected", 1, int(again.returncode != 0))
    assert done.returncode == 1
    assert done.stderr.startswith("error: the disk takes no larger file")
    assert "do the same again" in done.stderr
    assert "Traceback" not in done.stderr
    assert again.returncode == 0, again.stderr
