"""What a user says of the portrait, laid over what the events say. Nothing is learned from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.core.portrait import Portrait, Standing, TopicInterest, Trend
from services.core.topics import TopicMap

# "More of this" multiplies a topic's weight by this before weights are brought to their sum again.
MORE = 3.0


class Wish(StrEnum):
    """What a user wants of a topic."""

    NOT_INTERESTED = "not_interested"
    MORE = "more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One wish."""

    topic_id: str
    wish: Wish
    # When it was made, UTC.
    made_time: datetime


def correct_portrait(
    portrait: Portrait, corrections: Sequence[Correction], topic_map: TopicMap
) -> Portrait:
    """Return the portrait as its user wants it, heaviest first.

    Topics that are no more change nothing. What is taken from one topic goes to the others in
    proportion: the sum of weights stays, unless nothing is left.
    """
    topics = topic_map.topics
    wish_of = {one.topic_id: one.wish for one in corrections if one.topic_id in topics.ids}
    had = {one.topic_id for one in portrait.interests}
    asked = [
        _asked(topic_map, row)
        for row, topic_id in enumerate(topics.ids)
        if wish_of.get(topic_id) is Wish.MORE and topic_id not in had
    ]
    interests = [*portrait.interests, *asked]
    factors = [_factor(wish_of.get(one.topic_id)) for one in interests]
    total = sum(one.weight for one in interests)
    left = sum(f * one.weight for f, one in zip(factors, interests, strict=True))
    if not wish_of:
        return portrait
    if left <= 0:
        return replace(portrait, interests=())
    made = [
        _scaled(one, factor * total / left, is_wanted=wish_of.get(one.topic_id) is Wish.MORE)
        for factor, one in zip(factors, interests, strict=True)
        if factor > 0
    ]
    return replace(portrait, interests=tuple(sorted(made, key=lambda one: -one.weight)))


def _factor(wish: Wish | None) -> float:
    if wish is Wish.NOT_INTERESTED:
        return 0.0
    return MORE if wish is Wish.MORE else 1.0


def _scaled(one: TopicInterest, by: float, *, is_wanted: bool) -> TopicInterest:
    return replace(
        one,
        weight=min(one.weight * by, 1.0),
        weight_low=min(one.weight_low * by, 1.0),
        weight_high=min(one.weight_high * by, 1.0),
        is_wanted=is_wanted,
    )


def _asked(topic_map: TopicMap, row: int) -> TopicInterest:
    """Return a topic that the user never had: as heavy as for the population."""
    topics, weight = topic_map.topics, float(topic_map.prior_T[row])
    return TopicInterest(
        topic_id=topics.ids[row],
        name=topics.names[row],
        terms=topics.terms[row],
        categories=topics.categories[row],
        weight=weight,
        weight_low=0.0,
        weight_high=weight,
        evidence=None,
        trend=Trend.UNKNOWN,
        trend_evidence=None,
        standing=Standing.NEITHER,
        standing_evidence=None,
        change=None,
        is_wanted=True,
    )
