"""A Delta table's log, held in memory and followed commit by commit; appends are written by hand.

deltalake reads the whole log to open a table and once more to commit: 10 ms each after 30 commits. What is
needed here of most commits is one small JSON file: the next one. Checkpoints, removals, clean-up and the
first look at a table are deltalake's; a test holds both to the same answers.
"""

import json
import os
import threading
import time
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from services.core.schema import BUCKET
from services.store.files import sync

# path relative to the table -> (rows, bucket or None)
Files = dict[str, tuple[int, int | None]]

# A log that was looked at longer ago is read anew: a commit older than a day may be gone, and a gap must not
# be taken for the log's end.
_FRESH_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What commits did: files that came and are live, and files that were live before and went."""

    added: Files
    # Their row counts are not told: 0.
    gone: Files


@dataclass(slots=True, kw_only=True)
class _Held:
    version: int
    files: Files
    # Inode and time of the newest commit's file: a table made anew in its place has others.
    token: tuple[int, int]
    table: DeltaTable
    # Batches of the commits since `table` was opened.
    batches: set[str] = field(default_factory=set)
    seen: float = 0.0


class DeltaLog:
    """The log of one table. Safe between threads; other processes may commit too."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self._path, self._folder = path, path / "_delta_log"
        self._lock = threading.Lock()
        self._held: _Held | None = None

    def newest(self) -> tuple[int, Files]:
        """Return the newest version and its live files, not to be changed.

        Raises:
            TableNotFoundError: there is no table, or none yet.
        """
        with self._lock:
            held = self._follow()
            return held.version, held.files

    def changes(self, since: int) -> tuple[int, Changes | None]:
        """Return the newest version, and what came after one; None where the log no longer tells.

        Raises:
            TableNotFoundError: there is no table.
        """
        with self._lock:
            held = self._follow()
        came: Files = {}
        went: Files = {}
        for version in range(since + 1, held.version + 1):
            commit = self._read(version)
            if commit is None:
                return held.version, None
            _replay(commit, came, went)
        live = {name: facts for name, facts in came.items() if name in held.files}
        gone = {name: facts for name, facts in went.items() if name not in came}
        return held.version, Changes(added=live, gone=gone)

    def append(self, adds: list[AddAction], batch_id: str | None = None) -> int:
        """Commit files that lie in the table's folder; they are durable when this returns.

        A batch that was committed before adds nothing. Appends never conflict: where another process was
        first, the next version is taken. Returns the newest version.

        Raises:
            TableNotFoundError: there is no table. OSError: nothing was committed.
        """
        draft = self._folder / f".{uuid.uuid4().hex}.draft"
        with self._lock:
            held = self._follow()
            if not adds or _has(held, batch_id):
                return held.version
            with draft.open("wb") as file:
                file.write(_commit_of(adds, batch_id))
                file.flush()
                os.fsync(file.fileno())
            try:
                while not self._link(draft, held.version + 1):
                    held = self._follow()
                    if _has(held, batch_id):
                        return held.version
            finally:
                draft.unlink()
            sync(self._folder)
            return self._follow().version

    def _link(self, draft: Path, version: int) -> bool:
        """Make the draft a commit, whole or not at all; False where the version is taken."""
        try:
            os.link(draft, self._file(version))
        except FileExistsError:
            return False
        return True

    def _follow(self) -> _Held:
        held = self._held
        if held is None or not self._is_as_it_was(held):
            held = self._open()
        version, files, batches = held.version, held.files, held.batches
        while (commit := self._read(version + 1)) is not None:
            # Callers may hold the files of before.
            files = dict(files) if files is held.files else files
            _replay(commit, files)
            batches |= {action["txn"]["appId"] for action in commit if "txn" in action}
            version += 1
        if version != held.version:
            held = _Held(
                version=version,
                files=files,
                token=self._token(version),
                table=held.table,
                batches=batches,
            )
        held.seen = time.monotonic()
        self._held = held
        return held

    def _open(self) -> _Held:
        table = DeltaTable(str(self._path))
        version = table.version()
        return _Held(
            version=version, files=files_of(table), token=self._token(version), table=table
        )

    def _is_as_it_was(self, held: _Held) -> bool:
        return time.monotonic() - held.seen < _FRESH_S and self._token(held.version) == held.token

    def _token(self, version: int) -> tuple[int, int]:
        try:
            told = self._file(version).stat()
        except FileNotFoundError:
            # Cleaned up after a checkpoint: opened again at each look, until the next commit.
            return 0, time.monotonic_ns()
        return told.st_ino, told.st_mtime_ns

    def _read(self, version: int) -> list[dict[str, Any]] | None:
        try:
            return [
                json.loads(line) for line in self._file(version).read_bytes().splitlines() if line
            ]
        except FileNotFoundError:
            return None

    def _file(self, version: int) -> Path:
        return self._folder / f"{version:020}.json"


@lru_cache(maxsize=4096)
def log_of(path: Path) -> DeltaLog:
    """Return this process's view of a table's log."""
    return DeltaLog(path)


def files_of(table: DeltaTable) -> Files:
    """Return the live files of a table that deltalake opened."""
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    if actions.is_empty():
        return {}
    partition = f"partition.{BUCKET}"
    buckets = actions[partition].cast(pl.Int64).to_list() if partition in actions.columns else None
    counts = actions["num_records"].to_list()
    paths = [unquote(path) for path in actions["path"].to_list()]
    return {
        path: (int(count or 0), buckets[row] if buckets else None)
        for row, (path, count) in enumerate(zip(paths, counts, strict=True))
    }


def _replay(commit: list[dict[str, Any]], files: Files, gone: Files | None = None) -> None:
    for action in commit:
        if "add" in action:
            add = action["add"]
            rows = json.loads(add.get("stats") or "{}").get("numRecords", 0)
            files[unquote(add["path"])] = rows, _bucket_of(add)
        elif "remove" in action:
            name = unquote(action["remove"]["path"])
            was_here = files.pop(name, None)
            if gone is not None and was_here is None:
                gone[name] = 0, _bucket_of(action["remove"])


def _bucket_of(action: dict[str, Any]) -> int | None:
    bucket = (action.get("partitionValues") or {}).get(BUCKET)
    return None if bucket is None else int(bucket)


def _has(held: _Held, batch_id: str | None) -> bool:
    if batch_id is None:
        return False
    return batch_id in held.batches or held.table.transaction_version(batch_id) is not None


def _commit_of(adds: list[AddAction], batch_id: str | None) -> bytes:
    now_ms = int(time.time() * 1000)
    actions: list[dict[str, Any]] = [
        {
            "add": {
                "path": add.path,
                "partitionValues": add.partition_values,
                "size": add.size,
                "modificationTime": add.modification_time,
                "dataChange": True,
                "stats": add.stats,
            }
        }
        for add in adds
    ]
    if batch_id is not None:
        actions.append({"txn": {"appId": batch_id, "version": 1, "lastUpdated": now_ms}})
    info = {
        "timestamp": now_ms,
        "operation": "WRITE",
        "operationParameters": {"mode": "Append"},
        "isBlindAppend": True,
    }
    actions.append({"commitInfo": info})
    return "\n".join(json.dumps(action) for action in actions).encode() + b"\n"
