"""What is stored and what waits, counted."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCounts:
    """How many rows are stored."""

    events: int
    # Versions of items, and items.
    item_versions: int
    items: int
    # Reason -> rows.
    rejects: dict[str, int]
    # Rows in the inboxes after a position.
    waiting_events: int
    waiting_items: int
    waiting_erasures: int
