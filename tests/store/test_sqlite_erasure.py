"""Rows go from every table; while a long read holds the log, the receipt waits."""

import sqlite3
from contextlib import closing

from services.store import sqlite_erasure


def test_bytes_are_pending_while_a_read_holds_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_erasure, "_BUSY_S", 0.1)
    path = tmp_path / "online.db"
    with closing(sqlite3.connect(path)) as writer, closing(sqlite3.connect(path)) as reader:
        writer.execute("PRAGMA journal_mode=WAL")
        for table in ("a_space", "b_space"):
            writer.execute(f"CREATE TABLE {table} (entity_key BLOB, value BLOB)")
            writer.executemany(
                f"INSERT INTO {table} VALUES (?, ?)", [(b"k1", b"secret-one"), (b"k2", b"kept")]
            )
        writer.commit()
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM a_space").fetchone()
        assert sqlite_erasure.erase_keys(path, [b"k1", b"nobody"]) == [2, 0]
        assert "long read" in sqlite_erasure.scrub(path)
        reader.rollback()
        assert sqlite_erasure.scrub(path) == ""
        content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert b"secret-one" not in content
        assert b"kept" in content
    assert sqlite_erasure.scrub(tmp_path / "none.db") == ""
