"""What users said of their portraits: in memory, in SQLite on one host, in Redis for many.

Rows are keyed by tenant and user. A write is durable as far as the store is when it returns, and
the next read of any process sees it.
"""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
import redis.exceptions

from services.core.corrections import Correction, Wish
from services.store.erasing import Left, Removed
from services.store.layout import Layout
from services.store.ports import Overlays
from services.store.redis_erasure import delete_hashes, scrub
from services.store.redis_faults import unavailable
from services.store.redis_link import RedisLink, RedisLinkError, packed

_TABLE = (
    "CREATE TABLE IF NOT EXISTS corrections (user_id TEXT, topic_id TEXT, wish TEXT, made_time TEXT, "
    "PRIMARY KEY (user_id, topic_id)) WITHOUT ROWID"
)
_BUSY_S = 5.0
_FILE, _REDIS = "the store of corrections", "the Redis store of corrections"
# Writes a tenant's corrections to a file.
Save = Callable[[str, Path], None]


def open_overlays(layout: Layout, online_store: str, redis_url: str) -> Overlays:
    """Return the overlays that stand beside an online store: "redis", or any other for SQLite."""
    return RedisOverlays(redis_url) if online_store == "redis" else SqliteOverlays(layout)


class MemoryOverlays:
    """Keeps corrections while it lives: the tests' default."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], dict[str, Correction]] = {}

    async def put(self, tenant: str, user_id: str, correction: Correction) -> None:
        """Keep a correction in place of the one before of its topic."""
        self._held.setdefault((tenant, user_id), {})[correction.topic_id] = correction

    async def remove(self, tenant: str, user_id: str, topic_id: str) -> None:
        """Forget what was said of a topic."""
        self._held.get((tenant, user_id), {}).pop(topic_id, None)

    async def read(self, tenant: str, user_id: str) -> tuple[Correction, ...]:
        """Return a user's corrections by topic."""
        return _by_topic(self._held.get((tenant, user_id), {}).values())

    def erase(self, tenant: str, user_ids: Sequence[str]) -> Removed:
        """Forget users."""
        return _counted(user_ids, [len(self._held.pop((tenant, u), {})) for u in user_ids])

    def scrub(self, tenant: str, since: datetime) -> Left:
        """Nothing stays behind in memory."""
        return {}


class SqliteOverlays:
    """A file a tenant, for the processes of one host."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._connections: dict[str, sqlite3.Connection] = {}
        # One connection for all threads; SQLite's own lock is between processes.
        self._lock = threading.Lock()

    async def put(self, tenant: str, user_id: str, correction: Correction) -> None:
        """Keep a correction in place of the one before of its topic."""
        row = (user_id, correction.topic_id, str(correction.wish), correction.made_time.isoformat())
        query = "INSERT OR REPLACE INTO corrections VALUES (?, ?, ?, ?)"
        await asyncio.to_thread(self._run, tenant, query, [row])

    async def remove(self, tenant: str, user_id: str, topic_id: str) -> None:
        """Forget what was said of a topic."""
        query = "DELETE FROM corrections WHERE user_id = ? AND topic_id = ?"
        await asyncio.to_thread(self._run, tenant, query, [(user_id, topic_id)])

    async def read(self, tenant: str, user_id: str) -> tuple[Correction, ...]:
        """Return a user's corrections by topic. On the caller's thread: it takes microseconds."""
        if not self._layout.overlays_file(tenant).exists():
            return ()
        query = "SELECT topic_id, wish, made_time FROM corrections WHERE user_id = ?"
        try:
            with self._lock:
                rows = self._connection(tenant).execute(query, (user_id,)).fetchall()
        except sqlite3.Error as error:
            raise unavailable(_FILE, error) from error
        return _by_topic(_correction(*row) for row in rows)

    def erase(self, tenant: str, user_ids: Sequence[str]) -> Removed:
        """Forget users, their bytes included (the connection's secure_delete overwrites them)."""
        if not user_ids or not self._layout.overlays_file(tenant).exists():
            return {}
        query = "DELETE FROM corrections WHERE user_id = ?"
        with self._named(), self._lock:
            connection = self._connection(tenant)
            connection.execute("BEGIN IMMEDIATE")
            try:
                counts = [connection.execute(query, (user,)).rowcount for user in user_ids]
            finally:
                connection.execute("COMMIT")
        self.scrub(tenant, datetime.now(UTC))
        return _counted(user_ids, counts)

    def scrub(self, tenant: str, since: datetime) -> Left:
        """Empty the log of writes; tell where a reader holds it."""
        if not self._layout.overlays_file(tenant).exists():
            return {}
        with self._named(), self._lock:
            connection = self._connection(tenant)
            # secure_delete leaves copies that a page had when it was split.
            connection.execute("VACUUM")
            is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        why = "a long read holds the log of the store of corrections"
        return {"corrections": (why, None)} if is_busy else {}

    def close(self) -> None:
        """Close every connection."""
        while self._connections:
            self._connections.popitem()[1].close()

    def _run(self, tenant: str, query: str, rows: Sequence[tuple[str, ...]]) -> None:
        with self._named(), self._lock:
            for row in rows:
                self._connection(tenant).execute(query, row).fetchall()

    @staticmethod
    @contextmanager
    def _named() -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise unavailable(_FILE, error) from error

    def _connection(self, tenant: str) -> sqlite3.Connection:
        if tenant not in self._connections:
            file = self._layout.overlays_file(tenant)
            file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                connection.execute(f"PRAGMA {setting}")
            connection.execute(_TABLE)
            self._connections[tenant] = connection
        return self._connections[tenant]


class RedisOverlays:
    """A hash a user, for any number of hosts. As durable as the server is set to be."""

    def __init__(self, redis_url: str, *, timeout_s: float = 2.0) -> None:
        self._url = redis_url
        self._link = RedisLink(redis_url, timeout_s=timeout_s)

    async def put(self, tenant: str, user_id: str, correction: Correction) -> None:
        """Keep a correction in place of the one before of its topic."""
        said = json.dumps([str(correction.wish), correction.made_time.isoformat()])
        await self._ask("HSET", _key(tenant, user_id), correction.topic_id, said)

    async def remove(self, tenant: str, user_id: str, topic_id: str) -> None:
        """Forget what was said of a topic."""
        await self._ask("HDEL", _key(tenant, user_id), topic_id)

    async def read(self, tenant: str, user_id: str) -> tuple[Correction, ...]:
        """Return a user's corrections by topic."""
        held = await self._ask("HGETALL", _key(tenant, user_id))
        pairs = zip(held[::2], held[1::2], strict=True)
        return _by_topic(
            _correction(topic_id.decode(), *json.loads(said)) for topic_id, said in pairs
        )

    def erase(self, tenant: str, user_ids: Sequence[str]) -> Removed:
        """Forget users."""
        try:
            counts = delete_hashes(self._url, [_key(tenant, user_id) for user_id in user_ids])
        except (redis.exceptions.RedisError, OSError) as error:
            raise unavailable(_REDIS, error) from error
        return _counted(user_ids, counts)

    def scrub(self, tenant: str, since: datetime) -> Left:
        """Have the server write its dump anew; tell where it does not."""
        why = scrub(self._url, since)
        return {"corrections": (why, None)} if why else {}

    async def close(self) -> None:
        """Close every connection."""
        await self._link.close()

    async def _ask(self, *words: str | bytes) -> Any:
        try:
            (answer,) = await self._link.call(packed(*words), 1)
        except RedisLinkError as error:
            raise unavailable(_REDIS, error) from error
        return answer


def save_redis(redis_url: str, tenant: str, path: Path) -> None:
    """Write a tenant's corrections from Redis to a file of SqliteOverlays. Raises DependencyUnavailable."""
    prefix = _key(tenant, "")
    rows = []
    try:
        with redis.Redis.from_url(redis_url, socket_timeout=_BUSY_S) as client:
            for key in client.scan_iter(match=prefix + b"*", count=1_000):
                user = key[len(prefix) :].decode()
                held: Any = client.hgetall(key)
                rows += [(user, topic.decode(), *json.loads(said)) for topic, said in held.items()]
    except (redis.exceptions.RedisError, OSError) as error:
        raise unavailable(_REDIS, error) from error
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(_TABLE)
        file.executemany("INSERT OR REPLACE INTO corrections VALUES (?, ?, ?, ?)", rows)


def load_redis(redis_url: str, tenant: str, path: Path) -> None:
    """Put corrections from a file of SqliteOverlays into Redis. Raises DependencyUnavailable."""
    try:
        with (
            closing(sqlite3.connect(path)) as file,
            redis.Redis.from_url(redis_url, socket_timeout=_BUSY_S) as client,
        ):
            query = "SELECT user_id, topic_id, wish, made_time FROM corrections"
            for user, topic, wish, made_time in file.execute(query):
                client.hset(_key(tenant, user), topic, json.dumps([wish, made_time]))
    except (redis.exceptions.RedisError, OSError, sqlite3.Error) as error:
        raise unavailable(_REDIS, error) from error


def _counted(user_ids: Sequence[str], counts: Sequence[int]) -> Removed:
    return {user: count for user, count in zip(user_ids, counts, strict=True) if count}


def _key(tenant: str, user_id: str) -> bytes:
    return f"driftline:{tenant}:corrections:{user_id}".encode()


def _correction(topic_id: str, wish: str, made_time: str) -> Correction:
    at = datetime.fromisoformat(made_time).astimezone(UTC)
    return Correction(topic_id=topic_id, wish=Wish(wish), made_time=at)


def _by_topic(corrections: Any) -> tuple[Correction, ...]:
    return tuple(sorted(corrections, key=lambda one: one.topic_id))
