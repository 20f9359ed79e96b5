"""Vectors of item texts: encode what has none, and lay all of them out as versions.

Stored are the text parts (core/tower.py), one a content hash; what is known of an item is added as
vectors are loaded.

Shape suffixes: N = texts, V = versions, D = width.
"""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from services.core.errors import Cancelled
from services.core.item_versions import ItemVersions
from services.core.items import encoder_text
from services.core.model import Model
from services.core.records import F32
from services.core.schema import (
    CATEGORIES,
    CONTENT_HASH,
    INGEST_TIME,
    ITEM_ID,
    TEXT,
    TITLE,
    UPDATED_TIME,
)
from services.encoder.stores import EncoderStores
from services.store.ports import TextEncoder

# Texts encoded and stored at once; what a cancelled call has stored, its retry does not do again.
TEXTS_A_CHUNK = 1024


def encode_missing(
    stores: EncoderStores,
    model: Model,
    encoder: Callable[[], TextEncoder],
    items: pl.DataFrame,
    *,
    tenant: str,
    cancelled: Callable[[], bool],
) -> int:
    """Encode each text that the space has no vector of, chunk by chunk; returns how many."""
    stored = stores.vectors.read(tenant, model.space_id).keys()
    distinct = items.unique(CONTENT_HASH, keep="first", maintain_order=True)
    missing = distinct.filter(~pl.col(CONTENT_HASH).is_in(list(stored))).sort(CONTENT_HASH)
    for chunk in missing.iter_slices(TEXTS_A_CHUNK):
        if cancelled():
            raise Cancelled("refresh of items")
        texts = [encoder_text(title, text) for title, text in chunk.select(TITLE, TEXT).iter_rows()]
        part_ND = model.tower.text_parts(encoder().encode(texts))
        stores.vectors.add(tenant, model.space_id, chunk[CONTENT_HASH].to_list(), part_ND)
    return len(missing)


def load_versions(items: pl.DataFrame, part_of: Mapping[str, F32], model: Model) -> ItemVersions:
    """Return item versions as arrays. Versions whose text has no vector yet are left out.

    Args:
        items: every version (ITEM_COLUMNS).
        part_of: text parts of vectors by content hash.
        model: whose tower the parts were made by.
    """
    tower = model.tower
    known = items.filter(pl.col(CONTENT_HASH).is_in(list(part_of))).sort(
        ITEM_ID, UPDATED_TIME, INGEST_TIME, CONTENT_HASH
    )
    item_ids = known[ITEM_ID].unique().sort()
    parts = [part_of[content_hash] for content_hash in known[CONTENT_HASH]]
    part_VD = np.stack(parts) if parts else np.zeros((0, tower.width), np.float32)
    return ItemVersions(
        item_ids=tuple(item_ids.to_list()),
        item_ix_V=(known[ITEM_ID].rle_id().cast(pl.Int64).to_numpy()),
        updated_us_V=known[UPDATED_TIME].dt.timestamp("us").to_numpy(),
        vec_VD=tower.with_ids(part_VD, known[ITEM_ID].to_list()),
        categories_V=tuple(tuple(row or ()) for row in known[CATEGORIES].to_list()),
        space_id=model.space_id,
    )
