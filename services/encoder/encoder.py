"""The encoder: what its RPCs do, on core types.

Shape suffixes: N = items, D = width.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from services.core.classify import BULK_DAY_EVENTS
from services.core.errors import InvalidArgument, ItemNotFound
from services.core.pooling import F64, I64, PoolingConfig, event_weights, pool_periods
from services.core.records import F32
from services.core.schema import DEFAULT_TENANT
from services.core.spaces import require_space
from services.encoder.described import Described, DescribedItems
from services.encoder.interests import InterestsConfig, InterestsRefresh, InterestsSummary
from services.encoder.items import ItemsRefresh, ItemsSummary
from services.encoder.stores import Encoders, EncoderStores
from services.runtime.serving import check_buckets
from services.runtime.settings import Settings
from services.store.ports import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """Vectors and what made them."""

    # Unit norm.
    vec_ND: F32
    space_id: str
    model_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Events of one user in one period; the arrays are of one length."""

    item_ids: tuple[str, ...]
    kinds: tuple[str, ...]
    values: tuple[float, ...]


class Encoder:
    """Encodes texts and histories, and refreshes the stores. Blocking; safe between threads."""

    def __init__(self, stores: EncoderStores, settings: Settings) -> None:
        self._stores = stores
        self._settings = settings
        self._encoders = Encoders(stores.load_encoder)
        self._described = DescribedItems(stores.tables, stores.vectors)
        # By tenant and space: what was described, and published, when items were last refreshed.
        self._settled: dict[tuple[str, str], tuple[Described, str, ItemsSummary]] = {}
        self._applied: set[tuple[str, str]] = set()
        # A retry that comes while the call it repeats has not yet noticed its end waits for it.
        self._refreshing: dict[object, threading.Lock] = defaultdict(threading.Lock)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Return one vector a text, in the order given, by the default tenant's live model.

        Raises:
            NotReady: no model is live.
        """
        model = self._stores.models.model(DEFAULT_TENANT)
        text_NB = self._encoders.get(model.backbone).encode(list(texts))
        return Vectors(
            vec_ND=model.tower.text_parts(text_NB),
            space_id=model.space_id,
            model_version=model.model_version,
        )

    def encode_histories(self, histories: Sequence[History]) -> Vectors:
        """Return one vector a history, in the order given; items are those of the live catalogue.

        Model and catalogue are the default tenant's.

        Raises:
            NotReady: no model is live, or no catalogue is published.
            ItemNotFound: an item is not in the catalogue.
            InvalidArgument: a history's items cancel out.
        """
        model = self._stores.models.model(DEFAULT_TENANT)
        catalogue = self._stores.catalogues.current(DEFAULT_TENANT, model.space_id)
        return Vectors(
            vec_ND=pool_histories(histories, catalogue, model.pooling, model.space_id),
            space_id=model.space_id,
            model_version=model.model_version,
        )

    def refresh_items(
        self,
        tenant: str,
        *,
        is_full: bool,
        cancelled: Callable[[], bool],
        model_version: str = "",
    ) -> ItemsSummary:
        """Encode new item texts and publish the catalogue, by a model (empty: the live one).

        See ItemsRefresh.run.
        """
        model = self._stores.models.named(tenant, model_version)
        self._apply(tenant, model.space_id)
        refresh = ItemsRefresh(
            stores=self._stores,
            model=model,
            encoder=lambda: self._encoders.get(model.backbone),
            tenant=tenant,
            now=self._settings.clock(),
            bucket_count=self._settings.bucket_count,
        )
        key = tenant, model.space_id
        with self._refreshing[*key, "items"]:
            held = self._settled.get(key)
            is_settled = held is not None and held[:2] == self._items_as_they_are(tenant, refresh)
            if held is not None and is_settled and not is_full and not refresh.is_due():
                return replace(held[2], encoded_text_count=0)
            summary = refresh.run(is_full=is_full, cancelled=cancelled)
            self._settled[key] = (*self._items_as_they_are(tenant, refresh), summary)
            return summary

    def _items_as_they_are(self, tenant: str, refresh: ItemsRefresh) -> tuple[Described, str]:
        model = refresh.model
        return (
            self._described.at(tenant, model, refresh.now),
            self._stores.catalogues.current_token(tenant, model.space_id),
        )

    def refresh_interests(
        self,
        tenant: str,
        buckets: Sequence[int],
        *,
        is_full: bool,
        cancelled: Callable[[], bool],
        model_version: str = "",
    ) -> InterestsSummary:
        """Make and publish the interests of buckets, by a model (empty: the live one).

        See InterestsRefresh.run.

        Raises:
            InvalidArgument: there is no such bucket.
        """
        check_buckets(buckets, self._settings.bucket_count)
        model = self._stores.models.named(tenant, model_version)
        self._apply(tenant, model.space_id)
        now = self._settings.clock()
        described = self._described.at(tenant, model, now)
        refresh = InterestsRefresh(
            stores=self._stores,
            model=model,
            config=interests_config(self._settings),
            tenant=tenant,
            now=now,
            versions=described.versions,
            items=described.prints,
            item_rows=described.items,
        )
        with self._refreshing[tenant, model.space_id, *sorted(buckets)]:
            return refresh.run(buckets, is_full=is_full, cancelled=cancelled)

    def _apply(self, tenant: str, space_id: str) -> None:
        if (tenant, space_id) not in self._applied:
            self._stores.features.apply(tenant, space_id)
            self._applied.add((tenant, space_id))


def interests_config(settings: Settings) -> InterestsConfig:
    """Return the part of the settings that decides interests."""
    return InterestsConfig(
        bucket_count=settings.bucket_count,
        granularities=settings.granularities,
        bulk_day_events=BULK_DAY_EVENTS,
        publish_lag=timedelta(seconds=settings.publish_lag_s),
        is_replay=settings.now is not None,
        users_a_chunk=settings.refresh_chunk_users,
    )


def pool_histories(
    histories: Sequence[History], catalogue: Catalogue, pooling: PoolingConfig, space_id: str
) -> F32:
    """Return one unit vector a history [N, D]; see core.pooling.pool_periods.

    Raises:
        SpaceMismatch: the catalogue is not of the space that is asked for.
    """
    require_space(space_id, catalogue.space_id)
    row_of = {item_id: row for row, item_id in enumerate(catalogue.item_ids)}
    item_ids = [item_id for history in histories for item_id in history.item_ids]
    for item_id in item_ids:
        if item_id not in row_of:
            raise ItemNotFound(item_id)
    user_E: I64 = np.repeat(np.arange(len(histories)), [len(h.item_ids) for h in histories])
    kinds = np.array([kind for history in histories for kind in history.kinds], np.str_)
    value_E: F64 = np.array([value for history in histories for value in history.values])
    pooled = pool_periods(
        user_E,
        np.zeros_like(user_E),
        np.array([row_of[item_id] for item_id in item_ids], np.int64),
        event_weights(kinds, value_E, pooling),
        catalogue.items_ND,
        pooling,
    )
    if missing := sorted(set(range(len(histories))) - set(pooled.user_ix_P.tolist())):
        raise InvalidArgument(f"histories[{missing[0]}]", "its items cancel out; add other events")
    return pooled.vec_PD
