from datetime import UTC, datetime

import polars as pl
import pytest

from services.core.schema import bucket_of
from services.store import delta
from services.store.event_ids import EventIds
from services.store.layout import Layout
from services.store.tables import MERGE_FILES, DeltaTables

TENANT = "default"
T0 = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, 8)


def rows(*ids, user="u1"):
    return pl.DataFrame(
        {"event_id": list(ids), "user_id": user, "item_id": "i", "kind": "view", "value": 1.0}
    ).with_columns(pl.lit(T0).alias("event_time"), pl.lit(T0).alias("ingest_time"))


def ids_of(layout, table="events"):
    folder = layout.state_dir(TENANT) / "event_ids"
    return EventIds(layout.events_dir(TENANT), folder), folder


def known(tables, *ids):
    return sorted(tables.known_events(TENANT, pl.Series(list(ids)))["event_id"])


def test_files_that_hold_none_of_the_ids_are_not_named(layout):
    tables = DeltaTables(layout)
    for n, user in enumerate(("u1", "u2", "u3")):
        tables.append_events(TENANT, rows(f"a{n}", f"b{n}", user=user), f"batch-{n}")
    live = delta.files(layout.events_dir(TENANT))
    ids, _ = ids_of(layout)
    (found,) = ids.files_with(pl.Series(["b1", "none"]), live)
    assert live[found][1] == bucket_of("u2", 8)
    assert ids.files_with(pl.Series(["c1"]), live) == []
    assert known(tables, "a0", "b2", "none") == ["a0", "b2"]


def test_hashes_that_were_lost_are_made_again(layout):
    tables = DeltaTables(layout)
    tables.append_events(TENANT, rows("a"), "1")
    assert known(tables, "a") == ["a"]
    _, folder = ids_of(layout)
    for path in folder.iterdir():
        path.unlink()
    assert known(tables, "a", "b") == ["a"]
    assert len(list(folder.iterdir())) == 1


def test_a_merge_and_an_erasure_leave_hashes_of_live_files_alone(layout):
    tables = DeltaTables(layout)
    for n in range(MERGE_FILES - 1):
        tables.append_events(TENANT, rows(f"a{n}"), f"batch-{n}")
    known(tables, "x")
    _, folder = ids_of(layout)
    assert len(list(folder.iterdir())) == MERGE_FILES - 1
    tables.append_events(TENANT, rows("last"), "last")
    assert list(folder.iterdir()) == []
    assert known(tables, "a0", "last") == ["a0", "last"]
    tables.append_events(TENANT, rows("theirs", user="gone"), "gone")
    known(tables, "theirs")
    tables.erase(TENANT, ["gone"])
    assert len(list(folder.iterdir())) == len(delta.files(layout.events_dir(TENANT))) == 1
    assert known(tables, "theirs", "a1") == ["a1"]
