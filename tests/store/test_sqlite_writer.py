"""What the raw writer stores in SQLite is, cell for cell, what Feast's own writer stores."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from feast import FeatureStore

from services.core.schema import DEFAULT_TENANT as TENANT
from services.core.schema import Granularity, interest_view
from services.core.views import view_named, views_of
from services.store.feast_config import FeastConfig
from services.store.features import FeastFeatures
from services.store.frames import conform, rows_frame
from services.store.layout import Layout
from services.store.sqlite_writer import write_rows
from tests.feast_rows import as_pandas
from tests.store.test_readers import USERS, some_features

SPACE = "tiny_00000001"
NOW = datetime(2026, 11, 24, 12, 0, 0, 923456, tzinfo=UTC)
VIEWS = [view for view in views_of(SPACE).values() if view.is_online]
INTEREST = view_named(interest_view(Granularity.WEEK, SPACE))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Feast's own store, and the file of its online store."""
    layout, config = Layout(tmp_path_factory.mktemp("data"), 4), FeastConfig()
    FeastFeatures(layout, config).apply(TENANT, SPACE)
    folder = layout.feast_dir(TENANT)
    return FeatureStore(config=config.repo_config(TENANT, folder)), folder / "online.db"


def rows_of(view, ids, at=NOW, seed=7):
    rng = np.random.default_rng(seed)
    frame = rows_frame(view.name, ids, [some_features(view, rng) for _ in ids], computed_time=at)
    return conform(view, frame)


def taken(path, view):
    """Return the rows of a view, and leave none."""
    table = f'"{TENANT}_{view.name}"'
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute(f"SELECT * FROM {table}").fetchall()
        connection.execute(f"DELETE FROM {table}")
    return sorted(rows, key=lambda row: row[:2])


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name.partition("__")[0])
def test_every_view_is_stored_as_feast_stores_it(world, view):
    store, path = world
    rows = rows_of(view, USERS)
    store.write_to_online_store(view.name, df=as_pandas(rows))
    feasts = taken(path, view)
    write_rows(path, TENANT, [(view, rows)])
    assert len(feasts) == len(USERS) * len(view.features)
    assert taken(path, view) == feasts


@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_the_last_row_that_is_written_counts_as_with_feast(world, seconds):
    store, path = world
    first = rows_of(INTEREST, ["a", "b"])
    second = rows_of(INTEREST, ["b", "c"], NOW + timedelta(seconds=seconds), seed=8)
    for rows in (first, second):
        write_rows(path, TENANT, [(INTEREST, rows)])
    ours = taken(path, INTEREST)
    for rows in (first, second):
        store.write_to_online_store(INTEREST.name, df=as_pandas(rows))
    assert len({row[0] for row in ours}) == 3
    assert ours == taken(path, INTEREST)


def test_views_are_written_in_one_commit_or_not_at_all(world):
    _, path = world
    gone = replace(INTEREST, name="interest_week__gone_00000001")
    rows = rows_of(INTEREST, ["a"])
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        write_rows(path, TENANT, [(INTEREST, rows), (gone, rows)])
    assert taken(path, INTEREST) == []


def test_a_view_without_a_table_is_refused(world):
    _, path = world
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        write_rows(path, "other", [(INTEREST, rows_of(INTEREST, ["a"]))])
