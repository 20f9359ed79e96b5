"""Whether the online store says what the offline history says, view by view, user by user.

Rank states and activities have no offline rows: the encoder makes them anew from the events.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from services.core.errors import NotReady
from services.core.schema import COMPUTED_TIME, ITEM_ID, KNOWN_TIME, PERIOD, POPULATION, USER_ID
from services.core.views import FeatureType, View, view_named, views_of
from services.store.interest_reads import InterestReads, StoredRow
from services.store.ports import FeatureWriter

# Rows asked for at once.
_CHUNK = 500


def offline_frames(
    features: FeatureWriter, tenant: str, space_id: str, bucket: int
) -> Iterator[tuple[View, pl.DataFrame]]:
    """Yield what the online store should hold of a bucket's users, and in its bucket of everyone, by view.

    Views without rows are left out.
    """
    for view in views_of(space_id).values():
        if not view.is_online or view.join_keys not in ((USER_ID,), (POPULATION,)):
            continue
        try:
            rows = features.read_offline(tenant, view.offline_folder, bucket)
        except NotReady:
            continue
        if PERIOD in view_named(view.offline_folder).join_keys:
            # Names of periods of one length sort as they begin.
            rows = (
                rows.sort(USER_ID, PERIOD)
                .unique(USER_ID, keep="last", maintain_order=True)
                .drop(PERIOD)
            )
        if not rows.is_empty():
            yield view, rows


def item_frame(features: FeatureWriter, tenant: str, view: str, bucket: int) -> pl.DataFrame | None:
    """Return what the online store should hold of items; None where nothing was published."""
    try:
        rows = features.read_offline(tenant, view, bucket)
    except NotReady:
        return None
    return None if rows.is_empty() else rows.sort(ITEM_ID)


async def differing_users(
    reader: InterestReads, tenant: str, view: View, rows: pl.DataFrame
) -> list[str]:
    """Return the users whose online row is not the offline one, or is not there; ascending.

    Of a view of everyone, `EVERYONE` is such a user.
    """
    found: list[str] = []
    for chunk in rows.iter_slices(_CHUNK):
        users = chunk[view.join_keys[0]].to_list()
        try:
            held = await reader.fetch(tenant, view.name, users)
        except NotReady:
            held = [None] * len(users)
        found += [
            user
            for user, row, said in zip(users, held, chunk.iter_rows(named=True), strict=True)
            if row is None or not is_same(view, row, said)
        ]
    return sorted(found)


def is_same(view: View, row: StoredRow, said: Mapping[str, Any]) -> bool:
    """Tell whether an online row has the features of an offline one; when they were made is not compared."""
    return all(_equal(kind, row.features[name], said[name]) for name, kind in view.features.items())


def _equal(kind: FeatureType, held: Any, said: Any) -> bool:
    if held is None or said is None:
        return held is said
    if kind is FeatureType.VECTOR:
        return np.array_equal(np.asarray(held, np.float32), np.asarray(said, np.float32))
    if kind in (FeatureType.STRINGS, FeatureType.INTS, FeatureType.FLOATS):
        return list(held) == list(said)
    if kind is FeatureType.TIME:  # stored to the second
        return int(held.timestamp()) == int(said.timestamp())
    return bool(held == said)


def to_write(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Return offline rows as the online writer takes them."""
    assert COMPUTED_TIME in rows.columns, view.name
    return rows.drop(KNOWN_TIME)
