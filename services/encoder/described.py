"""Item versions with vectors, as arrays, kept from one refresh to the next: seldom does one change."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from services.core.item_versions import ItemVersions
from services.core.model import Model
from services.core.records import F32
from services.core.schema import UPDATED_TIME
from services.encoder.item_vectors import load_versions
from services.encoder.positions import Items, fingerprints
from services.store.ports import EventTables
from services.store.text_vectors import TextVectors


# Equal to itself alone: tables have no truth of their own.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Described:
    """What is described as of an instant; the same object for as long as nothing is added."""

    # What it was made of: the very objects, which the stores keep until something is added.
    items: pl.DataFrame
    vec_of: Mapping[str, F32]
    # Adds vectors of known items, so a model of the same space may differ.
    model_version: str
    versions: ItemVersions
    # Versions that were in force or past at the instant of the prints.
    count: int
    prints: Items


class DescribedItems:
    """Gives each tenant's item versions, and fingerprints of them. Safe between threads."""

    def __init__(self, tables: EventTables, vectors: TextVectors) -> None:
        self._tables, self._vectors = tables, vectors
        self._held: dict[tuple[str, str], Described] = {}

    def at(self, tenant: str, model: Model, now: datetime) -> Described:
        """Return every version with a vector, and fingerprints of those up to `now`."""
        items = self._tables.read_items(tenant)
        vec_of = self._vectors.read(tenant, model.space_id)
        count = items.select((pl.col(UPDATED_TIME) <= now).sum()).item()
        held = self._held.get((tenant, model.space_id))
        is_same = (
            held is not None
            and held.items is items
            and held.vec_of is vec_of
            and held.model_version == model.model_version
        )
        if held is not None and is_same and held.count == count:
            return held
        versions = (
            held.versions if held is not None and is_same else load_versions(items, vec_of, model)
        )
        prints = fingerprints(items, now, vec_of.keys())
        self._held[tenant, model.space_id] = found = Described(
            items=items,
            vec_of=vec_of,
            model_version=model.model_version,
            versions=versions,
            count=count,
            prints=prints,
        )
        return found
