"""A portrait as evidence: what a text about the user may name."""

from collections.abc import Mapping

from services.core.grounding import Fact
from services.core.periods import Period
from services.core.portrait import Evidence, Pattern, Portrait, Standing, TopicInterest, Trend
from services.core.portrait_text import TITLE_LENGTH
from services.core.schema import Granularity
from services.core.topics import Topics

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MOVES = {Trend.RISING: "rising", Trend.FADING: "fading", Trend.STEADY: "steady"}


def portrait_facts(portrait: Portrait, titles: Mapping[str, str]) -> tuple[Fact, ...]:
    """Return what the portrait's statements rest on, one fact an interest and one of the pattern.

    Args:
        portrait: as it is shown.
        titles: of the cited items.
    """
    facts = [_interest(one, titles) for one in portrait.interests]
    if portrait.pattern is not None:
        facts.append(_pattern(portrait.pattern, titles))
    return tuple(facts)


def topic_names(topics: Topics) -> frozenset[str]:
    """Return every name that is known of topics: theirs, and of their categories."""
    return frozenset((*topics.names, *(name for names in topics.categories for name in names)))


def _interest(one: TopicInterest, titles: Mapping[str, str]) -> Fact:
    shares = [one.weight, one.weight_low, one.weight_high]
    parts = [one.evidence, one.trend_evidence, one.standing_evidence]
    periods: list[str] = []
    directions = [_MOVES[one.trend]] if one.trend in _MOVES else []
    if one.standing is not Standing.NEITHER:
        directions.append(str(one.standing))
    if one.change is not None:
        before, after = one.change.share_before, one.change.share_after
        shares += [before, after]
        parts.append(one.change.evidence)
        periods.append(_week(one.change.week))
        directions.append("rising" if after > before else "fading")
    said = [part for part in parts if part is not None]
    return Fact(
        names=(one.name, *one.terms, *one.categories, *_titles(said, titles)),
        numbers=(*(_percent(share) for share in shares), *(str(e.event_count) for e in said)),
        periods=(*periods, *_weeks(said)),
        directions=tuple(directions),
    )


def _pattern(pattern: Pattern, titles: Mapping[str, str]) -> Fact:
    numbers = [str(pattern.active_weeks), str(pattern.weeks)]
    numbers += [f"{pattern.events_per_active_week:.0f}", str(pattern.evidence.event_count)]
    if pattern.day_part_hour is not None:
        hours = (pattern.day_part_hour, pattern.day_part_hour + 6)
        numbers += [said for hour in hours for said in (str(hour), f"{hour}:00")]
    days = () if pattern.weekday is None else (_WEEKDAYS[pattern.weekday],)
    return Fact(
        names=_titles([pattern.evidence], titles),
        numbers=tuple(numbers),
        periods=(*days, *(f"{day}s" for day in days), *_weeks([pattern.evidence])),
    )


def _titles(evidence: list[Evidence], titles: Mapping[str, str]) -> tuple[str, ...]:
    whole = [titles.get(item) or item for part in evidence for item in part.item_ids]
    return tuple(dict.fromkeys((*whole, *(title[:TITLE_LENGTH] for title in whole))))


def _weeks(evidence: list[Evidence]) -> tuple[str, ...]:
    return tuple(_week(week) for part in evidence for week in (part.first_week, part.last_week))


def _week(ordinal: int) -> str:
    return Period(Granularity.WEEK, ordinal).name


def _percent(share: float) -> str:
    return str(round(100 * share))
