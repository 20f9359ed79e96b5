"""Recommendations: the user's rank state and the catalogue through core/recommend.py."""

import asyncio
from datetime import UTC, datetime

from services.core.errors import NotReady, Unimplemented
from services.core.periods import period_at
from services.core.recommend import RankedItems, recommend, similar_items
from services.core.records import RankState
from services.core.schema import Granularity
from services.gateway.answers import (
    Basis,
    RecommendAnswer,
    RecommendQuery,
    SimilarAnswer,
    SimilarQuery,
)
from services.gateway.state import GatewayState
from services.store.ports import InterestReader

# Catalogues up to this size are scored on the event loop: faster than the hop to a thread and back.
INLINE_ITEMS = 10_000


class Recommender:
    """Ranks the current catalogue."""

    def __init__(
        self, state: GatewayState, reader: InterestReader, *, stale_after_periods: int
    ) -> None:
        self._state, self._reader = state, reader
        self._stale_after = stale_after_periods

    async def recommend(self, query: RecommendQuery) -> RecommendAnswer:
        """Return the best items for a user; popular ones where nothing is known of them.

        Raises:
            NotReady: no model is live or no index published. Unimplemented: a past instant.
        """
        if not query.as_of.is_now:
            raise Unimplemented("recommendations as of a past instant")
        served = self._state.served()
        stock = served.stocked()
        now = query.as_of.event_time.timestamp()
        rank_state = await self._rank_state(served.model.space_id, query.user_id)

        def rank() -> RankedItems:
            return recommend(
                rank_state,
                stock.shelf,
                served.ranker,
                now=now,
                k=query.limit,
                filters=query.filters,
            )

        is_small = len(stock.shelf.item_ids) <= INLINE_ITEMS
        items = rank() if is_small else await asyncio.to_thread(rank)
        basis = self._basis(query, rank_state, served.model.model_version, served.model.space_id)
        return RecommendAnswer(catalogue=stock.catalogue, items=items, basis=basis)

    async def similar(self, query: SimilarQuery) -> SimilarAnswer:
        """Return the items nearest to one.

        Raises:
            ItemNotFound: it is not in the catalogue. NotReady: no index was published.
        """
        stock = self._state.served().stocked()
        if len(stock.shelf.item_ids) <= INLINE_ITEMS:
            items = similar_items(query.item_id, stock.shelf, query.limit)
        else:
            items = await asyncio.to_thread(similar_items, query.item_id, stock.shelf, query.limit)
        basis = Basis(
            as_of=query.as_of,
            model_version=stock.catalogue.model_version,
            space_id=stock.catalogue.space_id,
            is_personal=False,
        )
        return SimilarAnswer(catalogue=stock.catalogue, items=items, basis=basis)

    async def _rank_state(self, space_id: str, user_id: str) -> RankState | None:
        if self._state.is_erased(user_id):
            return None
        try:
            return await self._reader.rank_state(self._state.tenant, space_id, user_id)
        except NotReady:  # items were published, no user yet: everybody is a stranger
            return None

    def _basis(
        self, query: RecommendQuery, state: RankState | None, model_version: str, space_id: str
    ) -> Basis:
        if state is None:
            return Basis(
                as_of=query.as_of,
                model_version=model_version,
                space_id=space_id,
                is_personal=False,
            )
        now = query.as_of.event_time
        newest = datetime.fromtimestamp(state.state_time, UTC)
        weeks = period_at(Granularity.WEEK, now) - period_at(Granularity.WEEK, newest)
        return Basis(
            as_of=query.as_of,
            model_version=model_version,
            space_id=space_id,
            is_stale=weeks > self._stale_after,
            input_time=newest,
        )
