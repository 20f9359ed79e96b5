"""What the vectors are for, as three sections of the report: a portrait, a burst, content demand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from driftline import Client, NotReadyError, Profile, TopicStanding, TopicTrend

from services.core.model import Model
from services.demo.burst_example import BurstExample, burst_example
from services.demo.demand_story import DemandStory, demand_story
from services.store.ports import FeatureWriter

# Users who are asked for their portrait; the one who says most is shown.
PORTRAITS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """What the SDK said for the three."""

    profile: Profile
    # Users whose portrait was asked for, and of those who have a trend, a fling or a change of a topic.
    asked: int
    moving: int
    # None where the model tells no bursts.
    burst: BurstExample | None
    # None where no topic's demand was published.
    demand: DemandStory | None


def gather_uses(
    client: Client, features: FeatureWriter, model: Model, buckets: Iterable[int],
    users: Sequence[str],
) -> Uses:  # fmt: skip
    """Ask for all three.

    Args:
        client: of the gateway.
        features: where bursts are stored.
        model: the live one.
        buckets: of the store.
        users: the first are asked for their portraits, and looked through where nobody had a burst.
    """
    try:
        demand = demand_story(client)
    except NotReadyError:
        demand = None
    portraits = [client.get_profile(user) for user in users[:PORTRAITS]]
    return Uses(
        profile=max(portraits, key=statements), asked=len(portraits),
        moving=sum(statements(one) > 0 for one in portraits), demand=demand,
        burst=burst_example(client, features, model, buckets, users),
    )  # fmt: skip


def statements(profile: Profile) -> int:
    """Return how much a portrait says beyond shares: trends told from noise, flings and changes."""
    return sum(
        (one.trend in (TopicTrend.RISING, TopicTrend.FADING))
        + (one.standing is TopicStanding.FLING)
        + (one.change is not None)
        for one in profile.topics
    )


def uses_figures(uses: Uses) -> dict[str, Any]:
    """Return what `report.json` holds of them."""
    return {
        "portrait_user_id": uses.profile.user_id,
        "portraits_asked": uses.asked,
        "portraits_moving": uses.moving,
        "portrait": [
            {
                "topic_id": one.topic_id, "name": one.name, "weight": one.weight,
                "weight_low": one.weight_low, "weight_high": one.weight_high,
                "trend": one.trend.value, "standing": one.standing.value,
                "change_week": one.change.week if one.change else None,
            }
            for one in uses.profile.topics
        ],
        "burst": _burst_figures(uses.burst) if uses.burst else None,
        "demand": _demand_figures(uses.demand) if uses.demand else None,
    }  # fmt: skip


def _burst_figures(one: BurstExample) -> dict[str, Any]:
    return {
        "user_id": one.user_id,
        "is_near_miss": one.shown is None,
        "kind": one.shown.kind.value if one.shown else None,
        "topic": one.topic_name,
        "first_week": one.first_week,
        "last_week": one.last_week,
        "peak_evidence": one.peak_evidence,
        "users_with_a_burst": one.user_count,
        "forecast_widths": {
            name: {"served": served, "knowing_of_no_bursts": plain}
            for name, (served, plain) in one.widths().items()
        },
    }


def _demand_figures(story: DemandStory) -> dict[str, Any]:
    return {
        "newest_period": story.demand.basis.newest_period,
        "topics": len(story.demand.topics),
        "drawn": story.drawn.topic_id,
        "scarce": [
            {
                "topic_id": one.topic.topic_id, "name": one.topic.name, "trend": one.trend,
                "share_next": one.demand_share, "item_share": one.item_share, "is_gap": one.is_gap,
            }
            for one in story.scarce
        ],
    }  # fmt: skip
