"""Recommendations: the user's rank state and the catalogue through core/recommend.py."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from services.core.errors import NotReady, Unimplemented
from services.core.periods import period_at
from services.core.recommend import RankedItems, recommend, similar_items, unmatched
from services.core.records import RankState
from services.core.schema import Granularity
from services.core.selection import Variety
from services.gateway.answers import (
    AsOf,
    Basis,
    RecommendAnswer,
    RecommendAnswers,
    RecommendManyQuery,
    RecommendQuery,
    SimilarAnswer,
    SimilarQuery,
    Wishes,
)
from services.gateway.state import GatewayState, Served
from services.store.ports import InterestReader

# Catalogues up to this size are scored on the event loop: faster than the hop to a thread and back.
INLINE_ITEMS = 10_000
# Users that a part of an export holds.
EXPORTED_USERS = 100


class Recommender:
    """Ranks the current catalogue."""

    def __init__(
        self, state: GatewayState, reader: InterestReader, *, stale_after_periods: int
    ) -> None:
        self._state, self._reader = state, reader
        self._stale_after = stale_after_periods

    async def recommend(self, query: RecommendQuery) -> RecommendAnswers:
        """Return the best items for a user; popular ones where nothing is known of them.

        Raises:
            NotReady: no model is live or no index published. Unimplemented: a past instant.
        """
        if not query.as_of.is_now:
            raise Unimplemented("recommendations as of a past instant")
        served = self._state.served()
        is_small = len(served.stocked().shelf.item_ids) <= INLINE_ITEMS
        states = await self._rank_states(served, (query.user_id,))
        users = (query.user_id,), states, query.wishes, query.as_of
        made = (
            self._rank(served, *users)
            if is_small
            else await asyncio.to_thread(self._rank, served, *users)
        )
        return _answers(served, made, query.wishes)

    async def recommend_many(self, query: RecommendManyQuery) -> RecommendAnswers:
        """Return the best items for each user, in the order asked. Raises as `recommend`."""
        served = self._state.served()
        made = await self._ranked(served, query, query.user_ids)
        return _answers(served, made, query.wishes)

    async def export(self, query: RecommendManyQuery) -> AsyncIterator[RecommendAnswers]:
        """Yield the users' best items, part by part, all by what serves at the start.

        Raises as `recommend`.
        """
        served = self._state.served()
        for start in range(0, len(query.user_ids), EXPORTED_USERS):
            part = query.user_ids[start : start + EXPORTED_USERS]
            made = await self._ranked(served, query, part)
            yield _answers(served, made, query.wishes)

    async def similar(self, query: SimilarQuery) -> SimilarAnswer:
        """Return the items nearest to one, or to the mean of several.

        Raises:
            ItemNotFound: one is not in the catalogue. NotReady: no index was published.
        """
        stock = self._state.served().stocked()
        asked = query.item_ids, stock.shelf, query.limit, query.filters
        if len(stock.shelf.item_ids) <= INLINE_ITEMS:
            items = similar_items(*asked)
        else:
            items = await asyncio.to_thread(similar_items, *asked)
        basis = Basis(
            as_of=query.as_of,
            model_version=stock.catalogue.model_version,
            space_id=stock.catalogue.space_id,
            is_personal=False,
        )
        return SimilarAnswer(catalogue=stock.catalogue, items=items, basis=basis)

    async def _ranked(
        self, served: Served, query: RecommendManyQuery, user_ids: tuple[str, ...]
    ) -> tuple[RecommendAnswer, ...]:
        states = await self._rank_states(served, user_ids)
        return await asyncio.to_thread(
            self._rank, served, user_ids, states, query.wishes, query.as_of
        )

    def _rank(
        self,
        served: Served,
        user_ids: tuple[str, ...],
        states: list[RankState | None],
        wishes: Wishes,
        as_of: AsOf,
    ) -> tuple[RecommendAnswer, ...]:
        stock = served.stocked()
        period = period_at(Granularity.WEEK, as_of.event_time).name

        def rank(user_id: str, state: RankState | None) -> RankedItems:
            key = f"{user_id}\n{wishes.exploration_seed or period}"
            return recommend(
                state,
                stock.shelf,
                served.ranker,
                now=as_of.event_time.timestamp(),
                k=wishes.limit,
                filters=wishes.filters,
                variety=Variety(
                    diversity=wishes.diversity,
                    exploration_share=wishes.exploration_share,
                    exploration_key=key,
                ),
                has_reasons=wishes.has_reasons,
            )

        return tuple(
            RecommendAnswer(
                user_id=user_id,
                catalogue=stock.catalogue,
                items=rank(user_id, state),
                basis=self._basis(as_of, state, served),
            )
            for user_id, state in zip(user_ids, states, strict=True)
        )

    async def _rank_states(
        self, served: Served, user_ids: tuple[str, ...]
    ) -> list[RankState | None]:
        served.stocked()  # nothing is read where nothing can be answered
        space_id = served.model.space_id
        return await asyncio.gather(*(self._rank_state(space_id, user) for user in user_ids))

    async def _rank_state(self, space_id: str, user_id: str) -> RankState | None:
        if self._state.is_erased(user_id):
            return None
        try:
            return await self._reader.rank_state(self._state.tenant, space_id, user_id)
        except NotReady:  # items were published, no user yet: everybody is a stranger
            return None

    def _basis(self, as_of: AsOf, state: RankState | None, served: Served) -> Basis:
        if state is None:
            return Basis(
                as_of=as_of,
                model_version=served.model.model_version,
                space_id=served.model.space_id,
                is_personal=False,
            )
        newest = datetime.fromtimestamp(state.state_time, UTC)
        weeks = period_at(Granularity.WEEK, as_of.event_time) - period_at(Granularity.WEEK, newest)
        return Basis(
            as_of=as_of,
            model_version=served.model.model_version,
            space_id=served.model.space_id,
            is_stale=weeks > self._stale_after,
            input_time=newest,
        )


def _answers(served: Served, made: tuple[RecommendAnswer, ...], wishes: Wishes) -> RecommendAnswers:
    return RecommendAnswers(
        answers=made, unmatched=unmatched(served.stocked().shelf, wishes.filters)
    )
