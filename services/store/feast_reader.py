"""Reads any online store through Feast's own `online_read`: for stores without a raw reader."""

import asyncio
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any

from services.core.errors import DependencyUnavailable, NotReady
from services.core.views import view_named
from services.store.feast_config import FeastConfig
from services.store.interest_reads import InterestReads, StoredRow
from services.store.layout import Layout
from services.store.wire import decode_value

if TYPE_CHECKING:
    from feast import FeatureStore


class FeastInterestReader(InterestReads):
    """Imports Feast at the first read (seconds, 180 MB). Reads in a thread, one at a time."""

    def __init__(self, layout: Layout, config: FeastConfig) -> None:
        self._layout = layout
        self._config = config
        # A FeatureStore is not safe between threads.
        self._lock = threading.Lock()
        self._stores: dict[str, FeatureStore] = {}
        # Views do not change once applied: their names hold the space.
        self._views: dict[tuple[str, str], Any] = {}

    async def fetch(self, tenant: str, view: str, user_ids: list[str]) -> list[StoredRow | None]:
        """Return each user's row in the order asked."""
        return await asyncio.to_thread(self.read, tenant, view, user_ids)

    def read(self, tenant: str, view: str, ids: list[str]) -> list[StoredRow | None]:
        """Return each row of a view in the order asked.

        Raises:
            NotReady: the view was never applied. DependencyUnavailable: the store does not answer.
        """
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        spec = view_named(view)
        keys = [
            EntityKey(join_keys=[spec.join_keys[0]], entity_values=[Value(string_val=id_)])
            for id_ in ids
        ]
        with self._lock:
            declared = self._view(tenant, view)
            store = self._stores[tenant]
            try:
                # A fresh list: the Redis store appends to the one it is given.
                rows = store._get_provider().online_store.online_read(
                    store.config, declared, keys, list(spec.features)
                )
            except Exception as error:
                raise DependencyUnavailable("the online store", f"failed ({error})") from error
        return [_row(time, features, tuple(spec.features)) for time, features in rows]

    def _view(self, tenant: str, view: str) -> Any:
        from feast import FeatureStore
        from feast.errors import FeatureViewNotFoundException

        if (tenant, view) in self._views:
            return self._views[tenant, view]
        folder = self._layout.feast_dir(tenant)
        if self._config.has_files and not folder.is_dir():
            raise NotReady("feature store", "run `driftline refresh`")
        try:
            if tenant not in self._stores:
                self._stores[tenant] = FeatureStore(config=self._config.repo_config(tenant, folder))
            found = self._stores[tenant].get_feature_view(view)
        except FeatureViewNotFoundException:
            raise NotReady(f"view {view}", "run `driftline refresh`") from None
        except Exception as error:
            raise DependencyUnavailable("the Feast registry", f"failed ({error})") from error
        self._views[tenant, view] = found
        return found


def _row(
    time: datetime | None, features: dict[str, Any] | None, feature_names: tuple[str, ...]
) -> StoredRow | None:
    if features is None or time is None:
        return None
    values = {name: decode_value(features[name].SerializeToString()) for name in feature_names}
    # Redis has a row for every user asked, of nulls where there is none.
    return StoredRow(values, time) if any(v is not None for v in values.values()) else None
