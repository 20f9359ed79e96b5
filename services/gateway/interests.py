"""Reads of vectors, trajectories and forecasts: which store answers, and how fresh."""

from datetime import datetime

from services.core.errors import UserNotFound
from services.core.packed import InterestFacts, PackedInterest, pack
from services.core.periods import Period, period_at
from services.core.schema import HISTORY_PERIODS
from services.core.spaces import require_space
from services.gateway.answers import (
    AsOf,
    Basis,
    BatchAnswer,
    BatchQuery,
    ForecastAnswer,
    ForecastQuery,
    InterestAnswer,
    InterestQuery,
    TrajectoryAnswer,
    TrajectoryQuery,
)
from services.gateway.state import GatewayState
from services.store.packed_port import PackedReader
from services.store.ports import HistoryReader


class Interests:
    """Online store for now, offline history for the past."""

    def __init__(
        self,
        state: GatewayState,
        reader: PackedReader,
        history: HistoryReader,
        *,
        stale_after_periods: int,
    ) -> None:
        self._state, self._reader, self._history = state, reader, history
        self._stale_after = stale_after_periods

    async def interest(self, query: InterestQuery) -> InterestAnswer:
        """Return the newest vector, or that of one period.

        Raises:
            UserNotFound: there is none. NotReady: no model is live.
        """
        what = "interest vector" + (f" of {query.period.name}" if query.period else "")
        self._state.refuse_erased(query.user_id, what)
        space_id = self._state.served().model.space_id
        if query.as_of.is_now and query.period is None:
            (found,) = await self._reader.packed_interests(
                self._state.tenant, space_id, [query.user_id], query.granularity
            )
        elif query.as_of.is_now and query.period is not None:
            found = await self._of_period(space_id, query, query.period)
        else:
            before = query.period.ordinal + 1 if query.period else None
            newest = await self._past(space_id, query, limit=1, before=before)
            found = next((v for v in newest if query.period in {None, v.facts.period}), None)
        if found is None:
            raise UserNotFound(query.user_id, what)
        require_space(space_id, found.facts.space_id)
        return InterestAnswer(interest=found, basis=self._basis(query.as_of, space_id, found.facts))

    async def batch(self, query: BatchQuery) -> BatchAnswer:
        """Return the newest vectors of many users; those without one are listed."""
        space_id = self._state.served().model.space_id
        asked = [user for user in query.user_ids if not self._state.is_erased(user)]
        rows = await self._reader.packed_interests(
            self._state.tenant, space_id, asked, query.granularity
        )
        of_user = {user: row for user, row in zip(asked, rows, strict=True) if row is not None}
        # Far fewer than users: a publish is the same for many.
        facts = {row.facts for row in of_user.values()}
        for one in facts:
            require_space(space_id, one.space_id)
        newest = max(
            facts, key=lambda one: (one.period, one.computed_time, one.model_version), default=None
        )
        return BatchAnswer(
            found=tuple((user, of_user[user]) for user in query.user_ids if user in of_user),
            missing_user_ids=tuple(user for user in query.user_ids if user not in of_user),
            basis=self._basis(query.as_of, space_id, newest),
        )

    async def trajectory(self, query: TrajectoryQuery) -> TrajectoryAnswer:
        """Return the newest vectors up to a limit, or those before a page that was returned.

        Raises:
            UserNotFound: there is none up to `as_of`. NotReady: no model is live.
        """
        self._state.refuse_erased(query.user_id, "interest vector")
        space_id = self._state.served().model.space_id
        answer = await self._kept_online(space_id, query) if query.as_of.is_now else None
        if answer is None:
            # One more than asked shows whether there is a page before this one.
            found = await self._past(space_id, query, limit=query.limit + 1, before=query.before)
            answer = self._page(space_id, query, found, has_more=len(found) > query.limit)
        if not answer.interests and query.before is None:
            raise UserNotFound(query.user_id, "interest vector")
        return answer

    async def forecast(self, query: ForecastQuery) -> ForecastAnswer:
        """Return the forecasts of periods that are not over.

        Raises:
            UserNotFound: none had been made of the user, or of that period.
        """
        what = "forecast" + (f" of {query.period.name}" if query.period else "")
        self._state.refuse_erased(query.user_id, what)
        served = self._state.served()
        of = self._state.tenant, served.model.space_id, query.user_id, query.granularity
        if query.as_of.is_now:
            forecast = await self._reader.forecast(*of)
        else:
            forecast = await self._history.forecast_at(
                *of, event_time=query.as_of.event_time, ingest_time=query.as_of.ingest_time
            )
        if forecast is None:
            raise UserNotFound(query.user_id, what)
        require_space(served.model.space_id, forecast.space_id)
        current = period_at(query.granularity, query.as_of.event_time)
        targets = [forecast.made_at + horizon for horizon in forecast.horizons]
        rows = tuple(
            row
            for row, target in enumerate(targets)
            if target >= current and query.period in {None, target}
        )
        if not rows:
            raise UserNotFound(query.user_id, what)
        return ForecastAnswer(
            forecast=forecast,
            rows=rows,
            basis=Basis(
                as_of=query.as_of,
                model_version=forecast.model_version,
                space_id=served.model.space_id,
                is_stale=self._is_stale(forecast.made_at, query.as_of.event_time),
                input_time=forecast.made_at.end,
            ),
        )

    async def _of_period(
        self, space_id: str, query: InterestQuery, period: Period
    ) -> PackedInterest | None:
        kept = await self._reader.packed_history(
            self._state.tenant, space_id, query.user_id, query.granularity
        )
        for row in kept:
            if row.facts.period == period:
                return row
        is_all = len(kept) < HISTORY_PERIODS[query.granularity]
        if is_all or period > kept[0].facts.period:
            return None
        older = await self._past(space_id, query, limit=1, before=period.ordinal + 1)
        return older[-1] if older and older[-1].facts.period == period else None

    async def _kept_online(self, space_id: str, query: TrajectoryQuery) -> TrajectoryAnswer | None:
        """Answer from the vectors that are kept online; None where they do not reach far enough."""
        kept = await self._reader.packed_history(
            self._state.tenant, space_id, query.user_id, query.granularity
        )
        page = [
            row for row in kept if query.before is None or row.facts.period.ordinal < query.before
        ]
        # A full history may have been cut: then there may be older vectors offline. To look would
        # cost each default call a scan, so the page before may turn out to be empty.
        is_all = len(kept) < HISTORY_PERIODS[query.granularity]
        if not is_all and len(page) < query.limit:
            return None
        return self._page(space_id, query, page, has_more=len(page) > query.limit or not is_all)

    def _page(
        self, space_id: str, query: TrajectoryQuery, found: list[PackedInterest], *, has_more: bool
    ) -> TrajectoryAnswer:
        kept = found[-query.limit :]
        for row in kept:
            require_space(space_id, row.facts.space_id)
        return TrajectoryAnswer(
            granularity=query.granularity,
            interests=tuple(kept),
            next_before=kept[0].facts.period.ordinal if kept and has_more else None,
            basis=self._basis(query.as_of, space_id, kept[-1].facts if kept else None),
        )

    async def _past(
        self,
        space_id: str,
        query: InterestQuery | TrajectoryQuery,
        *,
        limit: int,
        before: int | None,
    ) -> list[PackedInterest]:
        event_time = query.as_of.event_time
        if query.as_of.ingest_time > event_time and not query.as_of.is_now:
            # A period still open then was recomputed later, with later events: closed ones only.
            event_time = period_at(query.granularity, event_time).start
        found = await self._history.trajectory(
            self._state.tenant,
            space_id,
            query.user_id,
            query.granularity,
            event_time=event_time,
            ingest_time=query.as_of.ingest_time,
            limit=limit,
            before=before,
        )
        return [pack(vector) for vector in found]

    def _basis(self, as_of: AsOf, space_id: str, newest: InterestFacts | None) -> Basis:
        if newest is None:
            return Basis(as_of=as_of, is_personal=False)
        return Basis(
            as_of=as_of,
            model_version=newest.model_version,
            space_id=space_id,
            is_stale=self._is_stale(newest.period, as_of.event_time),
            input_time=newest.period.end,
        )

    def _is_stale(self, newest: Period, now: datetime) -> bool:
        return period_at(newest.granularity, now) - newest > self._stale_after
