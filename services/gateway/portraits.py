"""Portraits: stored activity and topics through core/portrait.py, and what the user says of them."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from services.core.activity import Activity
from services.core.burst_everyone import named_bursts
from services.core.corrections import Correction, correct_portrait
from services.core.errors import InvalidArgument, Unimplemented, UserNotFound
from services.core.periods import period_at
from services.core.portrait import NO_PORTRAIT, Portrait, cited_items, paint_portrait
from services.core.portrait_text import describe
from services.core.schema import Granularity
from services.gateway.answers import (
    Basis,
    CorrectAnswer,
    CorrectQuery,
    NamedCorrection,
    ProfileAnswer,
    ProfileQuery,
)
from services.gateway.state import GatewayState, Stock
from services.store.ports import InterestReader, Overlays

_WHAT = "portrait"


class Portraits:
    """Reads portraits, and writes corrections of them."""

    def __init__(
        self,
        state: GatewayState,
        reader: InterestReader,
        overlays: Overlays,
        *,
        stale_after_periods: int,
    ) -> None:
        self._state, self._reader, self._overlays = state, reader, overlays
        self._stale_after = stale_after_periods

    async def profile(self, query: ProfileQuery) -> ProfileAnswer:
        """Return the portrait, as the user corrected it.

        Raises:
            UserNotFound: nothing is known. Unimplemented: a past instant was asked for.
        """
        if not query.as_of.is_now:
            raise Unimplemented("a portrait as of a past instant")
        self._state.refuse_erased(query.user_id, _WHAT)
        served, tenant = self._state.served(), self._state.tenant
        space_id, stock = served.model.space_id, served.stock
        found, activity, bursts, everyone, corrections = await asyncio.gather(
            self._reader.profile(tenant, space_id, query.user_id),
            self._reader.activity(tenant, space_id, query.user_id),
            self._reader.bursts(tenant, space_id, query.user_id, Granularity.WEEK),
            self._reader.population_bursts(tenant, space_id, Granularity.WEEK),
            self._overlays.read(tenant, query.user_id),
        )
        if found is None:
            raise UserNotFound(query.user_id, _WHAT)
        # Milliseconds of arithmetic: off the event loop, where quick reads wait their turn.
        portrait = await asyncio.to_thread(_paint, activity, corrections, stock)
        portrait = replace(portrait, interests=portrait.interests[: query.limit])
        titles = _titles(cited_items(portrait), stock)
        week = period_at(Granularity.WEEK, found.last_event_time)
        age = period_at(Granularity.WEEK, query.as_of.event_time) - week
        return ProfileAnswer(
            profile=found,
            portrait=portrait,
            summary=describe(portrait, titles),
            titles=titles,
            corrections=_named(corrections, stock),
            bursts=named_bursts(bursts, everyone) if bursts else (),
            limit=query.limit,
            basis=Basis(
                as_of=query.as_of,
                is_stale=age > self._stale_after,
                input_time=found.last_event_time,
            ),
        )

    async def correct(self, query: CorrectQuery) -> CorrectAnswer:
        """Keep what a user says of a topic, or forget it; an answer means that it is stored.

        Raises:
            UserNotFound: nothing is known. InvalidArgument: there is no such topic.
        """
        self._state.refuse_erased(query.user_id, _WHAT)
        served, tenant = self._state.served(), self._state.tenant
        space_id = served.model.space_id
        if await self._reader.profile(tenant, space_id, query.user_id) is None:
            raise UserNotFound(query.user_id, _WHAT)
        if query.wish is None:
            await self._overlays.remove(tenant, query.user_id, query.topic_id)
        else:
            _check_topic(query.topic_id, served.stock)
            correction = Correction(
                topic_id=query.topic_id, wish=query.wish, made_time=query.made_time
            )
            await self._overlays.put(tenant, query.user_id, correction)
            # Erased meanwhile: what was just written must not outlive the request.
            self._state.refuse_erased(query.user_id, _WHAT)
        corrections = await self._overlays.read(tenant, query.user_id)
        return CorrectAnswer(corrections=_named(corrections, served.stock))


def _paint(
    activity: Activity | None, corrections: Sequence[Correction], stock: Stock | None
) -> Portrait:
    """Return the portrait as its user wants it; nothing where no topics were published yet."""
    if stock is None or stock.topic_map is None:
        return NO_PORTRAIT
    portrait, topic_map = NO_PORTRAIT, stock.topic_map
    if activity is not None:
        topic_of = _topics_of(activity.item_ids, stock)
        portrait = paint_portrait(activity, topic_of, topic_map.topics, topic_map.prior_T)
    return correct_portrait(portrait, corrections, topic_map)


def _topics_of(item_ids: Iterable[str], stock: Stock) -> dict[str, int]:
    """Return rows of topics by item; items that are not in the catalogue any more are left out."""
    assert stock.topic_map is not None
    topic_N, row_of = stock.topic_map.topic_N, stock.shelf.row_of
    return {item_id: int(topic_N[row_of[item_id]]) for item_id in item_ids if item_id in row_of}


def _titles(item_ids: Iterable[str], stock: Stock | None) -> dict[str, str]:
    if stock is None:
        return {}
    titles, row_of = stock.catalogue.titles, stock.shelf.row_of
    return {item_id: titles[row_of[item_id]] for item_id in item_ids if item_id in row_of}


def _named(corrections: Iterable[Correction], stock: Stock | None) -> tuple[NamedCorrection, ...]:
    name_of: dict[str, str] = {}
    if stock is not None and stock.topic_map is not None:
        topics = stock.topic_map.topics
        name_of = dict(zip(topics.ids, topics.names, strict=True))
    return tuple(
        NamedCorrection(correction=one, name=name_of.get(one.topic_id, "")) for one in corrections
    )


def _check_topic(topic_id: str, stock: Stock | None) -> None:
    known = stock.topic_map.topics.ids if stock is not None and stock.topic_map else ()
    if topic_id not in known:
        raise InvalidArgument(
            "topic_id", f"{topic_id!r} is no topic; take one from GetProfile's `topics`"
        )
