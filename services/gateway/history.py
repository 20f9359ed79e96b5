"""Offline history with limits of its own: a slow scan must not take the place of fast reads."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar

from services.core.errors import Overloaded
from services.core.records import Forecast, InterestVector
from services.core.schema import Granularity
from services.runtime.errors import DeadlinePassed
from services.store.ports import HistoryReader

Found = TypeVar("Found")


class HistoryPlaces:
    """Reads of history that all tenants of a process may make at once."""

    def __init__(self, count: int) -> None:
        self._left = count

    def take(self) -> None:
        """Take a place. Raises Overloaded where none is left."""
        if not self._left:
            raise Overloaded("reads of history at once")
        self._left -= 1

    def give_back(self) -> None:
        """Give a place back."""
        self._left += 1


class LimitedHistory:
    """A HistoryReader that refuses more than `max_calls` reads at once and waits `deadline_s` for one.

    Raises Overloaded and DeadlinePassed besides what the reader raises.
    """

    def __init__(
        self,
        reader: HistoryReader,
        *,
        max_calls: int,
        deadline_s: float,
        places: HistoryPlaces | None = None,
    ) -> None:
        self._reader, self._max_calls, self._deadline_s = reader, max_calls, deadline_s
        self._places = places or HistoryPlaces(max_calls)
        self._reads: set[asyncio.Task[Any]] = set()

    async def trajectory(
        self,
        tenant: str,
        space_id: str,
        user_id: str,
        granularity: Granularity,
        *,
        event_time: datetime,
        ingest_time: datetime,
        limit: int,
        before: int | None = None,
    ) -> list[InterestVector]:
        """Return a past trajectory; see the port."""
        return await self._limited(
            lambda: self._reader.trajectory(
                tenant,
                space_id,
                user_id,
                granularity,
                event_time=event_time,
                ingest_time=ingest_time,
                limit=limit,
                before=before,
            )
        )

    async def forecast_at(
        self,
        tenant: str,
        space_id: str,
        user_id: str,
        granularity: Granularity,
        *,
        event_time: datetime,
        ingest_time: datetime,
    ) -> Forecast | None:
        """Return a past forecast; see the port."""
        return await self._limited(
            lambda: self._reader.forecast_at(
                tenant,
                space_id,
                user_id,
                granularity,
                event_time=event_time,
                ingest_time=ingest_time,
            )
        )

    async def _limited(self, read_of: Callable[[], Coroutine[Any, Any, Found]]) -> Found:
        if len(self._reads) >= self._max_calls:
            raise Overloaded(f"{self._max_calls} reads of history at once")
        self._places.take()
        read = asyncio.create_task(read_of())
        # A read that nobody waits for any more holds its place until its thread is done.
        self._reads.add(read)
        read.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.shield(read)
        except TimeoutError:
            if read.done():
                raise
            raise DeadlinePassed("reading history", self._deadline_s) from None

    def _ended(self, read: "asyncio.Task[Any]") -> None:
        self._reads.discard(read)
        self._places.give_back()
        if not read.cancelled():
            read.exception()  # asked for, so that asyncio does not report it as forgotten
