"""Replies of the SDK as the three uses get them: a portrait, a trajectory with a burst, demand."""

from dataclasses import replace
from datetime import UTC, datetime

from driftline import (
    BriefFigure,
    BriefMeasure,
    BriefPart,
    BriefStatement,
    BurstKind,
    ChangePoint,
    Evidence,
    EvidenceItem,
    InterestBurst,
    TopicInterest,
    TopicStanding,
    TopicTrend,
)
from driftline.testing import FakeClient

from services.core.periods import period_from_name
from services.core.schema import Granularity
from tests.core.burst_model import batch, model, with_burst

NOW = datetime(2018, 1, 1, tzinfo=UTC)
NAMES = ("Bread & <rolls>", "Wine $5", "Fuel", "Toys", "Fish", "Seeds")
WEEKS, BURST = 30, range(15, 18)
FIRST = period_from_name(Granularity.WEEK, "2017-W10")
DETECTION = model(names_G=NAMES)


def week(number):
    return (FIRST + number).name


def cited(title, first=0, last=20, count=12):
    return Evidence(
        items=(EvidenceItem(item_id=title.lower(), title=title),),
        first_week=week(first), last_week=week(last), event_count=count,
    )  # fmt: skip


def topic(name, weight, **changes):
    made = TopicInterest(
        topic_id=f"t_{name}", name=name, terms=(), categories=(), weight=weight,
        weight_low=weight - 0.05, weight_high=weight + 0.08, evidence=cited("Oat milk"),
        trend=TopicTrend.STEADY, trend_evidence=cited("Oat milk"), standing=TopicStanding.CORE,
        standing_evidence=cited("Rye", 0, 16), change=None,
    )  # fmt: skip
    return replace(made, **changes)


TOPICS = (
    topic("bread & <rolls>", 0.4),
    topic(
        "wine $5", 0.2, trend=TopicTrend.RISING, trend_evidence=cited("Merlot", 8, 20),
        standing=TopicStanding.FLING, standing_evidence=cited("Port", 17, 20),
        change=ChangePoint(
            week=week(17), share_before=0.05, share_after=0.31, evidence=cited("Cava", 17, 20, 9)
        ),
    ),
    topic(
        "fuel", 0.06, evidence=None, trend=TopicTrend.UNKNOWN, trend_evidence=None,
        standing=TopicStanding.NEITHER, standing_evidence=None,
    ),
)  # fmt: skip


def burst(**changes):
    made = InterestBurst(
        first_week=week(BURST[0]), last_week=week(BURST[-1]), kind=BurstKind.PERSONAL,
        topic_name="Toys", peak_share=0.55, is_lasting=False,
    )  # fmt: skip
    return replace(made, **changes)


def client(*, has_burst=True, gaps=()):
    """A gateway of two users who follow a level; "7" also has weeks of toys."""
    made, rows = FakeClient(now=NOW), batch(users=2, periods=WEEKS)
    if has_burst:
        rows = with_burst(rows, 1, BURST, topic=3, share=0.6)
    for row, user in enumerate(("6", "7")):
        for at in range(WEEKS):
            if at not in gaps:
                values = rows.vec_UTD[row, at].tolist()
                made.put_interest(user, values, period=week(at), event_count=20)
        made.put_profile(user, [("food", 0.6, 0.5)], event_count=600)
    return made


def profile(user="7", topics=TOPICS, bursts=()):
    return replace(
        client().get_profile(user), topics=topics, bursts=bursts, summary="Mostly bread."
    )


def demand_client():
    """Wine is asked much and served little; bread is served most; fuel has no item."""
    made = FakeClient(now=NOW)
    ahead = [(FIRST + WEEKS + h).name for h in range(3)]
    for topic_id, name, users, items in (
        ("t1", "bread", 60.0, 90), ("t2", "wine $5", 30.0, 9), ("t3", "<fuel>", 10.0, 0),
    ):  # fmt: skip
        made.put_demand(
            topic_id, dict.fromkeys(ahead, (users, 2 * users)), name=name, item_count=items,
            history={week(at): (int(users) + at % 3, 2 * int(users)) for at in range(WEEKS)},
        )  # fmt: skip
    return made


def with_trend(brief, topic_id, value, *, is_gap=False):
    """A brief that says where the topic's share goes, and whether it is a gap."""
    figure = BriefFigure(
        topic_id=topic_id, cohort="all", measure=BriefMeasure.TREND, value=value, low=None,
        high=None, first_period=week(0), last_period=week(20),
    )  # fmt: skip
    said = BriefStatement(
        part=BriefPart.GAP if is_gap else BriefPart.NEXT, text="It moves.", figures=(figure,),
        example_titles=(),
    )  # fmt: skip
    return replace(brief, statements=(*brief.statements, said))
