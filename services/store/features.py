"""Publishes features: Feast's online store, and the Parquet parts that are its offline history."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from filelock import FileLock
from filelock import Timeout as LockTimeout

from services.core import schema as names
from services.core.errors import CoreError, DependencyUnavailable, InvalidArgument, NotReady
from services.core.views import View, view_named, views_of
from services.store import (
    filled,
    offline_parts,
    redis_erasure,
    redis_writer,
    sqlite_erasure,
    sqlite_writer,
)
from services.store.erasing import Left, Removed
from services.store.feast_config import FeastConfig
from services.store.frames import conform
from services.store.layout import Layout, read_json, write_json
from services.store.redis_client import open_client
from services.store.redis_erasure import delete_hashes
from services.store.redis_faults import unavailable
from services.store.turns import PUBLISH_LOCK
from services.store.wire import entity_key, redis_key, redis_time_field

if TYPE_CHECKING:
    from feast import FeatureStore

# Longest wait for another process that publishes, and for a locked file.
_BUSY_S = 60.0
# Which space the feature services answer from; spares a process that only asks the import of Feast.
_SERVED = "served_space.json"


class FeastFeatures:
    """See the port FeatureWriter. Safe between threads, and between processes on SQLite.

    A FeatureStore shared between threads loses acknowledged writes on SQLite (one thread's rollback takes
    another's rows), and two processes meet "database is locked": every call of Feast holds one lock per process
    and, on SQLite, one lock file per tenant. Rows go without Feast, as the bytes it would have stored; to Redis
    without the locks too, buckets beside each other.
    """

    def __init__(self, layout: Layout, config: FeastConfig) -> None:
        """Open nothing yet."""
        self._layout = layout
        self._config = config
        self._stores: dict[str, FeatureStore] = {}
        self._lock = threading.RLock()
        # Tenants and views that the registry has.
        self._found: set[tuple[str, str]] = set()

    def apply(self, tenant: str, space_id: str) -> None:
        """Declare every view of a space in the registry; the first space is served at once."""
        from feature_repo.definitions import definitions

        offline_parts.declare(self._layout, tenant, space_id)
        folder = self._layout.feast_dir(tenant)
        with self._alone(tenant), _named("the Feast registry"):
            self._store(tenant).apply(definitions(space_id, self._offline_root(tenant)))
            if self._config.is_sqlite:
                with closing(sqlite3.connect(self._online_file(tenant))) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
        if not (self._config.is_sqlite or filled.was_filled(self._layout, tenant)):
            # Nobody has a row yet. A store that an older version filled is taken as it is.
            self.mark_filled(tenant)
        self._config.write_yaml(tenant, folder)
        if not read_json(folder / _SERVED):
            self.point_services(tenant, space_id)

    def point_services(self, tenant: str, space_id: str) -> None:
        """Make the feature services of other teams answer from a space that was applied."""
        served = self._layout.feast_dir(tenant) / _SERVED
        if read_json(served).get("space_id") == space_id:
            return
        from feature_repo.definitions import services

        with self._alone(tenant), _named("the Feast registry"):
            self._store(tenant).apply(services(space_id, self._offline_root(tenant)))
            write_json(served, {"space_id": space_id})

    def mark_filled(self, tenant: str) -> None:
        """Say that the online store has every row of a tenant."""
        if not self._config.is_sqlite:
            filled.mark_filled(self._config.redis_url, self._layout, tenant)

    def write_online(self, tenant: str, view: str, rows: pl.DataFrame) -> None:
        """Write rows, stamped with their computed time.

        Raises:
            InvalidArgument: rows lack columns; or, on SQLite, the process does not run in UTC.
        """
        self.write_online_views(tenant, {view: rows})

    def write_online_views(self, tenant: str, rows_of: Mapping[str, pl.DataFrame]) -> None:
        """Write rows of several views, on SQLite all or none of them. Raises as `write_online`."""
        if self._config.is_sqlite and time.localtime().tm_gmtoff:
            raise InvalidArgument("TZ", "Feast's SQLite store keeps local times; run with TZ=UTC")
        stamped = []
        for view, rows in rows_of.items():
            if not rows.is_empty():
                known = pl.col(names.COMPUTED_TIME).alias(names.KNOWN_TIME)
                spec = view_named(view)
                stamped.append((spec, conform(spec, rows.with_columns(known))))
                self._check_applied(tenant, view)
        if not self._config.is_sqlite:
            with _named("the online store"):
                for spec, rows in stamped:
                    redis_writer.write_rows(self._config.redis_url, tenant, spec, rows)
        elif stamped:
            with self._alone(tenant), _named("the online store"):
                sqlite_writer.write_rows(self._online_file(tenant), tenant, stamped)

    def append_offline(
        self, tenant: str, view: str, bucket: int, part: str, rows: pl.DataFrame
    ) -> None:
        """Add one immutable Parquet part, or replace the one of that name."""
        offline_parts.append(self._layout, tenant, view_named(view), bucket, part, rows)

    def read_offline(
        self,
        tenant: str,
        view: str,
        bucket: int,
        users: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        parts: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Return the newest row of each user (and period, where the view has one) of a bucket."""
        return offline_parts.read_newest(
            self._layout, tenant, view_named(view), bucket, users, columns, parts
        )

    def offline_parts(self, tenant: str, view: str, bucket: int) -> list[str]:
        """Return the names of a bucket's parts, ascending."""
        return offline_parts.part_names(self._layout, tenant, view_named(view), bucket)

    def erase(self, tenant: str, space_id: str, user_ids: list[str]) -> None:
        """Remove users from every view of a space, online and offline."""
        if not user_ids:
            return
        keys = [entity_key(names.USER_ID, user_id) for user_id in user_ids]
        with self._alone(tenant), _named("the online store"):
            if self._config.is_sqlite:
                self._erase_sqlite(tenant, space_id, keys)
            else:
                self._erase_redis(tenant, keys)
        # Last: offline rows are what a retry compares with.
        offline_parts.erase(self._layout, tenant, space_id, user_ids)

    def forget_online(self, tenant: str, view: str, ids: Sequence[str]) -> None:
        """Remove rows of one view from the online store alone."""
        (key,) = view_named(view).join_keys
        keys = [entity_key(key, id_) for id_ in ids]
        if not keys:
            return
        with self._alone(tenant), _named("the online store"):
            if self._config.is_sqlite:
                self._forget_sqlite(tenant, view, keys)
            else:
                self._forget_redis(tenant, view, keys)

    def _forget_sqlite(self, tenant: str, view: str, keys: list[bytes]) -> None:
        path = self._layout.feast_dir(tenant) / "online.db"
        table = f"{tenant}_{view}"
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as connection, connection:
            found = "SELECT 1 FROM sqlite_master WHERE name = ?"
            if connection.execute(found, (table,)).fetchone():
                connection.executemany(
                    f'DELETE FROM "{table}" WHERE entity_key = ?',  # noqa: S608 # nosec B608 - names are ours
                    [(key,) for key in keys],
                )

    def _forget_redis(self, tenant: str, view: str, keys: list[bytes]) -> None:
        # Without its time a row is not there, and any other is newer.
        field = redis_time_field(view)
        with open_client(self._config.redis_url) as client:
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.hdel(redis_key(tenant, key), field)
            pipe.execute()

    def _erase_sqlite(self, tenant: str, space_id: str, keys: list[bytes]) -> None:
        path = self._online_file(tenant)
        if not path.exists():
            return
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as connection, connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            for view in _online_user_views(space_id):
                table = f"{tenant}_{view.name}"
                if table in tables:
                    connection.executemany(
                        f'DELETE FROM "{table}" WHERE entity_key = ?',  # nosec B608  # noqa: S608 # nosec B608 - names are ours
                        [(key,) for key in keys],
                    )
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as connection:
            # Deleted rows' bytes stay in free pages and in the log until these two.
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _erase_redis(self, tenant: str, keys: list[bytes]) -> list[int]:
        # One hash holds every user-keyed view of the tenant, of any space.
        return delete_hashes(self._config.redis_url, [redis_key(tenant, key) for key in keys])

    def erase_everywhere(
        self, tenant: str, bucket: int, user_ids: Sequence[str]
    ) -> dict[str, Removed]:
        """Remove users of a bucket from every view of every space; returns rows by place."""
        offline = offline_parts.erase_everywhere(self._layout, tenant, bucket, user_ids)
        keys = [entity_key(names.USER_ID, user_id) for user_id in user_ids]
        with self._alone(tenant), _named("the online store"):
            counts = (
                sqlite_erasure.erase_keys(self._online_file(tenant), keys)
                if self._config.is_sqlite
                else self._erase_redis(tenant, keys)
            )
        online = {user: rows for user, rows in zip(user_ids, counts, strict=True) if rows}
        return {"online features": online, "offline features": offline}

    def scrub(self, tenant: str, since: datetime) -> Left:
        """Drop the bytes of rows that were removed up to an instant; tell what stays for now."""
        with self._alone(tenant), _named("the online store"):
            why = (
                sqlite_erasure.scrub(self._online_file(tenant))
                if self._config.is_sqlite
                else redis_erasure.scrub(self._config.redis_url, since)
            )
        return {"online features": (why, None)} if why else {}

    def _online_file(self, tenant: str) -> Path:
        return self._layout.feast_dir(tenant) / "online.db"

    def _store(self, tenant: str) -> "FeatureStore":
        if tenant not in self._stores:
            from feast import FeatureStore

            folder = self._layout.feast_dir(tenant)
            folder.mkdir(parents=True, exist_ok=True)
            self._stores[tenant] = FeatureStore(config=self._config.repo_config(tenant, folder))
        return self._stores[tenant]

    def _check_applied(self, tenant: str, view: str) -> None:
        """Ask the registry once; a view that was applied stays so."""
        if (tenant, view) not in self._found:
            with self._alone(tenant), _named("the Feast registry"):
                self._ask_registry(tenant, view)
            self._found.add((tenant, view))

    def _ask_registry(self, tenant: str, view: str) -> None:
        """Look a view up, again in a refreshed cache: another process may have applied it."""
        from feast.errors import FeatureViewNotFoundException

        store = self._store(tenant)
        try:
            store.get_feature_view(view, allow_registry_cache=True)
        except FeatureViewNotFoundException:
            store.refresh_registry()
            try:
                store.get_feature_view(view, allow_registry_cache=True)
            except FeatureViewNotFoundException:
                raise NotReady(f"view {view}", "run `driftline refresh`") from None

    def _offline_root(self, tenant: str) -> str:
        return str((self._layout.feast_dir(tenant) / "offline").absolute())

    @contextmanager
    def _alone(self, tenant: str) -> Iterator[None]:
        """Hold the thread lock and, where the tenant's folder holds a store, the process lock."""
        with self._lock:
            if not self._config.has_files:
                yield
                return
            folder = self._layout.feast_dir(tenant)
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / PUBLISH_LOCK, timeout=_BUSY_S)
            try:
                lock.acquire()
            except LockTimeout:
                raise DependencyUnavailable(
                    "the feature store", f"is held by another process ({folder / PUBLISH_LOCK})"
                ) from None
            try:
                yield
            finally:
                lock.release()


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn a store's own failures into DependencyUnavailable with its name."""
    try:
        yield
    except CoreError:
        raise
    except Exception as error:
        raise unavailable(what, error) from error


def _online_user_views(space_id: str) -> list[View]:
    return [
        v for v in views_of(space_id).values() if v.join_keys == (names.USER_ID,) and v.is_online
    ]
