"""Writes rows to Feast's SQLite online store without Feast: the same rows, several times as fast.

As with Feast the last row that is written of a key counts, whatever its time. `FeastFeatures` holds the lock.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from services.core import schema as names
from services.core.views import FeatureType, View
from services.store.wire import entity_key
from services.store.wire_values import encode_column

# Longest wait for another process that writes.
_BUSY_S = 60.0
# Types that Feast also keeps as text, to be searched.
_SAID = {FeatureType.STRING, FeatureType.INT, FeatureType.FLOAT, FeatureType.BOOL}


def write_rows(path: Path, tenant: str, views: Sequence[tuple[View, pl.DataFrame]]) -> None:
    """Write rows of views with exactly their columns, stamped `known_time`, in one commit.

    Raises:
        sqlite3.Error: the file cannot be written, or a view has no table.
    """
    with closing(sqlite3.connect(path, timeout=_BUSY_S)) as connection, connection:
        for view, rows in views:
            connection.executemany(_upsert(tenant, view), _stored(view, rows))


def _upsert(tenant: str, view: View) -> str:
    # Names were checked: view_named knows the view, the layout the tenant.
    return (
        f'INSERT INTO "{tenant}_{view.name}" '  # nosec B608  # noqa: S608
        "(entity_key, feature_name, value, value_text, event_ts, created_ts) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT(entity_key, feature_name) DO UPDATE SET value = excluded.value, "
        "value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts"
    )


def _stored(view: View, rows: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
    (key,) = view.join_keys
    keys = [entity_key(key, id_) for id_ in rows[key].to_list()]
    known, computed = (
        (rows[column].dt.timestamp("us") // 1_000_000).to_list()
        for column in (names.KNOWN_TIME, names.COMPUTED_TIME)
    )
    for name, kind in view.features.items():
        values = encode_column(kind, rows[name])
        texts = (
            [str(value) for value in rows[name].to_list()] if kind in _SAID else [None] * len(keys)
        )
        for row, value in enumerate(values):
            yield keys[row], name, value, texts[row], known[row], computed[row]
