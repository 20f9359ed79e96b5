"""The event log in memory: the tests' default, held to the same contract as Delta Lake's."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from services.core.cleaning import LINE, SOURCE
from services.core.errors import Cancelled, Overloaded
from services.core.event_ids import SAME_REJECT
from services.core.schema import (
    EVENT_ID,
    EVENT_TIME,
    INGEST_TIME,
    ITEM_ID,
    UPDATED_TIME,
    USER_ID,
    bucket_of,
)
from services.store.counts import TableCounts
from services.store.erasing import Left, Removed, Until
from services.store.erasures import covered, drop_erased, tombstones
from services.store.event_frames import (
    ERASURE_ID,
    EVENTS,
    ITEMS,
    LOGS,
    REJECTS,
    empty,
    shape,
    stamp,
)
from services.store.ports import Commit, InboxBatch
from services.store.reject_port import RejectPage
from services.store.rejects import page_of
from services.store.turns import never


@dataclass(slots=True)
class EventMemory:
    """What MemoryInbox and MemoryTables share; every list index is a version."""

    # (tenant, "writer/log") -> commits.
    logs: dict[tuple[str, str], list[pl.DataFrame]] = field(default_factory=dict)
    # (tenant, table) -> commits, with the batch that made each.
    tables: dict[tuple[str, str], list[tuple[str, pl.DataFrame]]] = field(default_factory=dict)
    # tenant -> (version, user) of events that gave way to others.
    gone: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    states: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    locks: dict[str, threading.RLock] = field(default_factory=lambda: defaultdict(threading.RLock))


class MemoryInbox:
    """ports.Inbox in memory; each call is one commit."""

    def __init__(self, memory: EventMemory, writer: str, max_rows: int = 50_000) -> None:
        self._memory, self._writer, self._max_rows = memory, writer, max_rows

    async def append_events(self, tenant: str, rows: pl.DataFrame) -> Commit:
        return self._append(tenant, "events", rows)

    async def append_items(self, tenant: str, rows: pl.DataFrame) -> Commit:
        return self._append(tenant, "items", rows)

    async def append_erasure(self, tenant: str, erasure_id: str, user_id: str) -> Commit:
        rows = pl.DataFrame({ERASURE_ID: [erasure_id], USER_ID: [user_id]})
        return self._append(tenant, "erasures", rows)

    def _append(self, tenant: str, log: str, rows: pl.DataFrame) -> Commit:
        if rows.height > self._max_rows:
            raise Overloaded(f"{self._max_rows} rows waiting to be committed")
        now = datetime.now(UTC)
        name = (tenant, f"{self._writer}/{log}")
        self._memory.logs.setdefault(name, []).append(stamp(log, rows, now))
        return Commit(row_count=rows.height, ingest_time=now)


class MemoryTables:
    """ports.EventTables in memory."""

    def __init__(self, memory: EventMemory, bucket_count: int = 8) -> None:
        self._memory, self._bucket_count = memory, bucket_count
        self._ticked = datetime.min.replace(tzinfo=UTC)

    def tick(self) -> datetime:
        self._ticked = max(datetime.now(UTC), self._ticked + timedelta(microseconds=1))
        return self._ticked

    def intake_lock(self, tenant: str) -> AbstractContextManager[object]:
        return self._memory.locks[tenant]

    def read_state(self, tenant: str, name: str) -> dict[str, Any]:
        return self._memory.states.get((tenant, name), {})

    def write_state(self, tenant: str, name: str, state: dict[str, Any]) -> None:
        self._memory.states[tenant, name] = state

    def read_inbox(
        self, tenant: str, position: dict[str, int], until: dict[str, int] | None = None
    ) -> InboxBatch:
        after = dict(position)
        parts = {log: empty(types | {SOURCE: pl.String()}) for log, types in LOGS.items()}
        for name, commits in self._logs(tenant).items():
            log = name.partition("/")[2]
            end = len(commits) if until is None else until.get(name, 0)
            after[name] = end
            for rows in commits[position.get(name, 0) : end]:
                parts[log] = pl.concat([parts[log], rows.with_columns(pl.lit(name).alias(SOURCE))])
        return InboxBatch(
            events=parts["events"],
            items=parts["items"],
            erasures=parts["erasures"].drop(SOURCE),
            position=after,
            is_last=True,
        )

    def trim_inbox(self, tenant: str, position: dict[str, int], *, is_forced: bool = False) -> None:
        for name, end in position.items():
            commits = self._memory.logs.get((tenant, name), [])
            commits[:end] = [rows.clear() for rows in commits[:end]]

    def append_events(
        self,
        tenant: str,
        rows: pl.DataFrame,
        batch_id: str,
        displaced: pl.DataFrame | None = None,
    ) -> int:
        commits = self._memory.tables.setdefault((tenant, "events"), [])
        if displaced is not None and batch_id not in {batch for batch, _ in commits}:
            commits[:] = [
                (batch, kept.join(displaced, on=EVENT_ID, how="anti")) for batch, kept in commits
            ]
            gone = self._memory.gone.setdefault(tenant, [])
            gone += [(len(commits), user) for user in displaced[USER_ID]]
        return self._append(
            tenant, "events", drop_erased(self, tenant, shape(rows, EVENTS)), batch_id
        )

    def append_items(self, tenant: str, rows: pl.DataFrame, batch_id: str) -> int:
        return self._append(tenant, "items", shape(rows, ITEMS), batch_id)

    def append_rejects(self, tenant: str, rows: pl.DataFrame, batch_id: str) -> None:
        kept = tombstones(self, tenant).redacted(shape(rows, REJECTS))
        self._append(tenant, "rejects", kept, batch_id)

    def read_events(
        self, tenant: str, bucket: int | None = None, users: Sequence[str] | None = None
    ) -> pl.DataFrame:
        rows = self._rows(tenant, "events", EVENTS)
        if users is not None:
            rows = rows.filter(pl.col(USER_ID).is_in(list(users)))
        if bucket is not None:
            rows = rows.filter(self._in_bucket(rows, bucket))
        return rows.sort(USER_ID, EVENT_TIME, EVENT_ID)

    def known_events(self, tenant: str, event_ids: pl.Series) -> pl.DataFrame:
        wanted = event_ids.to_frame(EVENT_ID)
        return self._rows(tenant, "events", EVENTS).join(wanted, on=EVENT_ID, how="semi")

    def changed_users(self, tenant: str, bucket: int, since_version: int) -> tuple[list[str], int]:
        rows = self._rows(tenant, "events", EVENTS, max(0, since_version))
        gone = [user for at, user in self._memory.gone.get(tenant, []) if at >= since_version]
        named = pl.concat(
            [rows.select(USER_ID), pl.DataFrame({USER_ID: gone}, {USER_ID: pl.String})]
        )
        users = named.filter(self._in_bucket(named, bucket))[USER_ID].unique().sort()
        return users.to_list(), len(self._memory.tables.get((tenant, "events"), []))

    def read_items(self, tenant: str) -> pl.DataFrame:
        return self._rows(tenant, "items", ITEMS).sort(ITEM_ID, UPDATED_TIME)

    def read_rejects(self, tenant: str) -> pl.DataFrame:
        return self._rows(tenant, "rejects", REJECTS).sort(INGEST_TIME, SOURCE, "line")

    def untold_rejects(self, tenant: str, rejects: pl.DataFrame) -> pl.DataFrame:
        told = self.read_rejects(tenant).filter(pl.col(LINE).is_null())
        return shape(rejects, REJECTS).join(
            told, on=[*SAME_REJECT, LINE], how="anti", nulls_equal=True
        )

    def rejects(self, tenant: str, *, limit: int, after: str = "") -> RejectPage:
        return page_of(self._rows(tenant, "rejects", REJECTS).lazy(), limit=limit, after=after)

    def counts(self, tenant: str, position: dict[str, int]) -> TableCounts:
        waiting = self.read_inbox(tenant, position)
        items = self.read_items(tenant)[ITEM_ID]
        reasons = self.read_rejects(tenant)["reason"].value_counts(sort=True)
        return TableCounts(
            events=self.read_events(tenant).height,
            item_versions=len(items),
            items=items.n_unique(),
            rejects=dict(reasons.iter_rows()),
            waiting_events=waiting.events.height,
            waiting_items=waiting.items.height,
            waiting_erasures=waiting.erasures.height,
        )

    def user_events(self, tenant: str, user_ids: Sequence[str]) -> pl.DataFrame:
        return self.read_events(tenant).filter(pl.col(USER_ID).is_in(list(user_ids)))

    def erase(self, tenant: str, user_ids: list[str], before: datetime | None = None) -> None:
        until = dict.fromkeys(user_ids, before)
        for bucket in {bucket_of(user, self._bucket_count) for user in user_ids}:
            self.erase_events(tenant, bucket, until)
        self.erase_rest(tenant, until)

    def erase_events(self, tenant: str, bucket: int, until: Until) -> Removed:
        theirs = {u: t for u, t in until.items() if bucket_of(u, self._bucket_count) == bucket}
        return self._erase_from(tenant, "events", theirs)

    def erase_rest(self, tenant: str, until: Until) -> dict[str, Removed]:
        inbox: Counter[str] = Counter()
        for name, commits in self._logs(tenant).items():
            for number, rows in enumerate(commits if not name.endswith("/items") else ()):
                gone = _covered(rows, until)
                inbox.update(rows.filter(gone)[USER_ID].to_list())
                commits[number] = rows.filter(~gone)
        return {"rejects": self._erase_from(tenant, "rejects", until), "inbox": dict(inbox)}

    def scrub(self, tenant: str, since: datetime) -> Left:
        return {}

    @contextmanager
    def job_lock(
        self, tenant: str, name: str, cancelled: Callable[[], bool] = never
    ) -> Iterator[None]:
        lock = self._memory.locks[f"{tenant}/{name}"]
        while not lock.acquire(timeout=0.05):
            if cancelled():
                raise Cancelled(f"waiting for {name}")
        try:
            yield
        finally:
            lock.release()

    def publishing(
        self, tenant: str, cancelled: Callable[[], bool] = never
    ) -> AbstractContextManager[object]:
        return self.job_lock(tenant, "turns", cancelled)

    def alone(self, tenant: str) -> AbstractContextManager[object]:
        return self.job_lock(tenant, "turns")

    def _erase_from(self, tenant: str, table: str, until: Until) -> Removed:
        removed: Counter[str] = Counter()
        kept = self._memory.tables.get((tenant, table), [])
        for number, (batch, rows) in enumerate(kept):
            gone = _covered(rows, until)
            removed.update(rows.filter(gone)[USER_ID].to_list())
            kept[number] = (batch, rows.filter(~gone))
        return dict(removed)

    def _logs(self, tenant: str) -> dict[str, list[pl.DataFrame]]:
        return {name: rows for (owner, name), rows in self._memory.logs.items() if owner == tenant}

    def _rows(
        self, tenant: str, table: str, types: dict[str, pl.DataType], since: int = 0
    ) -> pl.DataFrame:
        commits = self._memory.tables.get((tenant, table), [])[since:]
        return pl.concat([empty(types), *(rows for _, rows in commits)])

    def _append(self, tenant: str, table: str, rows: pl.DataFrame, batch_id: str) -> int:
        commits = self._memory.tables.setdefault((tenant, table), [])
        if not rows.is_empty() and batch_id not in {batch for batch, _ in commits}:
            commits.append((batch_id, rows))
        return len(commits)

    def _in_bucket(self, rows: pl.DataFrame, bucket: int) -> pl.Series:
        buckets = [bucket_of(user, self._bucket_count) == bucket for user in rows[USER_ID]]
        return pl.Series(buckets, dtype=pl.Boolean)


def _covered(rows: pl.DataFrame, until: Until) -> pl.Series:
    ends = {user: time or datetime(9999, 1, 1, tzinfo=UTC) for user, time in until.items()}
    return covered(rows, ends)
