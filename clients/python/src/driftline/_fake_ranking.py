"""The plain rules by which the fake gateway filters, counts and cites; see `driftline.testing`."""

from collections.abc import Iterable
from typing import Any

from .v1 import event_pb2
from .v1 import recommendation_service_pb2 as rec

_WEEK_S = 7 * 86_400


def is_allowed(item: event_pb2.Item, wishes: Any, had: set[str]) -> bool:
    """Tell whether an item may be recommended to who had these."""
    policy = wishes.consumed_policy
    return (
        item.item_id not in wishes.excluded_item_ids
        and (not wishes.allowed_item_ids or item.item_id in wishes.allowed_item_ids)
        and is_in(item, wishes.categories)
        and not (policy == rec.CONSUMED_POLICY_DROP and item.item_id in had)
        and not (policy == rec.CONSUMED_POLICY_ONLY and item.item_id not in had)
    )


def is_in(item: event_pb2.Item, categories: Iterable[str]) -> bool:
    """Tell whether an item has one of some categories; none named means all."""
    named = set(categories)
    return not named or bool(set(item.categories) & named)


def among_declared(
    items: list[event_pb2.Item], declared: Iterable[str]
) -> tuple[list[event_pb2.Item], rec.FallbackKind.ValueType]:
    """Return what a stranger gets: what is in the declared categories, or else all."""
    named = list(declared)
    found = [item for item in items if is_in(item, named)] if named else []
    if found:
        return found, rec.FALLBACK_KIND_DECLARED_CATEGORIES
    return items, rec.FALLBACK_KIND_POPULAR


def scored_item(item: event_pb2.Item, score: float) -> rec.ScoredItem:
    """Return an item with its score."""
    return rec.ScoredItem(
        item_id=item.item_id, title=item.title, categories=item.categories, score=score
    )


def cited(item: event_pb2.Item, own: list[event_pb2.Event], effect: float) -> rec.CitedItem:
    """Return the user's own events of an item as what its score rests on; weeks are not decayed."""
    newest = max(own, key=lambda one: (one.event_time.seconds, one.event_time.nanos))
    return rec.CitedItem(
        item_id=item.item_id,
        title=item.title,
        effect=effect,
        # Weeks begin on Mondays; 1970 began on a Thursday.
        week_count=len({(one.event_time.seconds + 3 * 86_400) // _WEEK_S for one in own}),
        last_time=newest.event_time,
    )


def share(item_id: str, item_ids: Iterable[str]) -> float:
    """Return how much of a list is one item."""
    all_ids = list(item_ids)
    return all_ids.count(item_id) / len(all_ids) if all_ids else 0.0
