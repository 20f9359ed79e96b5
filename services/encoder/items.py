"""Refreshes items, store to store: new texts -> vectors -> catalogue -> published index."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from services.core.errors import Cancelled, NotReady
from services.core.model import Model
from services.core.schema import CONTENT_HASH, ITEM_ID, MODEL_VERSION, TITLE, VEC, item_view
from services.core.topics import FEWEST_TOPICS, refresh_topics
from services.encoder.catalogue import (
    catalogue_at,
    is_changed,
    named,
    newest_versions,
    rows_of,
    stats_at,
)
from services.encoder.item_vectors import encode_missing, load_versions
from services.encoder.stores import EncoderStores
from services.store.clock import wall_clock
from services.store.frames import rows_frame
from services.store.ports import Catalogue, TextEncoder

# Popularity older than this is computed anew by the next refresh.
STATS_MAX_AGE = timedelta(minutes=5)
# Items have no bucket: their offline rows go under this one.
ITEM_BUCKET = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsSummary:
    """What a refresh of items did."""

    encoded_text_count: int
    item_count: int
    # Empty where there are no items.
    generation: str
    space_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsRefresh:
    """One refresh of one tenant's items."""

    stores: EncoderStores
    model: Model
    # Gives the model's text encoder; called only where there is something to encode.
    encoder: Callable[[], TextEncoder]
    tenant: str
    # Event-time now.
    now: datetime
    bucket_count: int

    def run(self, *, is_full: bool, cancelled: Callable[[], bool]) -> ItemsSummary:
        """Encode new texts and publish the items in force at `now`.

        A stored vector never moves, so `is_full` publishes everything again but encodes only what
        is missing. New items alone go into a small segment; a change of an old one, or popularity
        that is out of date, makes a new generation.

        Raises:
            Cancelled: `cancelled` said so between chunks. What was encoded until then is kept.
        """
        items = self.stores.tables.read_items(self.tenant)
        encoded = encode_missing(
            self.stores, self.model, self.encoder, items, tenant=self.tenant, cancelled=cancelled
        )
        vec_of = self.stores.vectors.read(self.tenant, self.model.space_id)
        versions = load_versions(items, vec_of, self.model)
        newest = newest_versions(items, self.now)
        titles = dict(newest.select(ITEM_ID, TITLE).iter_rows())
        fresh = catalogue_at(versions, titles, self.model, self.now)
        if cancelled():
            raise Cancelled("refresh of items")
        hashes = dict(newest.select(ITEM_ID, CONTENT_HASH).iter_rows())
        return ItemsSummary(
            encoded_text_count=encoded,
            item_count=len(fresh.item_ids),
            generation=self._publish(fresh, hashes, is_full=is_full),
            space_id=self.model.space_id,
        )

    def _publish(self, fresh: Catalogue, hashes: dict[str, str], *, is_full: bool) -> str:
        """Publish what differs from the current generation; returns the generation's name."""
        current = self._current()
        if current is None and not fresh.item_ids:
            return ""
        old = set(current.item_ids) if current else set()
        new = [row for row, item_id in enumerate(fresh.item_ids) if item_id not in old]
        is_all = is_full or current is None or is_changed(fresh, current)
        if is_all or self.is_due():
            return self._publish_generation(
                fresh, current, hashes, new=new, is_all=is_all, is_full=is_full
            )
        assert current is not None
        if new:
            segment = named(rows_of(fresh, new), self.stores.tables.tick())
            self._publish_features(segment, hashes, range(len(new)))
            self.stores.catalogues.publish_segment(self.tenant, segment)
        return current.generation

    def _publish_generation(
        self,
        fresh: Catalogue,
        current: Catalogue | None,
        hashes: dict[str, str],
        *,
        new: Sequence[int],
        is_all: bool,
        is_full: bool,
    ) -> str:
        tables, tenant = self.stores.tables, self.tenant
        buckets = (tables.read_events(tenant, bucket) for bucket in range(self.bucket_count))
        stats = stats_at(buckets, fresh.item_ids, self.model, self.now)
        if (
            current is not None
            and not is_all
            and not new
            and (current.topics is not None or len(fresh.item_ids) < FEWEST_TOPICS)
            and np.array_equal(stats.share_NW, current.stats.share_NW)
            and np.array_equal(stats.first_time_N, current.stats.first_time_N)
        ):
            generation = current.generation
        else:
            topics = refresh_topics(
                current.topics if current else None,
                fresh.items_ND,
                fresh.titles,
                fresh.categories,
                is_old_N=~np.isin(np.arange(len(fresh.item_ids)), new),
                is_full=is_full,
            )
            catalogue = named(replace(fresh, stats=stats, topics=topics), self.stores.tables.tick())
            self._publish_features(catalogue, hashes, range(len(fresh.item_ids)) if is_all else new)
            self.stores.catalogues.publish(tenant, catalogue)
            generation = catalogue.generation
        state = {"stats_time": wall_clock().isoformat()}
        tables.write_state(tenant, self._state_name, state)
        return generation

    def _publish_features(
        self, catalogue: Catalogue, hashes: dict[str, str], rows: Sequence[int]
    ) -> None:
        """Write item vectors to the features that other teams read."""
        if not rows:
            return
        view = item_view(catalogue.space_id)
        ids = [catalogue.item_ids[row] for row in rows]
        features = [
            {
                VEC: catalogue.items_ND[row],
                CONTENT_HASH: hashes[item_id],
                MODEL_VERSION: catalogue.model_version,
            }
            for row, item_id in zip(rows, ids, strict=True)
        ]
        frame = rows_frame(view, ids, features, computed_time=self.stores.tables.tick())
        self.stores.features.write_online(self.tenant, view, frame)
        self.stores.features.append_offline(
            self.tenant, view, ITEM_BUCKET, catalogue.generation, frame
        )

    def _current(self) -> Catalogue | None:
        try:
            return self.stores.catalogues.current(self.tenant, self.model.space_id)
        except NotReady:
            return None

    @property
    def _state_name(self) -> str:
        return f"items_{self.model.space_id}"

    def is_due(self) -> bool:
        """Tell whether popularity is out of date."""
        made = self.stores.tables.read_state(self.tenant, self._state_name).get("stats_time")
        return made is None or abs(wall_clock() - datetime.fromisoformat(made)) > STATS_MAX_AGE
