"""Topics of a set of events, as a service would have had them before the period that is asked about.

Shape suffixes: I = items, D = width.
"""

from collections.abc import Sequence

from services.core.errors import InvalidArgument
from services.core.pooling import I64
from services.core.records import F32
from services.core.topics import Topics, assign_topics, refresh_topics


def learned_topics(
    items_ID: F32, texts: Sequence[str], old: Sequence[int], *, seed: int
) -> tuple[Topics, I64]:
    """Return topics learned from the old items alone, and the topic of every item.

    Args:
        items_ID: unit-norm vectors.
        texts: of the items.
        old: rows of the items that were there.
        seed: of the topics.

    Returns:
        topics: what was learned.
        topic_I: rows of `topics`; NO_TOPIC for an item without a direction.

    Raises:
        InvalidArgument: fewer than two old items.
    """
    topics = refresh_topics(
        None, items_ID[old], [texts[row] for row in old], [()] * len(old), seed=seed
    )
    if topics is None:
        raise InvalidArgument("events", "fewer than two items with a text make no topics")
    return topics, assign_topics(items_ID, topics.centroids_TD)
