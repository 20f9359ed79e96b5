"""Releases of demand: one contract in memory and on files."""

import threading
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from services.core.demand import Cells, Partition, ReleaseTerms
from services.core.demand_release import make_release
from services.core.errors import DependencyUnavailable
from services.core.schema import DEFAULT_TENANT as TENANT
from services.core.schema import Granularity
from services.store.demand_files import FolderDemand, MemoryDemand
from services.store.layout import Layout

NOW = datetime(2026, 11, 24, 12, 0, 0, 250_000, tzinfo=UTC)
TERMS = ReleaseTerms(partition=Partition.ACTIVITY, granularity=Granularity.WEEK, epsilon=0.5)
NAME = TERMS.name


def release(secret=b"s" * 32, former=None, shift=0, space_id="toy"):
    rng = np.random.default_rng(0)
    cells = Cells(
        cohorts=("occasional", "regular", "frequent"), topic_ids=("t1", "ä"), first=2900 + shift,
        audience_CTP=rng.integers(20, 90, (3, 2, 12)), volume_CTP=rng.integers(90, 300, (3, 2, 12)),
        size_CP=np.array([[300] * 12, [200] * 12, [4] * 12]),
    )  # fmt: skip
    return make_release(cells, former, TERMS, secret=secret, space_id=space_id, now=NOW)


def same(a, b):
    assert (a.space_id, a.published_time, a.topic_ids) == (
        b.space_id,
        b.published_time,
        b.topic_ids,
    )
    assert a.terms == b.terms and a.cohorts == b.cohorts
    assert (a.published.edition, a.published.first) == (b.published.edition, b.published.first)
    for name in ("audience_CTP", "volume_CTP", "size_CP"):
        assert np.array_equal(getattr(a.published, name), getattr(b.published, name))
    assert list(a.forecasts) == list(b.forecasts) == ["all", "occasional", "regular"]
    for cohort, one in a.forecasts.items():
        for figure in ("audience", "volume", "share"):
            mine, theirs = getattr(one, figure), getattr(b.forecasts[cohort], figure)
            assert np.array_equal(mine.mean_NH, theirs.mean_NH)
            assert np.array_equal(mine.bound_NHQ, theirs.bound_NHQ)
            assert mine.methods == theirs.methods


@pytest.fixture(params=["memory", "folder"])
def pair(request, tmp_path):
    """Two processes' views of one store; in memory they are one."""
    if request.param == "memory":
        held = MemoryDemand()
        return held, held
    return [FolderDemand(Layout(tmp_path, 4)) for _ in range(2)]


def test_a_release_is_in_the_next_read_of_every_process(pair):
    writer, reader = pair
    assert reader.read(TENANT, "toy", NAME) is None
    made = release()
    same(writer.update(TENANT, "toy", NAME, lambda secret, former: made), made)
    same(reader.read(TENANT, "toy", NAME), made)
    later = release(former=made, shift=1)
    reader.update(TENANT, "toy", NAME, lambda secret, former: later)
    same(writer.read(TENANT, "toy", NAME), later)


def test_an_update_is_given_what_stands_and_none_leaves_it(pair):
    writer, reader = pair
    made = release()
    given = []

    def leave(secret, former):
        given.append(former)

    assert writer.update(TENANT, "toy", NAME, leave) is None
    writer.update(TENANT, "toy", NAME, lambda secret, former: made)
    same(reader.update(TENANT, "toy", NAME, leave), made)
    assert given[0] is None
    same(given[1], made)


def test_the_secret_is_one_a_tenant_and_stays(pair):
    writer, reader = pair
    seen = []

    def note(secret, former):
        seen.append(secret)

    for store, tenant in ((writer, TENANT), (reader, TENANT), (writer, "other")):
        store.update(tenant, "toy", NAME, note)
    assert seen[0] == seen[1] != seen[2]
    assert len(seen[0]) == 32


def test_tenants_spaces_and_terms_are_apart(pair):
    writer, reader = pair
    writer.update(TENANT, "toy", NAME, lambda secret, former: release())
    other = replace(TERMS, partition=Partition.TOPIC).name
    for tenant, space, name in (("b", "toy", NAME), (TENANT, "new", NAME), (TENANT, "toy", other)):
        assert reader.read(tenant, space, name) is None


def test_updates_of_several_threads_follow_each_other(pair):
    """Each adds a period to what stands: with none lost, all are there."""
    writer, reader = pair
    writer.update(TENANT, "toy", NAME, lambda secret, former: release())

    def step(store):
        def make(secret, former):
            return release(former=former, shift=former.published.first - 2900 + 1)

        store.update(TENANT, "toy", NAME, make)

    threads = [threading.Thread(target=step, args=(pair[n % 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reader.read(TENANT, "toy", NAME).published.first == 2904


def test_the_secret_is_for_its_owner_alone(tmp_path):
    layout = Layout(tmp_path, 4)
    FolderDemand(layout).update(TENANT, "toy", NAME, lambda secret, former: None)
    secret = layout.demand_dir(TENANT) / "secret"
    assert secret.stat().st_mode & 0o077 == 0
    assert [path.name for path in layout.demand_dir(TENANT).glob(".secret*")] == []


def test_a_damaged_release_is_unavailable(tmp_path):
    layout = Layout(tmp_path, 4)
    store = FolderDemand(layout)
    store.update(TENANT, "toy", NAME, lambda secret, former: release())
    layout.demand_file(TENANT, "toy", NAME).write_bytes(b"not a release")
    for reader in (store, FolderDemand(layout)):
        with pytest.raises(DependencyUnavailable, match="store of demand"):
            reader.read(TENANT, "toy", NAME)
