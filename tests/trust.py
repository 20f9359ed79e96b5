"""Counts of what was tried and what was lost: `make trust` adds up what suites record (docs/trust.md).

A test that takes the fixture `trust` is part of `make trust` by that alone. Each process appends JSON
lines to a file of its own; `python -m tests.trust` adds them up, prints one table, and writes
build/trust/report.json and report.html.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent.parent / "build" / "trust"
# What must be tried; a row that nothing was recorded for fails the report.
PROMISED = (
    "faults injected", "kills", "requests fuzzed", "tenants crossed", "users erased", "hostile clients",
)  # fmt: skip
# Row -> what was done, and what counts as a loss: for whoever signs and has not read the tests.
MEANING = {
    "faults injected": (
        "Disks full or read-only, files truncated or damaged, the clock set back, stores emptied, leftovers of "
        "killed processes planted.",
        "Data lost, doubled or served wrong; an error without a name; a store that opens no more.",
    ),
    "kills": (
        "Processes killed (kill -9) while they took events in, published, erased, promoted.",
        "An acknowledged event lost or doubled, an erased user back, a period published by half.",
    ),
    "requests fuzzed": (
        "Random and malformed requests sent to a running gateway.",
        "An internal error, a crash, memory that grows without bound.",
    ),
    "tenants crossed": (
        "Every call tried with each other tenant's credentials and ids.",
        "Anything of another tenant read, changed, or revealed by an answer.",
    ),
    "users erased": (
        "People erased after everything was derived from them.",
        "A byte of theirs left in a file or a database, or the person back after a replay.",
    ),
    "hostile clients": (
        "Connections that stop halfway or idle, messages and batches far too large, floods, streams nobody reads.",
        "Another client's call that failed, memory beyond its bound, a gateway that does not recover.",
    ),
    "answers compared after a restore": (
        "Answers of a store brought back from a backup, compared with those before.",
        "An answer that differs.",
    ),
    "batches replayed in any order": (
        "Deliveries of the same events sent again in another order.",
        "A table that differs from the one in order.",
    ),
    "past answers asked again after late data": (
        "What was known at an instant, asked for again after more data came.",
        "An answer that is not the same, byte for byte.",
    ),
    "reads of another space's vectors": (
        "Vectors of one model's space asked for, or sent, where another is served.",
        "A read or a comparison that was not refused.",
    ),
    "reads while a space is migrated": (
        "Replies read while the model behind them was switched and switched back.",
        "A reply made of two models.",
    ),
    "Redis commands beyond a role": (
        "Commands tried by the database user of each process that it has no need for.",
        "A command that the server carried out.",
    ),
}


@dataclass
class Trust:
    """What one test tried and lost; the fixture writes it down when the test has ended."""

    test: str
    counts: dict[str, list[int]] = field(default_factory=dict)

    def __call__(self, name: str, tried: int = 1, losses: int = 0) -> None:
        """Add to a row of the table: what was tried, and how much of it was lost.

        Say it before the assertion that judges it: a test that fails counts at least one loss in
        every row that it named (or in a row of its own name where it named none).
        """
        if tried < 0 or losses < 0:
            raise ValueError("counts of what was tried and lost are not negative")
        held = self.counts.setdefault(name, [0, 0])
        held[0] += tried
        held[1] += losses

    def lines(self, failure: str = "") -> list[dict[str, object]]:
        """Return what to write down; `failure` says why the test failed."""
        counts = self.counts or ({self.test: [0, 0]} if failure else {})
        return [
            {
                "name": name,
                "tried": tried,
                "losses": max(losses, 1) if failure else losses,
                "test": self.test,
                "failure": failure,
            }
            for name, (tried, losses) in counts.items()
        ]

    def write(self, folder: Path, failure: str = "") -> None:
        """Append the lines to this process's file."""
        lines = self.lines(failure)
        if lines:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / f"{os.getpid()}.jsonl").open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)


def add_up(folder: Path) -> list[dict[str, object]]:
    """Return a row per name, the promised ones first; a test that ran twice counts once."""
    last: dict[tuple[str, str], dict[str, object]] = {}
    for path in sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns):
        for line in path.read_text().splitlines():
            said = json.loads(line)
            last[said["name"], said["test"]] = said
    rows: dict[str, dict[str, object]] = {
        name: {"name": name, "tried": 0, "losses": 0} for name in PROMISED
    }
    failures: dict[str, list[str]] = defaultdict(list)
    for (name, test), said in sorted(last.items()):
        row = rows.setdefault(name, {"name": name, "tried": 0, "losses": 0})
        row["tried"] = int(str(row["tried"])) + int(str(said["tried"]))
        row["losses"] = int(str(row["losses"])) + int(str(said["losses"]))
        if said["failure"] or said["losses"]:
            failures[name].append(f"{test}: {said['failure'] or 'losses'}")
    for name, row in rows.items():
        if not row["tried"]:
            failures[name].append("nothing was tried")
        row["failure"] = "; ".join(failures[name])
        row["tests"] = sorted({test for known, test in last if known == name})
    return list(rows.values())


def page(rows: list[dict[str, object]]) -> str:
    """Return the report as a page that needs nothing else."""
    cells = "".join(map(_row, rows))
    failed = sum(bool(row["failure"]) for row in rows)
    verdict = f"{failed} of {len(rows)} rows failed" if failed else "Nothing was lost."
    return (
        "<!doctype html><meta charset=utf-8><title>Driftline: trust</title><style>"
        "body{font:16px system-ui;margin:3rem auto;max-width:60rem;color:#222}"
        "td,th{padding:.5rem 1rem;text-align:left;border-bottom:1px solid #ddd}"
        "td:nth-child(2),td:nth-child(3){text-align:right}.bad{background:#fdd}"
        "td{vertical-align:top}small{color:#555}details{font-size:12px;overflow-wrap:anywhere}</style>"
        f"<h1>What was tried, and what was lost</h1><p><b>{escape(verdict)}</b> {escape(_made())}"
        "<table><tr><th>tried<th>times<th>losses"
        f"<th>failures</tr>{cells}</table><p>Made by <code>make trust</code>; each row adds up what "
        "the suites recorded in that run. A row fails where anything was lost, where a test of it failed, and where "
        "nothing was tried."
    )


def _row(row: dict[str, object]) -> str:
    done, loss = MEANING.get(str(row["name"]), ("", ""))
    tests = row.get("tests", [])
    assert isinstance(tests, list)
    return (
        f"<tr class={'bad' if row['failure'] else 'good'}><td>{escape(str(row['name']))}"
        + (f"<br><small>{escape(done)}<br>A loss: {escape(loss)}</small>" if done else "")
        + f"<details><summary>{len(tests)} tests</summary>{'<br>'.join(map(escape, tests))}</details>"
        f"</td><td>{row['tried']:,}</td><td>{row['losses']:,}</td>"
        f"<td>{escape(str(row['failure']) or 'none')}</td></tr>"
    )


def _made() -> str:
    """Say when, and of which source."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError):
        said = subprocess.run(
            asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
        )
        source = said.stdout.strip() or "not under version control"
        return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, source {source}."
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC."


def main(folder: Path = FOLDER) -> int:
    """Print the table and write the reports; returns 1 where something was lost or never tried."""
    rows = add_up(folder / "counts")
    table = Table("what", "tried", "losses", "failure", title="trust")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("name", "tried", "losses", "failure")))
    Console().print(table)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(rows, indent=1) + "\n")
    (folder / "report.html").write_text(page(rows))
    return int(any(row["failure"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
