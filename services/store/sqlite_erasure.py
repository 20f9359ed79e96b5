"""Erasure in the SQLite online store: rows of a user in every table of every space, then their bytes."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

_BUSY_S = 60.0


def erase_keys(path: Path, keys: Sequence[bytes]) -> list[int]:
    """Delete entities from every table that has any; returns rows by key. Raises sqlite3.Error."""
    counts = [0] * len(keys)
    if not path.exists():
        return counts
    with closing(sqlite3.connect(path, timeout=_BUSY_S)) as connection, connection:
        # Deleted content is overwritten, not only let go of.
        connection.execute("PRAGMA secure_delete = ON")
        for table in _tables(connection):
            query = f'DELETE FROM "{table}" WHERE entity_key = ?'  # nosec B608  # noqa: S608 - names are Feast's
            for row, key in enumerate(keys):
                counts[row] += connection.execute(query, (key,)).rowcount
    return counts


def scrub(path: Path) -> str:
    """Drop the bytes of deleted rows from the file and its log; returns why they stay, or "".

    Rows that were written over before they were deleted left old bytes in free space, hence VACUUM.
    """
    if not path.exists():
        return ""
    with closing(sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)) as connection:
        try:
            connection.execute("VACUUM")
            is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) and "busy" not in str(error):
                raise
            is_busy = 1
    return "a long read holds the log of the online store" if is_busy else ""


def _tables(connection: sqlite3.Connection) -> list[str]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return [
        name
        for (name,) in names
        if any(
            column[1] == "entity_key"
            for column in connection.execute(f'PRAGMA table_info("{name}")')
        )
    ]
