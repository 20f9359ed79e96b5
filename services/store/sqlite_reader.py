"""Reads Feast's SQLite online store without Feast: one prepared query a call."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from services.core.errors import DependencyUnavailable, NotReady
from services.core.schema import ITEM_ID, POPULATION, USER_ID
from services.core.views import view_named
from services.store.interest_reads import InterestReads, StoredRow
from services.store.layout import Layout
from services.store.wire import decode_value, entity_key

# Keys in one query; SQLite takes at least 999 parameters.
_CHUNK = 500


class SqliteInterestReader(InterestReads):
    """Reads on the caller's thread: a look-up takes microseconds, a hop to another thread more.

    The process that writes must run with TZ=UTC (Feast stores local times); `FeastFeatures` sees to it.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._connections: dict[str, sqlite3.Connection] = {}

    async def fetch(self, tenant: str, view: str, user_ids: list[str]) -> list[StoredRow | None]:
        """Return each user's row in the order asked."""
        return self.read(tenant, view, user_ids)

    def read(self, tenant: str, view: str, ids: list[str]) -> list[StoredRow | None]:
        """Return each row of a view (of items, for the item view) in the order asked.

        Raises:
            NotReady: the view was never applied. DependencyUnavailable: the file cannot be read.
        """
        join_key = view_named(view).join_keys[0]
        assert join_key in (USER_ID, ITEM_ID, POPULATION)
        keys = [entity_key(join_key, id_) for id_ in ids]
        found: dict[bytes, StoredRow] = {}
        for start in range(0, len(keys), _CHUNK):
            self._read_chunk(tenant, view, keys[start : start + _CHUNK], found)
        return [found.get(key) for key in keys]

    def close(self) -> None:
        """Close every connection."""
        while self._connections:
            self._connections.popitem()[1].close()

    def _read_chunk(
        self, tenant: str, view: str, keys: list[bytes], found: dict[bytes, StoredRow]
    ) -> None:
        # Names were checked: view_named knows the view, the layout the tenant.
        query = (
            f'SELECT entity_key, feature_name, value, event_ts FROM "{tenant}_{view}" '  # nosec B608  # noqa: S608
            f"WHERE entity_key IN ({','.join('?' * len(keys))})"
        )
        try:
            rows = self._connection(tenant).execute(query, keys).fetchall()
        except sqlite3.Error as error:
            if "no such table" in str(error):
                raise NotReady(f"view {view}", "run `driftline refresh`") from None
            raise DependencyUnavailable("the SQLite online store", f"failed ({error})") from error
        features: dict[bytes, dict[str, object]] = {}
        for key, name, value, event_time in rows:
            if key not in features:
                features[key] = {}
                time = datetime.fromtimestamp(event_time, UTC)
                found[key] = StoredRow(features[key], time)
            features[key][name] = decode_value(value)

    def _connection(self, tenant: str) -> sqlite3.Connection:
        connection = self._connections.get(tenant)
        if connection is None:
            path: Path = self._layout.feast_dir(tenant) / "online.db"
            if not path.exists():
                raise NotReady("online store", "run `driftline refresh`")
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                check_same_thread=False,
                isolation_level=None,
            )
            self._connections[tenant] = connection
        return connection
