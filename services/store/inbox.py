"""The inbox on Delta Lake: one process's logs, written by group commit.

Rows of callers that come within 20 ms become one commit; each caller is answered after it. A lane
is one log of one tenant; lanes commit beside each other.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from services.core.errors import DependencyUnavailable, Overloaded
from services.core.schema import DEFAULT_TENANT, INGEST_TIME
from services.store import delta
from services.store.clock import StoreClock, clock_of
from services.store.disk import told
from services.store.event_frames import ERASURE_ID, LOGS, shape, stamp
from services.store.layout import Layout
from services.store.ports import Commit


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxConfig:
    """Limits of group commit."""

    # Longest that the first row of a group waits for others, seconds.
    window_s: float = 0.02
    # A group of this many rows is committed at once.
    group_rows: int = 5_000
    # Rows that may wait in a lane, those under way included.
    max_waiting_rows: int = 50_000


class DeltaInbox:
    """ports.Inbox for one event loop. Close it to wait for what is under way."""

    def __init__(
        self,
        layout: Layout,
        writer: str,
        config: InboxConfig | None = None,
        tenants: Iterable[str] = (DEFAULT_TENANT,),
    ) -> None:
        """Open the logs of a writer, made if absent; no two processes may use one writer."""
        self._layout, self._writer = layout, writer
        self._config = config or InboxConfig()
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._tenants: set[str] = set()
        for tenant in tenants:
            self._make_logs(tenant)

    async def append_events(self, tenant: str, rows: pl.DataFrame) -> Commit:
        """Append rows with EVENT_COLUMNS less `ingest_time`."""
        return await self._lane(tenant, "events").append(rows)

    async def append_items(self, tenant: str, rows: pl.DataFrame) -> Commit:
        """Append rows of item_id, title, text, categories, updated_time (null: now)."""
        return await self._lane(tenant, "items").append(rows)

    async def append_erasure(self, tenant: str, erasure_id: str, user_id: str) -> Commit:
        """Append a request to erase a user."""
        rows = pl.DataFrame({ERASURE_ID: [erasure_id], "user_id": [user_id]})
        return await self._lane(tenant, "erasures").append(rows)

    async def close(self) -> None:
        """Wait until every row taken is committed or refused."""
        await asyncio.gather(*(lane.drain() for lane in self._lanes.values()))

    def _lane(self, tenant: str, log: str) -> "_Lane":
        lane = self._lanes.get((tenant, log))
        if lane is None:
            self._make_logs(tenant)
            path = self._layout.inbox_dir(tenant, self._writer) / log
            clock = clock_of(self._layout.root)
            lane = self._lanes[tenant, log] = _Lane(path, log, self._config, clock)
        return lane

    def _make_logs(self, tenant: str) -> None:
        if tenant not in self._tenants:
            create_logs(self._layout, tenant, self._writer)
            self._tenants.add(tenant)


class InboxWriter:
    """The inbox of a job that has no event loop: each call is one commit."""

    def __init__(self, layout: Layout, writer: str, tenant: str = DEFAULT_TENANT) -> None:
        create_logs(layout, tenant, writer)
        self._folder = layout.inbox_dir(tenant, writer)
        self._clock = clock_of(layout.root)

    def append(self, log: str, rows: pl.DataFrame) -> Commit:
        """Append rows to one of the logs events, items, erasures.

        Raises:
            DependencyUnavailable: the store took no rows.
            InvalidArgument: the rows have a wrong shape.
        """
        stamped = stamp(log, rows, self._clock.tick())
        delta.append(self._folder / log, stamped)
        return Commit(row_count=rows.height, ingest_time=stamped[INGEST_TIME][0])


def create_logs(layout: Layout, tenant: str, writer: str) -> None:
    """Make a writer's three logs where they are absent."""
    for log, types in LOGS.items():
        delta.create(layout.inbox_dir(tenant, writer) / log, types)


@dataclass(slots=True)
class _Call:
    rows: pl.DataFrame
    answer: "asyncio.Future[Commit]"


class _Lane:
    """Groups the calls for one log. Used from one event loop only."""

    def __init__(self, path: Path, log: str, config: InboxConfig, clock: StoreClock) -> None:
        self._path, self._log, self._config, self._clock = path, log, config, clock
        self._waiting: list[_Call] = []
        # Rows that wait for the next group, and all that are not yet answered.
        self._group_rows = 0
        self._lane_rows = 0
        self._group_is_full = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._checkpoint: asyncio.Task[None] | None = None

    async def append(self, rows: pl.DataFrame) -> Commit:
        # Checked here, so that a call of a wrong shape fails alone and not its whole group.
        rows = shape(rows.with_columns(pl.lit(None).alias(INGEST_TIME)), LOGS[self._log])
        if self._lane_rows and self._lane_rows + rows.height > self._config.max_waiting_rows:
            raise Overloaded(f"{self._config.max_waiting_rows} rows waiting to be committed")
        call = _Call(rows, asyncio.get_running_loop().create_future())
        self._lane_rows += rows.height
        self._group_rows += rows.height
        self._waiting.append(call)
        if self._group_rows >= self._config.group_rows:
            self._group_is_full.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._commit_groups())
        # Shielded: rows of a caller that went away are committed all the same.
        return await asyncio.shield(call.answer)

    async def drain(self) -> None:
        if self._worker is not None:
            await self._worker
        if self._checkpoint is not None:
            await self._checkpoint

    async def _commit_groups(self) -> None:
        while self._waiting:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._group_is_full.wait(), self._config.window_s)
            group, self._waiting = self._waiting, []
            group_rows, self._group_rows = self._group_rows, 0
            self._group_is_full.clear()
            await self._commit(group)
            self._lane_rows -= group_rows

    async def _commit(self, group: list[_Call]) -> None:
        # Strictly increasing, so that rows of one log sort by their commit.
        commit_time = self._clock.tick()
        try:
            version = await asyncio.to_thread(self._append, group, commit_time)
        except Exception as error:
            failure = told(error)
            if failure is None:
                problem = f"took no rows: {type(error).__name__}"
                failure = DependencyUnavailable("event store", problem)
            for call in group:
                if not call.answer.done():
                    call.answer.set_exception(failure)
            return
        for call in group:
            if not call.answer.done():
                call.answer.set_result(Commit(row_count=call.rows.height, ingest_time=commit_time))
        if delta.is_checkpoint_due(version):
            # Beside the next commits: their callers must not wait for it.
            self._checkpoint = asyncio.create_task(asyncio.to_thread(delta.checkpoint, self._path))

    def _append(self, group: list[_Call], commit_time: datetime) -> int:
        rows = stamp(self._log, pl.concat([call.rows for call in group]), commit_time)
        return delta.append_fast(self._path, rows)
