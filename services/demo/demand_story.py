"""What content is asked for, as the SDK told it: one topic, and those that rise and have few items."""

from collections.abc import Mapping
from dataclasses import dataclass

from driftline import Brief, BriefMeasure, BriefPart, Client, Demand, TopicDemand

# Topics that are asked a brief of, and rows of the table.
BRIEFS, ROWS = 24, 10
HISTORY = 52


@dataclass(frozen=True, slots=True, kw_only=True)
class ScarceTopic:
    """A topic with a greater share of the demand than of the items."""

    topic: TopicDemand
    # Of the items that have a topic.
    item_share: float
    # Standard deviations of its noise; None where no trend was told from noise.
    trend: float | None
    # The brief calls it a gap.
    is_gap: bool

    @property
    def demand_share(self) -> float:
        """Expected of the next period."""
        return self.topic.forecasts[0].share.mean

    @property
    def ratio(self) -> float:
        """Demand's share over the items' share; infinite where there is no item."""
        return self.demand_share / self.item_share if self.item_share > 0 else float("inf")

    @property
    def is_rising(self) -> bool:
        """Whether its share rises by more than noise."""
        return self.trend is not None and self.trend > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandStory:
    """One topic's demand, and what is scarce."""

    drawn: TopicDemand
    # Rising ones first, then by ratio, largest first.
    scarce: tuple[ScarceTopic, ...]
    # Topics that a brief was asked of.
    asked: int
    # Of the drawn topic.
    brief: Brief
    demand: Demand


def demand_story(client: Client) -> DemandStory | None:
    """Ask for the demand of everyone and for briefs of what seems scarce; None without topics."""
    demand = client.forecast_demand(history_count=HISTORY)
    if not demand.topics:
        return None
    asked = seemingly_scarce(demand)
    briefs = {one.topic_id: client.draft_brief(topic_id=one.topic_id) for one in asked}
    scarce = scarce_topics(demand, briefs)
    drawn = scarce[0].topic if scarce and scarce[0].is_rising else demand.topics[0]
    brief = briefs.get(drawn.topic_id) or client.draft_brief(topic_id=drawn.topic_id)
    return DemandStory(
        drawn=drawn, scarce=scarce[:ROWS], asked=len(asked), brief=brief, demand=demand
    )


def seemingly_scarce(demand: Demand) -> list[TopicDemand]:
    """Return topics that are asked more than they are served, the scarcest first."""
    total = max(sum(one.item_count for one in demand.topics), 1)
    ratio = {
        one.topic_id: one.forecasts[0].share.mean * total / max(one.item_count, 1)
        for one in demand.topics
        if one.forecasts
    }
    found = [one for one in demand.topics if ratio.get(one.topic_id, 0.0) > 1.0]
    return sorted(found, key=lambda one: (-ratio[one.topic_id], one.topic_id))[:BRIEFS]


def scarce_topics(demand: Demand, briefs: Mapping[str, Brief]) -> tuple[ScarceTopic, ...]:
    """Return the topics that briefs are of: rising first, then by ratio."""
    total = max(sum(one.item_count for one in demand.topics), 1)
    found = [
        ScarceTopic(
            topic=one, item_share=one.item_count / total,
            trend=trend_of(briefs[one.topic_id], one.topic_id),
            is_gap=any(said.part is BriefPart.GAP for said in briefs[one.topic_id].statements),
        )
        for one in demand.topics
        if one.topic_id in briefs
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda one: (not one.is_rising, -one.ratio, one.topic.topic_id)))


def trend_of(brief: Brief, topic_id: str) -> float | None:
    """Return the trend that a brief rests on; None where it names none."""
    for statement in brief.statements:
        for figure in statement.figures:
            if figure.measure is BriefMeasure.TREND and figure.topic_id == topic_id:
                return figure.value
    return None
