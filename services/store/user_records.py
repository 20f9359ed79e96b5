"""All that is held about one user, place by place, as they may ask to read it."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

import numpy as np
import polars as pl

from services.core import schema as names
from services.core.cleaning import RAW
from services.core.errors import DependencyUnavailable, NotReady
from services.core.views import views_of
from services.store import delta, offline_parts
from services.store.erasures import tombstones
from services.store.event_frames import EVENTS
from services.store.interest_reads import StoredRow
from services.store.layout import Layout
from services.store.ports import EventTables, Overlays


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord:
    """One thing that is held."""

    # Where, such as "events".
    source: str
    # When it was made or happened, where that is known.
    time: datetime | None
    # JSON values.
    content: dict[str, Any]

    @property
    def content_json(self) -> str:
        """Return the content as one line of JSON."""
        return json.dumps(self.content, ensure_ascii=False, sort_keys=True)


class OnlineRows(Protocol):
    """What the online store holds, by view."""

    async def fetch(self, tenant: str, view: str, user_ids: list[str]) -> list[StoredRow | None]:
        """Return each user's row. Raises NotReady where the view was never applied."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecords:
    """Reads every place that may hold a user; see erasure's list of places, which is the same."""

    layout: Layout
    tables: EventTables
    online: OnlineRows
    overlays: Overlays

    async def of(self, tenant: str, user_id: str) -> AsyncIterator[UserRecord]:
        """Yield what is held, in the data's order; nothing for a stranger.

        Raises:
            DependencyUnavailable: a place cannot be read.
        """
        for read in (self._inbox, self._events, self._rejects, self._offline):
            for record in await asyncio.to_thread(_all, read(tenant, user_id)):
                yield record
        async for record in self._online(tenant, user_id):
            yield record
        for correction in await self.overlays.read(tenant, user_id):
            said = {"topic_id": correction.topic_id, "wish": str(correction.wish)}
            yield UserRecord(source="corrections", time=correction.made_time, content=said)
        for record in await asyncio.to_thread(_all, self._tombstone(tenant, user_id)):
            yield record

    def _inbox(self, tenant: str, user_id: str) -> Iterator[UserRecord]:
        for writer in self.layout.inbox_writers(tenant):
            path = self.layout.inbox_dir(tenant, writer) / "events"
            rows = delta.read(path, delta.files(path), EVENTS)
            yield from _records("inbox", rows.filter(pl.col(names.USER_ID) == user_id))

    def _events(self, tenant: str, user_id: str) -> Iterator[UserRecord]:
        yield from _records("events", self.tables.user_events(tenant, [user_id]))

    def _rejects(self, tenant: str, user_id: str) -> Iterator[UserRecord]:
        rows = self.tables.read_rejects(tenant)
        named = pl.col(names.USER_ID).is_null() & pl.col(RAW).str.contains(user_id, literal=True)
        theirs = rows.filter((pl.col(names.USER_ID) == user_id) | named)
        yield from _records("rejects", theirs, time=names.INGEST_TIME)

    def _offline(self, tenant: str, user_id: str) -> Iterator[UserRecord]:
        bucket = names.bucket_of(user_id, self.layout.bucket_count)
        for view in self._views(tenant):
            rows = offline_parts.rows_of(self.layout, tenant, view, bucket, user_id)
            yield from _records("offline features", rows, time=names.COMPUTED_TIME, view=view)

    async def _online(self, tenant: str, user_id: str) -> AsyncIterator[UserRecord]:
        spaces = {view.partition("__")[2] for view in self._views(tenant)}
        for space_id in sorted(spaces):
            for view in views_of(space_id).values():
                if view.join_keys != (names.USER_ID,) or not view.is_online:
                    continue
                try:
                    [row] = await self.online.fetch(tenant, view.name, [user_id])
                except NotReady:
                    continue
                if row is not None:
                    content = _named(view.name, dict(row.features))
                    yield UserRecord(
                        source="online features", time=row.computed_time, content=content
                    )

    def _tombstone(self, tenant: str, user_id: str) -> Iterator[UserRecord]:
        for erasure_id in tombstones(self.tables, tenant).requests([user_id]).values():
            yield UserRecord(source="tombstones", time=None, content={"erasure_id": erasure_id})

    def _views(self, tenant: str) -> list[str]:
        root = self.layout.feast_dir(tenant) / "offline"
        return sorted(path.name for path in root.glob("*__*") if path.is_dir())


def _all(records: Iterator[UserRecord]) -> list[UserRecord]:
    try:
        return list(records)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DependencyUnavailable("what is held", f"cannot be read ({error})") from error


def _records(
    source: str, rows: pl.DataFrame, *, time: str = names.EVENT_TIME, view: str = ""
) -> Iterator[UserRecord]:
    for row in rows.iter_rows(named=True):
        content = _named(view, row) if view else _plain(row)
        yield UserRecord(source=source, time=row[time], content=content)


def _named(view: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its view, and the space that its vectors are of."""
    feature, _, space_id = view.partition("__")
    return {"view": feature, "space_id": space_id, **_plain(row)}


def _plain(value: Any) -> Any:
    """Return JSON values; numbers that JSON lacks become null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
