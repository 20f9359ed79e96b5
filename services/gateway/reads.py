"""What the read methods answer, in core types: which store is asked, and what the answer rests on."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from services.core.errors import InvalidArgument, Overloaded, Unimplemented, UserNotFound
from services.core.periods import Period, period_at
from services.core.recommend import Filters, RankedItems, SimilarItems, recommend, similar_items
from services.core.records import Forecast, InterestVector, Profile
from services.core.schema import HISTORY_PERIODS, Granularity
from services.gateway.state import GatewayState, Live
from services.runtime.errors import DeadlinePassed
from services.runtime.settings import Settings
from services.store.ports import Catalogue, HistoryReader, InterestReader

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """The instants a read is asked for."""

    event_time: datetime
    ingest_time: datetime
    # False: both mean now.
    is_past: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What an answer rests on."""

    as_of: AsOf
    model_version: str
    space_id: str
    is_fallback: bool = False
    is_stale: bool = False
    # Unset: there was no input.
    input_age: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommended:
    """Ranked items and the catalogue their rows are of."""

    catalogue: Catalogue
    items: RankedItems
    basis: Basis


class Reads:
    """Reads of one tenant. Every method hides users whose erasure is under way."""

    def __init__(
        self,
        state: GatewayState,
        reader: InterestReader,
        history: HistoryReader,
        settings: Settings,
    ) -> None:
        self._state, self._reader, self._history = state, reader, history
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.max_history_calls)

    def now(self) -> datetime:
        """Return the service's now."""
        return self._settings.clock()

    async def interest(
        self, user_id: str, granularity: Granularity, period: Period | None, as_of: AsOf
    ) -> tuple[InterestVector, Basis]:
        """Return the newest vector, or one period's. Raises UserNotFound, NotReady."""
        live = self._known(user_id)
        if period is None and not as_of.is_past:
            found = await self._reader.interest(
                self._state.tenant, live.space_id, user_id, granularity
            )
        else:
            before = period.ordinal + 1 if period else None
            rows = await self._past(live, user_id, granularity, as_of, limit=1, before=before)
            found = rows[-1] if rows and period in (None, rows[-1].period) else None
        if found is None:
            raise UserNotFound(user_id)
        return found, self._basis(live, as_of, found.period)

    async def interests(
        self, user_ids: list[str], granularity: Granularity, as_of: AsOf
    ) -> tuple[list[InterestVector | None], Basis]:
        """Return the newest vectors, in the order asked."""
        live = self._state.live()
        found = await self._reader.interests(
            self._state.tenant, live.space_id, user_ids, granularity
        )
        hidden = [
            None if self._state.is_erased(user) else vector
            for user, vector in zip(user_ids, found, strict=True)
        ]
        newest = max((v.period for v in hidden if v), default=None)
        return hidden, self._basis(live, as_of, newest)

    async def trajectory(
        self,
        user_id: str,
        granularity: Granularity,
        page_size: int,
        before: int | None,
        as_of: AsOf,
    ) -> tuple[list[InterestVector], int | None, Basis]:
        """Return vectors oldest first, and the ordinal before which the next page ends."""
        live = self._known(user_id)
        kept = HISTORY_PERIODS[granularity]
        size = page_size or kept
        if before is None and not as_of.is_past and size <= kept:
            held = await self._reader.history(
                self._state.tenant, live.space_id, user_id, granularity
            )
            found, is_more = held[-size:], len(held) > size or len(held) == kept
        else:
            rows = await self._past(
                live, user_id, granularity, as_of, limit=size + 1, before=before
            )
            found, is_more = rows[-size:], len(rows) > size
        if not found and before is None:
            raise UserNotFound(user_id, "trajectory")
        newest = found[-1].period if found else None
        return found, found[0].period.ordinal if is_more else None, self._basis(live, as_of, newest)

    async def forecast(
        self, user_id: str, granularity: Granularity, period: Period | None, as_of: AsOf
    ) -> tuple[Forecast, list[int], Basis]:
        """Return the forecast and which of its rows answer: those not past, or the period asked for."""
        live = self._known(user_id)
        if as_of.is_past:
            raise Unimplemented("a forecast as of the past")
        found = await self._reader.forecast(self._state.tenant, live.space_id, user_id, granularity)
        if found is None:
            raise UserNotFound(user_id, "forecast")
        targets = [found.made_at + horizon for horizon in found.horizons]
        rows = [
            row
            for row, target in enumerate(targets)
            if (target == period if period else target.end > self.now())
        ]
        if period and not rows:
            names = ", ".join(target.name for target in targets)
            raise InvalidArgument("period", f"{period.name} is not forecast; there are {names}")
        return found, rows, self._basis(live, as_of, found.made_at)

    async def recommend(
        self, user_id: str, count: int, filters: Filters, as_of: AsOf
    ) -> Recommended:
        """Return the best items; of an unknown user what everybody wants."""
        if as_of.is_past:
            raise Unimplemented("recommendations as of the past")
        live = self._state.live()
        catalogue, shelf = live.published()
        state = None
        if not self._state.is_erased(user_id):
            state = await self._reader.rank_state(self._state.tenant, live.space_id, user_id)
        now = self.now()
        ranked = recommend(state, shelf, live.ranker, now.timestamp(), count, filters)
        last = datetime.fromtimestamp(state.state_time, UTC) if state else None
        newest = period_at(Granularity.WEEK, last) if last else None
        basis = self._basis(live, as_of, newest, is_fallback=state is None)
        return Recommended(catalogue=catalogue, items=ranked, basis=basis)

    def similar(self, item_id: str, count: int) -> tuple[Catalogue, SimilarItems, Basis]:
        """Return the nearest items. Raises ItemNotFound, NotReady."""
        live = self._state.live()
        catalogue, shelf = live.published()
        now = self.now()
        as_of = AsOf(event_time=now, ingest_time=datetime.now(UTC), is_past=False)
        return catalogue, similar_items(item_id, shelf, count), self._basis(live, as_of, None)

    async def profile(self, user_id: str, as_of: AsOf) -> tuple[Profile, Basis]:
        """Return the portrait. Raises UserNotFound, NotReady."""
        live = self._known(user_id, "portrait")
        if as_of.is_past:
            raise Unimplemented("a portrait as of the past")
        found = await self._reader.profile(self._state.tenant, live.space_id, user_id)
        if found is None:
            raise UserNotFound(user_id, "portrait")
        newest = period_at(Granularity.WEEK, found.last_event_time)
        return found, self._basis(live, as_of, newest)

    def _known(self, user_id: str, what: str = "interest vector") -> Live:
        if self._state.is_erased(user_id):
            raise UserNotFound(user_id, what)
        return self._state.live()

    async def _past(
        self, live: Live, user_id: str, granularity: Granularity, as_of: AsOf, *, limit: int,
        before: int | None,
    ) -> list[InterestVector]:  # fmt: skip
        return await self._history_call(
            lambda: self._history.trajectory(
                self._state.tenant, live.space_id, user_id, granularity,
                event_time=as_of.event_time, ingest_time=as_of.ingest_time, limit=limit,
                before=before,
            )
        )  # fmt: skip

    async def _history_call(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Read offline history within its own limit and deadline."""
        if self._slots.locked():
            raise Overloaded(f"{self._settings.max_history_calls} history reads at once")
        limit_s = self._settings.history_deadline_s
        async with self._slots:
            try:
                async with asyncio.timeout(limit_s):
                    return await call()
            except TimeoutError:
                raise DeadlinePassed("reading offline history", limit_s) from None

    def _basis(
        self, live: Live, as_of: AsOf, newest: Period | None, *, is_fallback: bool = False
    ) -> Basis:
        age, is_stale = None, False
        if newest is not None:
            age = max(as_of.event_time - newest.end, timedelta(0))
            behind = period_at(newest.granularity, as_of.event_time) - newest
            is_stale = behind > self._settings.stale_after_periods
        return Basis(
            as_of=as_of,
            model_version=live.model_version,
            space_id=live.space_id,
            is_fallback=is_fallback,
            is_stale=is_stale,
            input_age=age,
        )
