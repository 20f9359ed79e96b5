"""Requests to erase a user, from the inbox until they are carried out, and what stays after them.

A request lies in an inbox first, then, once preprocess has taken it in, in the pipeline's state
until every table and view is rid of the user. Readers refuse the user all that time. Afterwards a
tombstone stays for ever: a salted hash of the id, by which what happened before the request is
refused whenever it comes again.
"""

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from services.core.cleaning import RAW, REASON
from services.core.errors import InvalidArgument
from services.core.schema import EVENT_ID, EVENT_TIME, INGEST_TIME, USER_ID
from services.store import delta
from services.store.delta_log import Files
from services.store.event_frames import ERASURE_ID, ERASURES
from services.store.layout import Layout, read_json
from services.store.ports import EventTables

# Why a row of an erased user was refused; nothing else of the row is kept.
ERASED = "erased"

_PENDING, _TOMBSTONES = "erasures", "tombstones"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What a line that nobody could read may be made of; an id that holds none of these is found in it.
_TOKENS = re.compile(r"[^\s\"'{}\[\]:;,|]+")
_QUOTED = re.compile(r"\"([^\"]+)\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """A request that is not carried out yet."""

    erasure_id: str
    user_id: str
    # Events that happened or came in up to this instant are erased; later ones are a new history.
    requested_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstones:
    """Who was erased, as hashes; and who is about to be."""

    salt: str = ""
    # Salted hash -> request, and the last instant that it covers, microseconds since 1970.
    gone: dict[str, tuple[str, int]] = field(default_factory=dict)
    pending: tuple[Erasure, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.gone or self.pending)

    def digest(self, user_id: str) -> str:
        """Return the salted hash of an id."""
        return hmac.digest(self.salt.encode(), user_id.encode(), "sha256")[:16].hex()

    def until(self, users: Iterable[str]) -> dict[str, datetime]:
        """Return, of the users that a request covers, up to when."""
        found: dict[str, datetime] = {}
        for erasure in self.pending:
            found[erasure.user_id] = max(
                erasure.requested_time, found.get(erasure.user_id, erasure.requested_time)
            )
        if not self.gone:
            return found
        for user in users:
            known = self.gone.get(self.digest(user))
            if known:
                time = _EPOCH + timedelta(microseconds=known[1])
                found[user] = max(time, found.get(user, time))
        return found

    def requests(self, users: Iterable[str]) -> dict[str, str]:
        """Return the last request that covers each of the users that one covers."""
        found = {erasure.user_id: erasure.erasure_id for erasure in self.pending}
        for user in users if self.gone else ():
            known = self.gone.get(self.digest(user))
            if known:
                found.setdefault(user, known[0])
        return found

    def covers(self, rows: pl.DataFrame) -> pl.Series:
        """Tell of each row (user_id, event_time, ingest_time) whether a request covers it."""
        if not self or rows.is_empty():
            return pl.Series([False] * rows.height, dtype=pl.Boolean)
        until = self.until(rows[USER_ID].drop_nulls().unique())
        return covered(rows, until)

    def redacted(self, rejects: pl.DataFrame) -> pl.DataFrame:
        """Return rejects; of erased users only that there was a row, and where."""
        if not self or rejects.is_empty():
            return rejects
        users = self.until(rejects[USER_ID].drop_nulls().unique())
        said = pl.Series(
            [
                user in users if user is not None else self._names_one(raw or "")
                for user, raw in rejects.select(USER_ID, RAW).iter_rows()
            ],
            dtype=pl.Boolean,
        )
        return _without_content(rejects, said)

    def _names_one(self, raw: str) -> bool:
        words = {*_TOKENS.findall(raw), *_QUOTED.findall(raw)}
        return bool(self.until(words).keys() & words)


def covered(rows: pl.DataFrame, until: dict[str, datetime]) -> pl.Series:
    """Tell of each row whether it happened, or came in, up to its user's instant."""
    ends = pl.DataFrame(
        {USER_ID: list(until), "_until": list(until.values())},
        schema={USER_ID: pl.String(), "_until": rows.schema[INGEST_TIME]},
    )
    times = [name for name in (INGEST_TIME, EVENT_TIME) if name in rows.columns]
    joined = rows.select(USER_ID, *times).join(ends, on=USER_ID, how="left", maintain_order="left")
    is_covered = pl.any_horizontal(pl.col(name) <= pl.col("_until") for name in times)
    return joined.select(is_covered.fill_null(value=False).alias("covered"))["covered"]


def record_erasures(tables: EventTables, tenant: str, rows: pl.DataFrame) -> None:
    """Keep requests that came in (erasure_id, user_id, ingest_time); each counts once."""
    if rows.is_empty():
        return
    pending = _pending_state(tables, tenant)
    for erasure_id, user_id, requested in rows.select(ERASURE_ID, USER_ID, INGEST_TIME).iter_rows():
        pending[erasure_id] = [user_id, requested.isoformat()]
    tables.write_state(tenant, _PENDING, {"pending": pending})


def pending_erasures(tables: EventTables, tenant: str) -> list[Erasure]:
    """Return the requests that preprocess took in and that are not finished, oldest first."""
    return _requests(_pending_state(tables, tenant))


def tombstones(tables: EventTables, tenant: str) -> Tombstones:
    """Return who was erased and who is about to be."""
    return _tombstones(tables.read_state(tenant, _TOMBSTONES), pending_erasures(tables, tenant))


def with_salt(tables: EventTables, tenant: str) -> Tombstones:
    """Return the tombstones; the salt is made where there is none yet."""
    if not tables.read_state(tenant, _TOMBSTONES):
        empty: dict[str, Any] = {"salt": secrets.token_hex(32), "gone": {}}
        tables.write_state(tenant, _TOMBSTONES, empty)
    return tombstones(tables, tenant)


def finish_erasures(tables: EventTables, tenant: str, erasure_ids: list[str]) -> None:
    """Put tombstones in the place of requests that were carried out everywhere."""
    held = with_salt(tables, tenant)
    done = [erasure for erasure in held.pending if erasure.erasure_id in set(erasure_ids)]
    gone = dict(held.gone)
    for erasure in done:  # oldest first
        until = (erasure.requested_time - _EPOCH) // timedelta(microseconds=1)
        gone[held.digest(erasure.user_id)] = (erasure.erasure_id, until)
    # Before the requests go: whoever looks in between finds both.
    tables.write_state(tenant, _TOMBSTONES, {"salt": held.salt, "gone": gone})
    names = {erasure.erasure_id for erasure in done}
    left = {k: v for k, v in _pending_state(tables, tenant).items() if k not in names}
    tables.write_state(tenant, _PENDING, {"pending": left})


def adopt_tombstones(
    tables: EventTables, tenant: str, known: Tombstones, users: Iterable[str]
) -> list[Erasure]:
    """Take over what another state of this store knows of erasures, such as one after a backup.

    Args:
        tables: that were brought back.
        tenant: whose data.
        known: who was erased there, and who is about to be.
        users: of whom something may be held here.

    Returns:
        Requests to carry out again: of users that this state did not know to be erased.

    Raises:
        InvalidArgument: the tombstones are another store's.
    """
    held = tombstones(tables, tenant)
    if known.salt and held.salt and known.salt != held.salt:
        raise InvalidArgument("erasures", f"are not this store's (tenant {tenant})")
    union = dict(held.gone)
    for digest, request in known.gone.items():
        if digest not in union or union[digest][1] < request[1]:
            union[digest] = request
    salt = known.salt or held.salt
    if salt:
        tables.write_state(tenant, _TOMBSTONES, {"salt": salt, "gone": union})
    requests = {erasure.erasure_id: erasure for erasure in known.pending}
    hasher = Tombstones(salt=salt)
    for user in set(users) if known.gone else ():
        digest = hasher.digest(user)
        if digest in known.gone and held.gone.get(digest) != union[digest]:
            name, until = union[digest]
            time = _EPOCH + timedelta(microseconds=until)
            requests[name] = Erasure(erasure_id=name, user_id=user, requested_time=time)
    pending = _pending_state(tables, tenant)
    for erasure in requests.values():
        pending[erasure.erasure_id] = [erasure.user_id, erasure.requested_time.isoformat()]
    tables.write_state(tenant, _PENDING, {"pending": pending})
    return list(requests.values())


def drop_erased(tables: EventTables, tenant: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows (user_id, event_time, ingest_time) without those that a request covers."""
    return rows.filter(~tombstones(tables, tenant).covers(rows))


def covered_events(events: pl.DataFrame, erasure: Erasure) -> pl.DataFrame:
    """Return the events (user_id, event_time, ingest_time, ...) that a request is about."""
    return events.filter(covered(events, {erasure.user_id: erasure.requested_time}))


def erased_rejects(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows (REJECT_SCHEMA) as rejects that say only that they were refused."""
    return _without_content(rows, pl.Series([True] * rows.height, dtype=pl.Boolean))


class ErasedUsers:
    """Whom readers refuse now, and which events. For a gateway: cheap where nothing changed."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._seen: dict[str, tuple[object, dict[str, Erasure]]] = {}
        # By log: the files that were read, and what they hold.
        self._read: dict[Path, tuple[set[str], list[Erasure]]] = {}
        self._known: dict[str, tuple[object, Tombstones]] = {}

    def users(self, tenant: str) -> frozenset[str]:
        """Return the users with a request that is not carried out yet.

        Raises:
            DependencyUnavailable: the store does not answer.
        """
        return frozenset(erasure.user_id for erasure in self.open(tenant).values())

    def open(self, tenant: str) -> dict[str, Erasure]:
        """Return the requests that are not carried out yet, by id. Raises as `users`."""
        logs = [
            self._layout.inbox_dir(tenant, writer) / "erasures"
            for writer in self._layout.inbox_writers(tenant)
        ]
        # Logs before the state: a request moves from the first to the second, never back.
        live = {log: delta.files(log) for log in logs}
        path = self._layout.state_dir(tenant) / f"{_PENDING}.json"
        token = (
            tuple((str(log), tuple(sorted(files))) for log, files in live.items()),
            path.stat().st_mtime_ns if path.exists() else 0,
        )
        known = self._seen.get(tenant)
        if known and known[0] == token:
            return known[1]
        found = _requests(read_json(path).get("pending", {}))
        for log, files in live.items():
            found += self._waiting(log, files)
        self._seen[tenant] = (token, {erasure.erasure_id: erasure for erasure in found})
        return self._seen[tenant][1]

    def _waiting(self, log: Path, files: Files) -> list[Erasure]:
        """Return the requests in a log: what came since the last look is read, the rest is held."""
        names, held = self._read.get(log, (set(), []))
        if not names <= files.keys():  # taken in meanwhile
            names, held = set(), []
        fresh = {name: facts for name, facts in files.items() if name not in names}
        rows = delta.read(log, fresh, ERASURES).iter_rows()
        held = held + [Erasure(erasure_id=i, user_id=u, requested_time=time) for i, u, time in rows]
        self._read[log] = (set(files), held)
        return held

    def tombstones(self, tenant: str) -> Tombstones:
        """Return who was erased. Raises DependencyUnavailable where the file is damaged."""
        path = self._layout.state_dir(tenant) / f"{_TOMBSTONES}.json"
        try:
            stat = path.stat()
        except FileNotFoundError:
            return Tombstones()
        token = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        known = self._known.get(tenant)
        if known is None or known[0] != token:
            known = self._known[tenant] = (token, _tombstones(read_json(path), []))
        return known[1]


def _without_content(rejects: pl.DataFrame, which: pl.Series) -> pl.DataFrame:
    said = pl.lit(which)
    kept = {REASON: pl.lit(ERASED), RAW: pl.lit("")}
    nothing = pl.lit(None, pl.String)
    return rejects.with_columns(
        pl.when(said).then(kept.get(name, nothing)).otherwise(pl.col(name)).alias(name)
        for name in (REASON, EVENT_ID, USER_ID, RAW)
    )


def _tombstones(state: dict[str, Any], pending: list[Erasure]) -> Tombstones:
    gone = {digest: (name, int(until)) for digest, (name, until) in state.get("gone", {}).items()}
    return Tombstones(salt=state.get("salt", ""), gone=gone, pending=tuple(pending))


def _pending_state(tables: EventTables, tenant: str) -> dict[str, list[str]]:
    return dict(tables.read_state(tenant, _PENDING).get("pending", {}))


def _requests(state: dict[str, list[str]]) -> list[Erasure]:
    requests = [
        Erasure(erasure_id=name, user_id=user, requested_time=datetime.fromisoformat(requested))
        for name, (user, requested) in state.items()
    ]
    return sorted(requests, key=lambda request: (request.requested_time, request.erasure_id))
