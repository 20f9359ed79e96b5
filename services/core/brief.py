"""A brief for those who make content, by template: each sentence names the figures that it rests on.

Only what was published of demand goes in, and the catalogue's own counts. The sentences are plain
data, so that another writer may word them anew and be checked against their figures.

Shape suffixes: T = topics, P = periods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from services.core.demand import Told
from services.core.demand_forecast import SeriesForecast, shares
from services.core.noise import discoveries, trend_tests
from services.core.periods import Period
from services.core.pooling import F64
from services.core.schema import Granularity

# Periods that "lately" means, and those that a trend is told from.
LATELY, TREND_PERIODS = 8, 26
# Of all trends that are said, at most this part is expected to be noise.
FALSE_TRENDS = 0.05
# Items have this many times the share that demand has, or the other way round.
MISMATCH = 1.5
# Topics that a sentence of an audience names, at most.
_NAMED = 3
_ACTIVE = {"occasional": "1 to 2", "regular": "3 to 5", "frequent": "6 to 8"}


class Part(StrEnum):
    """What a sentence is about."""

    WHO = "who"
    NEXT = "next"
    OVER_SERVED = "over_served"
    EXAMPLES = "examples"
    GAP = "gap"


class Measure(StrEnum):
    """What a figure counts."""

    AUDIENCE = "audience"
    VOLUME = "volume"
    SHARE = "share"
    ITEM_COUNT = "item_count"
    ITEM_SHARE = "item_share"
    TREND = "trend"
    COHORT_USERS = "cohort_users"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number that a sentence rests on."""

    measure: Measure
    value: float
    topic_id: str = ""
    cohort: str = ""
    # The 80% interval of a forecast.
    low: float | None = None
    high: float | None = None
    # None where it is of no period.
    first: Period | None = None
    last: Period | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """One statement and its evidence."""

    part: Part
    text: str
    # At least one.
    figures: tuple[Figure, ...]
    titles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFacts:
    """What is known of a topic in one cohort."""

    topic_id: str
    name: str
    # Users and events a period, lately.
    audience: Figure
    volume: Figure
    share: Figure
    # Of the next period.
    share_next: Figure
    # Of a share's trend over TREND_PERIODS, and whether it stands out of the noise.
    trend: Figure
    is_trend: bool
    item_count: Figure
    item_share: Figure
    # Nearest to the topic's middle.
    titles: tuple[str, ...]

    @property
    def is_rising(self) -> bool:
        return self.is_trend and self.trend.value > 0

    @property
    def is_over_served(self) -> bool:
        """Tell whether items outweigh even the upper end of the demand."""
        high = self.share_next.high or 0.0
        return self.item_share.value > max(high, MISMATCH * self.share_next.value)

    @property
    def is_gap(self) -> bool:
        """Tell whether demand rises and even its lower end outweighs the items."""
        low = self.share_next.low or 0.0
        few = min(low, self.share_next.value / MISMATCH)
        return self.is_rising and self.item_share.value < few


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What the catalogue has, topic by topic."""

    topic_ids: tuple[str, ...]
    names: tuple[str, ...]
    # Words that set the titles of each apart.
    terms: tuple[tuple[str, ...], ...]
    item_counts: tuple[int, ...]
    titles: tuple[tuple[str, ...], ...]


def topic_facts(
    seen: Told, share: SeriesForecast, supply: Supply, *, cohort: str, newest: Period
) -> tuple[TopicFacts, ...]:
    """Return what is known of each topic of a cohort.

    Args:
        seen: what was published, rows as in `supply`; the newest period is told.
        share: forecast of the shares, same rows.
        supply: the catalogue.
        cohort: whose demand it is.
        newest: period of the last column.
    """
    lately = newest + (1 - min(LATELY, seen.size_P.shape[0]))
    items = max(sum(supply.item_counts), 1)
    audience_T, volume_T = (
        _lately(np.maximum(rows, 0)) for rows in (seen.audience_TP, seen.volume_TP)
    )
    share_T = _lately(shares(seen.volume_TP))
    z_T, is_trend_T, oldest = _trends(seen.volume_TP, newest)
    found = []
    for t, topic_id in enumerate(supply.topic_ids):
        blank = Figure(
            measure=Measure.SHARE, value=0.0, topic_id=topic_id, cohort=cohort, first=lately,
            last=newest,
        )  # fmt: skip
        stock = Figure(measure=Measure.ITEM_COUNT, value=supply.item_counts[t], topic_id=topic_id)
        low, high = share.bound_NHQ[t, 0, :2].tolist()
        found.append(
            TopicFacts(
                topic_id=topic_id,
                name=supply.names[t] or topic_id,
                audience=replace(blank, measure=Measure.AUDIENCE, value=float(audience_T[t])),
                volume=replace(blank, measure=Measure.VOLUME, value=float(volume_T[t])),
                share=replace(blank, value=float(share_T[t])),
                share_next=replace(
                    blank, value=float(share.mean_NH[t, 0]), low=low, high=high,
                    first=newest + 1, last=newest + 1,
                ),
                trend=replace(blank, measure=Measure.TREND, value=float(z_T[t]), first=oldest),
                is_trend=bool(is_trend_T[t]),
                item_count=stock,
                item_share=replace(stock, measure=Measure.ITEM_SHARE, value=stock.value / items),
                titles=supply.titles[t],
            )
        )  # fmt: skip
    return tuple(found)


def brief_of_topic(facts: TopicFacts, by_cohort: Mapping[str, Figure]) -> tuple[Sentence, ...]:
    """Return the brief of one topic.

    Args:
        facts: of everyone.
        by_cohort: lately's audience of each cohort that is served, `all` not among them.
    """
    unit = _unit(facts.audience)
    total = max(sum(figure.value for figure in by_cohort.values()), 1e-9)
    parts = sorted(by_cohort.items(), key=lambda one: -one[1].value)[:_NAMED]
    who = f"About {facts.audience.value:.0f} users a {unit} turn to {facts.name}"
    if len(by_cohort) > 1:
        said = ", ".join(f"{_percent(figure.value / total)} {name}" for name, figure in parts)
        who += f" ({said})"
    sentences = [
        Sentence(
            part=Part.WHO,
            text=f"{who}, lately.",
            figures=(facts.audience, *(figure for _, figure in parts if len(by_cohort) > 1)),
        ),
        _next(facts),
    ]
    if facts.is_over_served:
        sentences.append(_over_served(facts))
    if facts.is_gap:
        sentences.append(_gap(facts))
    if facts.titles:
        sentences.append(_examples(facts))
    return tuple(sentences)


def brief_of_cohort(
    cohort: str, users: Figure, facts: Sequence[TopicFacts]
) -> tuple[Sentence, ...]:
    """Return the brief of one audience.

    Args:
        cohort: its name.
        users: how many they are, at least.
        facts: of every topic in this cohort.
    """
    lately = sorted(facts, key=lambda one: (-one.share.value, one.topic_id))[:_NAMED]
    named = ", ".join(f"{one.name} ({_percent(one.share.value)})" for one in lately)
    of = describe_cohort(cohort, {one.topic_id: one.name for one in facts}, _unit(users))
    who = f"At least {users.value:.0f} users, {of}"
    sentences = [
        Sentence(
            part=Part.WHO,
            text=f"{who}: lately mostly {named}.",
            figures=(users, *(one.share for one in lately)),
        )
    ]
    ahead = sorted(facts, key=lambda one: (-one.share_next.value, one.topic_id))[:_NAMED]
    sentences += [_next(one) for one in ahead]
    moving = [one for one in facts if one.is_trend and one not in ahead]
    moving.sort(key=lambda one: (-abs(one.trend.value), one.topic_id))
    sentences += [_next(one) for one in moving[:_NAMED]]
    over = [one for one in facts if one.is_over_served]
    over.sort(key=lambda one: (one.share_next.value - one.item_share.value, one.topic_id))
    sentences += [_over_served(one) for one in over[:_NAMED]]
    gaps = [one for one in facts if one.is_gap]
    gaps.sort(key=lambda one: (one.item_share.value - one.share_next.value, one.topic_id))
    sentences += [_gap(one) for one in gaps[:_NAMED]]
    sentences += [_examples(one) for one in ahead if one.titles]
    return tuple(sentences)


def describe_cohort(cohort: str, names: Mapping[str, str], unit: str) -> str:
    """Return what a cohort is, in words; `names` are of topics by id, `unit` is a period's."""
    if cohort in _ACTIVE:
        return f"active in {_ACTIVE[cohort]} of the last 8 {unit}s"
    name = names.get(cohort, "")
    return (
        f"most given to {name} in the last 8 {unit}s" if name else f"active in the last 8 {unit}s"
    )


def _next(facts: TopicFacts) -> Sentence:
    ahead = facts.share_next
    assert ahead.first is not None and ahead.low is not None and ahead.high is not None
    text = (
        f"{facts.name} is expected to have {_percent(ahead.value)} of what they turn to in "
        f"{ahead.first.name} ({_percent(ahead.low)} to {_percent(ahead.high)}), "
        f"after {_percent(facts.share.value)} lately"
    )
    figures = [ahead, facts.share]
    if facts.is_trend:
        text += ", and its share rises" if facts.is_rising else ", and its share fades"
        figures.append(facts.trend)
    return Sentence(part=Part.NEXT, text=f"{text}.", figures=tuple(figures))


def _over_served(facts: TopicFacts) -> Sentence:
    text = (
        f"{facts.name} is over-served: {_percent(facts.item_share.value)} of the items "
        f"({facts.item_count.value:.0f}) for {_percent(facts.share_next.value)} of the demand."
    )
    figures = (facts.item_share, facts.item_count, facts.share_next)
    return Sentence(part=Part.OVER_SERVED, text=text, figures=figures)


def _gap(facts: TopicFacts) -> Sentence:
    text = (
        f"{facts.name} is a gap: demand rises to {_percent(facts.share_next.value)}, with "
        f"{_percent(facts.item_share.value)} of the items ({facts.item_count.value:.0f})."
    )
    figures = (facts.share_next, facts.trend, facts.item_share, facts.item_count)
    return Sentence(part=Part.GAP, text=text, figures=figures)


def _examples(facts: TopicFacts) -> Sentence:
    titles = "; ".join(facts.titles)
    return Sentence(
        part=Part.EXAMPLES,
        text=f"Typical of {facts.name}: {titles}.",
        figures=(facts.item_count,),
        titles=facts.titles,
    )


def _trends(volume_TP: F64, newest: Period) -> tuple[F64, NDArray[np.bool_], Period]:
    """Return each share's trend, whether it is one, and the first period that was looked at."""
    count_TP = np.maximum(np.nan_to_num(volume_TP[:, -TREND_PERIODS:]), 0)
    used_P = count_TP.sum(0) > 0
    tests = trend_tests(count_TP[:, used_P], count_TP[:, used_P].sum(0))
    oldest = int(np.argmax(used_P)) if used_P.any() else count_TP.shape[1] - 1
    first = newest + (oldest + 1 - count_TP.shape[1])
    return tests.z_T, discoveries(tests.p_value_T, FALSE_TRENDS), first


def _lately(rows_TP: F64) -> F64:
    last_TP = rows_TP[:, -LATELY:]
    seen_T = (~np.isnan(last_TP)).sum(1)
    return np.where(seen_T > 0, np.nansum(last_TP, axis=1) / np.maximum(seen_T, 1), 0.0)


def _unit(figure: Figure) -> str:
    return str(figure.last.granularity if figure.last is not None else Granularity.WEEK)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share < 0.1 else f"{100 * share:.0f}%"
