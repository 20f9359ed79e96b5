"""The catalogue that is published: items in force at an instant, with their popularity.

Shape suffixes: N = items, D = width, W = popularity windows.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from services.core.classify import IS_BULK_DAY, with_bulk_days
from services.core.item_versions import NO_VERSION, ItemVersions
from services.core.model import Model
from services.core.pooling import F64, I64
from services.core.ranking import ItemStats, popularity_of_parts
from services.core.schema import (
    CONTENT_HASH,
    EVENT_TIME,
    INGEST_TIME,
    ITEM_ID,
    TEXT,
    TITLE,
    UPDATED_TIME,
)
from services.core.spaces import require_space
from services.store.ports import Catalogue

# Of an item that came with a text alone, this much of the text is its title.
TITLE_LENGTH = 256

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def catalogue_at(
    versions: ItemVersions, titles: dict[str, str], model: Model, now: datetime
) -> Catalogue:
    """Return the items in force at `now`, without popularity and without a name.

    Raises:
        SpaceMismatch: the versions are of another space than the model.
    """
    require_space(model.space_id, versions.space_id)
    item_ix_N = np.arange(len(versions.item_ids))
    row_N = versions.in_force_at(item_ix_N, np.full(len(item_ix_N), (now - _EPOCH) // _US))
    kept_N = row_N != NO_VERSION
    ids = [versions.item_ids[ix] for ix in np.flatnonzero(kept_N)]
    return Catalogue(
        space_id=model.space_id,
        model_version=model.model_version,
        generation="",
        item_ids=tuple(ids),
        titles=tuple(titles[item_id] for item_id in ids),
        categories=tuple(versions.categories_V[row] for row in row_N[kept_N]),
        items_ND=np.ascontiguousarray(versions.vec_VD[row_N[kept_N]]),
        stats=no_stats(len(ids), model),
    )


def newest_versions(items: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return item_id, content_hash and title of each item's version in force at `now`."""
    newest = (
        items.filter(pl.col(UPDATED_TIME) <= now)
        .sort(ITEM_ID, UPDATED_TIME, INGEST_TIME, CONTENT_HASH)
        .unique(ITEM_ID, keep="last", maintain_order=True)
    )
    text = pl.col(TEXT).str.slice(0, TITLE_LENGTH)
    title = pl.when(pl.col(TITLE) != "").then(pl.col(TITLE)).otherwise(text)
    return newest.select(ITEM_ID, CONTENT_HASH, title.alias(TITLE))


def is_changed(fresh: Catalogue, current: Catalogue) -> bool:
    """Tell whether an item of the current generation is gone or differs.

    New items do not count.
    """
    if fresh.model_version != current.model_version:
        return True
    row_of = {item_id: row for row, item_id in enumerate(current.item_ids)}
    mine = [row for row, item_id in enumerate(fresh.item_ids) if item_id in row_of]
    if len(mine) != len(current.item_ids):
        return True
    theirs = [row_of[fresh.item_ids[row]] for row in mine]
    return not np.array_equal(fresh.items_ND[mine], current.items_ND[theirs]) or any(
        (fresh.titles[a], fresh.categories[a]) != (current.titles[b], current.categories[b])
        for a, b in zip(mine, theirs, strict=True)
    )


def rows_of(catalogue: Catalogue, rows: Sequence[int]) -> Catalogue:
    """Return some items of a catalogue, with their popularity."""
    kept = list(rows)
    return replace(
        catalogue,
        item_ids=tuple(catalogue.item_ids[row] for row in kept),
        titles=tuple(catalogue.titles[row] for row in kept),
        categories=tuple(catalogue.categories[row] for row in kept),
        items_ND=catalogue.items_ND[kept],
        stats=catalogue.stats.take(kept),
    )


def named(catalogue: Catalogue, made: datetime) -> Catalogue:
    """Return the catalogue named by the time it was made and its content."""
    digest = hashlib.sha256(catalogue.model_version.encode())
    digest.update(repr((catalogue.item_ids, catalogue.titles, catalogue.categories)).encode())
    digest.update(np.ascontiguousarray(catalogue.items_ND).tobytes())
    for array in (catalogue.stats.share_NW, catalogue.stats.first_time_N):
        digest.update(np.ascontiguousarray(array).tobytes())
    name = f"g{made:%Y%m%dt%H%M%S%f}_{digest.hexdigest()[:8]}"
    return replace(catalogue, generation=name)


def stats_at(
    events_by_bucket: Iterable[pl.DataFrame], item_ids: Sequence[str], model: Model, now: datetime
) -> ItemStats:
    """Return popularity at `now` over every event outside bulk days, bucket after bucket."""
    items = pl.DataFrame({ITEM_ID: list(item_ids)}, schema={ITEM_ID: pl.String})
    items = items.with_row_index("item_ix").cast({"item_ix": pl.Int64})
    us = pl.col(EVENT_TIME).dt.timestamp("us").alias("us")

    def parts() -> Iterator[tuple[I64, F64]]:
        for events in events_by_bucket:
            seen = events.filter(pl.col(EVENT_TIME) <= now)
            used = with_bulk_days(seen).filter(~pl.col(IS_BULK_DAY))
            rows = used.select(ITEM_ID, us).join(items, on=ITEM_ID)
            yield rows["item_ix"].to_numpy(), rows["us"].to_numpy() / 1e6

    return popularity_of_parts(
        parts(), now.timestamp(), len(item_ids), model.ranker.popularity_half_lives_days
    )


def no_stats(count: int, model: Model) -> ItemStats:
    """Return the popularity of items that nobody had yet."""
    windows = len(model.ranker.popularity_half_lives_days)
    return ItemStats(
        share_NW=np.zeros((count, windows), np.float32), first_time_N=np.full(count, np.inf)
    )
