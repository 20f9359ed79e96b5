"""Requests to erase a user, from the inbox until they are carried out.

A request lies in an inbox first, then, once preprocess has taken it in, in the pipeline's state
until every table and view is rid of the user. Readers refuse the user all that time. Afterwards a
hash of the id is kept for a day, so that events from before the request that come in late are
dropped.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from services.core.schema import INGEST_TIME, USER_ID
from services.store import delta
from services.store.event_frames import ERASURE_ID, ERASURES
from services.store.layout import Layout, read_json
from services.store.ports import EventTables

_STATE = "erasures"
# Longest that a commit of an event may take to become visible, with room to spare.
_LATE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """A request that is not carried out yet."""

    erasure_id: str
    user_id: str
    # Events ingested up to this instant are erased; later ones are a new history.
    requested_time: datetime


def record_erasures(tables: EventTables, tenant: str, rows: pl.DataFrame) -> None:
    """Keep requests that came in (erasure_id, user_id, ingest_time); each counts once."""
    if rows.is_empty():
        return
    state = _state(tables, tenant)
    for erasure_id, user_id, requested in rows.select(ERASURE_ID, USER_ID, INGEST_TIME).iter_rows():
        state["pending"][erasure_id] = [user_id, requested.isoformat()]
    tables.write_state(tenant, _STATE, state)


def pending_erasures(tables: EventTables, tenant: str) -> list[Erasure]:
    """Return the requests that preprocess took in and that are not finished, oldest first."""
    return _pending(_state(tables, tenant))


def finish_erasures(
    tables: EventTables, tenant: str, erasure_ids: list[str], now: datetime
) -> None:
    """Forget requests that were carried out everywhere."""
    state = _state(tables, tenant)
    oldest = (now - _LATE).isoformat()
    done = [state["pending"].pop(name) for name in erasure_ids if name in state["pending"]]
    recent = {key: value for key, value in state["recent"].items() if value[1] >= oldest}
    for user_id, requested in done:
        before = recent.get(_digest(user_id), [requested])[0]
        recent[_digest(user_id)] = [max(before, requested), now.isoformat()]
    tables.write_state(tenant, _STATE, {"pending": state["pending"], "recent": recent})


def drop_erased(tables: EventTables, tenant: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows (user_id, ingest_time) without those that a request covers."""
    state = _state(tables, tenant)
    if rows.is_empty() or not (state["pending"] or state["recent"]):
        return rows
    until: dict[str, datetime] = {}
    digests = {_digest(user): user for user in rows[USER_ID].drop_nulls().unique()}
    for digest, (requested, _) in state["recent"].items():
        if digest in digests:
            until[digests[digest]] = datetime.fromisoformat(requested)
    for erasure in _pending(state):  # after the finished ones: these are younger
        until[erasure.user_id] = erasure.requested_time
    erased = pl.DataFrame(
        {USER_ID: list(until), "_until": list(until.values())},
        schema={USER_ID: pl.String(), "_until": rows.schema[INGEST_TIME]},
    )
    joined = rows.join(erased, on=USER_ID, how="left", maintain_order="left")
    is_covered = (pl.col(INGEST_TIME) <= pl.col("_until")).fill_null(value=False)
    return joined.filter(~is_covered).drop("_until")


def covered_events(events: pl.DataFrame, erasure: Erasure) -> pl.DataFrame:
    """Return the events (user_id, ingest_time, ...) that a request is about."""
    return events.filter(
        (pl.col(USER_ID) == erasure.user_id) & (pl.col(INGEST_TIME) <= erasure.requested_time)
    )


class ErasedUsers:
    """Whom readers refuse now. For a gateway: polled, cheap where nothing changed."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._seen: dict[str, tuple[object, frozenset[str]]] = {}

    def users(self, tenant: str) -> frozenset[str]:
        """Return the users with a request that is not carried out yet.

        Raises:
            DependencyUnavailable: the store does not answer.
        """
        logs = [
            self._layout.inbox_dir(tenant, writer) / "erasures"
            for writer in self._layout.inbox_writers(tenant)
        ]
        # Logs before the state: a request moves from the first to the second, never back.
        live = {log: delta.files(log) for log in logs}
        path = self._layout.state_dir(tenant) / f"{_STATE}.json"
        token = (
            tuple((str(log), tuple(sorted(files))) for log, files in live.items()),
            path.stat().st_mtime_ns if path.exists() else 0,
        )
        known = self._seen.get(tenant)
        if known and known[0] == token:
            return known[1]
        state = read_json(path)
        users = {user for user, _ in state.get("pending", {}).values()}
        for log, files in live.items():
            users |= set(delta.read(log, files, ERASURES)[USER_ID])
        self._seen[tenant] = (token, frozenset(users))
        return self._seen[tenant][1]


def _state(tables: EventTables, tenant: str) -> dict[str, Any]:
    state = tables.read_state(tenant, _STATE)
    return {"pending": dict(state.get("pending", {})), "recent": dict(state.get("recent", {}))}


def _pending(state: dict[str, Any]) -> list[Erasure]:
    requests = [
        Erasure(erasure_id=name, user_id=user, requested_time=datetime.fromisoformat(requested))
        for name, (user, requested) in state["pending"].items()
    ]
    return sorted(requests, key=lambda request: (request.requested_time, request.erasure_id))


def _digest(user_id: str) -> str:
    return hashlib.sha256(user_id.encode()).hexdigest()
