"""A portrait as a paragraph, by template: every sentence is a statement of the portrait and cites it."""

from collections.abc import Mapping

from services.core.periods import Period
from services.core.portrait import Evidence, Portrait, Standing, TopicInterest, Trend
from services.core.schema import Granularity

# Interests that the first sentence names.
_NAMED = 3
# Titles that a sentence cites.
_CITED = 2
TITLE_LENGTH = 60
_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def describe(portrait: Portrait, titles: Mapping[str, str]) -> str:
    """Return the paragraph; empty where nothing is known.

    Args:
        portrait: what to say.
        titles: of the cited items; an item without one is cited by its id.
    """
    return " ".join(portrait_sentences(portrait, titles))


def portrait_sentences(portrait: Portrait, titles: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paragraph's sentences, the weights first; none where nothing is known."""
    if not portrait.interests or portrait.pattern is None:
        return ()
    first = portrait.interests[:_NAMED]
    parts = [_weight(one, titles) for one in first]
    sentences = [f"Mostly {_joined(parts)} ({_weeks(portrait.pattern.evidence)})."]
    for one in portrait.interests:
        sentences += _statements(one, titles)
    pattern = portrait.pattern
    busy = (
        f"Active in {pattern.active_weeks} of {pattern.weeks} weeks, with "
        f"{pattern.events_per_active_week:.0f} events in each"
    )
    if pattern.weekday is not None:
        busy += f", most often on {_WEEKDAYS[pattern.weekday]}"
    if pattern.day_part_hour is not None:
        busy += f", between {pattern.day_part_hour}:00 and {pattern.day_part_hour + 6}:00 UTC"
    return (*sentences, f"{busy}.")


def portrait_citations(portrait: Portrait, titles: Mapping[str, str]) -> tuple[str, ...]:
    """Return what each interest rests on, and the pattern of activity: events, weeks and titles."""
    pattern = portrait.pattern
    said = [(one.name, one.evidence) for one in portrait.interests]
    said += [("activity", pattern.evidence)] if pattern is not None else []
    return tuple(
        f"{name}: {evidence.event_count} events, {_weeks(evidence)}, {_cited(evidence, titles)}"
        if evidence is not None
        else f"{name}: as asked for"
        for name, evidence in said
    )


def _weight(one: TopicInterest, titles: Mapping[str, str]) -> str:
    low, high = round(100 * one.weight_low), round(100 * one.weight_high)
    said = f"{one.name} ({round(100 * one.weight)}%, {low} to {high}%"
    rests_on = _cited(one.evidence, titles) if one.evidence else "as asked for"
    return f"{said}; {rests_on})"


def _statements(one: TopicInterest, titles: Mapping[str, str]) -> list[str]:
    """Return what is said of one interest beside its weight; steadiness goes without saying."""
    said = []
    if one.trend in {Trend.RISING, Trend.FADING} and one.trend_evidence is not None:
        where = f"{_cited(one.trend_evidence, titles)}, {_weeks(one.trend_evidence)}"
        said.append(f"{one.name} is {one.trend} ({where}).")
    if one.standing is Standing.FLING and one.standing_evidence is not None:
        where = f"{_cited(one.standing_evidence, titles)}, {_weeks(one.standing_evidence)}"
        said.append(f"{one.name} was a fling ({where}).")
    if one.change is not None:
        before, after = round(100 * one.change.share_before), round(100 * one.change.share_after)
        said.append(
            f"{one.name} went from {before}% to {after}% in {_week(one.change.week)} "
            f"({_cited(one.change.evidence, titles)})."
        )
    return said


def _cited(evidence: Evidence, titles: Mapping[str, str]) -> str:
    names = [titles.get(item_id) or item_id for item_id in evidence.item_ids[:_CITED]]
    return "like " + " and ".join(name[:TITLE_LENGTH] for name in names)


def _weeks(evidence: Evidence) -> str:
    first, last = _week(evidence.first_week), _week(evidence.last_week)
    return first if first == last else f"{first} to {last}"


def _week(ordinal: int) -> str:
    return Period(Granularity.WEEK, ordinal).name


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
