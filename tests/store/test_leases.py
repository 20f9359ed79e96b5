"""A long read's files outlive an erasure by its lease at most."""

from datetime import UTC, datetime, timedelta

import pytest

from services.core.schema import DEFAULT_TENANT as TENANT
from services.store import delta
from services.store.layout import Layout
from services.store.leases import leases, reading
from services.store.tables import DeltaTables
from tests.store.test_tables import stored


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, 4)


def test_an_erasure_leaves_the_files_that_a_long_read_may_still_open(layout):
    tables = DeltaTables(layout)
    tables.append_events(TENANT, stored("a"), "1")
    folder = layout.events_dir(TENANT)
    [name] = delta.files(folder)
    with reading(layout, TENANT, "backup", timedelta(hours=1)):
        tables.erase(TENANT, ["u1"])
        since = datetime.now(UTC)
        assert tables.read_events(TENANT).is_empty()
        assert (folder / name).exists()
        why, until = tables.scrub(TENANT, since)["events"]
        assert "backup" in why
        assert until > since
    assert tables.scrub(TENANT, since) == {}
    assert not (folder / name).exists()


def test_a_lease_of_a_reader_that_died_ends_and_a_later_one_does_not_matter(layout):
    now = datetime.now(UTC)
    with reading(layout, TENANT, "backup", timedelta(seconds=30)):
        assert [lease.what for lease in leases(layout, TENANT, now)] == ["backup"]
        assert leases(layout, TENANT, now + timedelta(minutes=1)) == []
    tables = DeltaTables(layout)
    tables.append_events(TENANT, stored("a"), "1")
    tables.erase(TENANT, ["u1"])
    removed = datetime.now(UTC)
    with reading(layout, TENANT, "backup", timedelta(hours=1)):
        assert tables.scrub(TENANT, removed) == {}
