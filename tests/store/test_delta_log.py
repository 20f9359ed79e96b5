"""The log that is followed by hand says what deltalake says, and what it commits deltalake reads."""

import threading
from datetime import UTC, datetime

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from services.core.errors import DependencyUnavailable
from services.store import delta
from services.store.delta_log import DeltaLog, files_of, log_of

TYPES = {"id": pl.String(), "bucket": pl.Int32(), "ingest_time": pl.Datetime("us", "UTC")}
BUCKETS = 3


def rows(*ids):
    at = datetime(2026, 1, 5, tzinfo=UTC)
    data = {
        "id": list(ids),
        "bucket": [len(i) % BUCKETS for i in ids],
        "ingest_time": [at] * len(ids),
    }
    return pl.DataFrame(data, schema=TYPES)


@pytest.fixture
def path(tmp_path):
    delta.create(tmp_path / "table", TYPES, "bucket")
    return tmp_path / "table"


def as_deltalake_sees(path):
    table = DeltaTable(str(path))
    return table.version(), files_of(table)


def test_appends_are_what_deltalake_reads_row_counts_and_buckets_included(path):
    for n in range(5):
        delta.append(path, rows("a" * n, "b"))
    version, files = as_deltalake_sees(path)
    assert (version, files) == log_of(path).newest()
    assert sum(count for count, _ in files.values()) == 10
    assert {bucket for _, bucket in files.values()} == {0, 1, 2}
    read = pl.read_delta(str(path)).select(*TYPES)
    assert read.sort("id").equals(pl.concat(rows("a" * n, "b") for n in range(5)).sort("id"))


def test_commits_of_others_are_followed_removals_too(path):
    log = DeltaLog(path)
    delta.append(path, rows("a", "bb"))
    assert log.newest() == as_deltalake_sees(path)
    since = log.newest()[0]
    _, live = log.newest()
    gone = {name: facts for name, facts in live.items() if facts[1] == 1}
    delta.forget(path, gone)
    delta.append(path, rows("ccc"))
    assert log.newest() == as_deltalake_sees(path)
    version, told = log.changes(since)
    assert version == as_deltalake_sees(path)[0]
    assert told.gone.keys() == gone.keys()
    assert {name: log.newest()[1][name] for name in told.added} == told.added
    assert len(told.added) == 1


def test_a_file_that_came_and_went_since_is_neither_new_nor_gone(path):
    since, _ = log_of(path).newest()
    delta.append(path, rows("a"))
    delta.forget(path, dict(delta.files(path)))
    _, told = log_of(path).changes(since)
    assert (told.added, told.gone) == ({}, {})


@pytest.mark.parametrize("is_reopened", [False, True])
def test_a_batch_is_appended_once_whoever_remembers_it(path, is_reopened):
    delta.append(path, rows("a"), "batch-1")
    log = DeltaLog(path) if is_reopened else log_of(path)
    before = log.newest()
    assert log.append(delta._write_parts(path, rows("a"), []), "batch-1") == before[0]
    assert log.newest() == before
    assert DeltaTable(str(path)).transaction_version("batch-1") == 1


def test_writers_at_once_all_commit_and_no_version_twice(path):
    logs = [DeltaLog(path) for _ in range(4)]
    taken = []

    def write(log, name):
        for n in range(10):
            taken.append(log.append(delta._write_parts(path, rows(f"{name}{n}"), [])))

    threads = [threading.Thread(target=write, args=(log, str(n))) for n, log in enumerate(logs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    version, files = as_deltalake_sees(path)
    assert (version, len(files)) == (40, 40)
    assert max(taken) == 40
    assert all(log.newest() == (version, files) for log in logs)


def test_a_table_made_anew_in_its_place_is_seen_as_such(path):
    delta.append(path, rows("a"))
    delta.append(path, rows("b"))
    assert log_of(path).newest()[0] == 2
    path.rename(path.with_name("old"))
    assert delta.version(path) == -1
    with pytest.raises(TableNotFoundError):
        log_of(path).newest()
    with pytest.raises(DependencyUnavailable):
        delta.append(path, rows("c"))
    delta.create(path, TYPES, "bucket")
    for name in "cde":
        delta.append(path, rows(name))
    assert log_of(path).newest() == as_deltalake_sees(path)
    assert set(pl.read_delta(str(path))["id"]) == {"c", "d", "e"}


def test_a_log_cleaned_up_after_a_checkpoint_still_tells_files_but_not_what_came_since(path):
    for name in "abc":
        delta.append(path, rows(name))
    DeltaTable(str(path)).create_checkpoint()
    for version in range(4):
        (path / "_delta_log" / f"{version:020}.json").unlink()
    assert log_of(path).newest() == as_deltalake_sees(path)
    assert log_of(path).changes(1) == (3, None)
    delta.append(path, rows("d"))
    assert log_of(path).newest() == as_deltalake_sees(path)
    assert delta.new_files(path, 3)[0].keys() == log_of(path).changes(3)[1].added.keys()


def test_a_checkpoint_follows_a_hundred_commits(path, monkeypatch):
    monkeypatch.setattr(delta, "CHECKPOINT_EVERY", 3)
    for n in range(7):
        delta.append(path, rows(f"{n}"))
    found = sorted(each.name for each in (path / "_delta_log").glob("*.checkpoint*.parquet"))
    assert [int(name.partition(".")[0]) for name in found] == [3, 6]
    assert log_of(path).newest() == as_deltalake_sees(path)
