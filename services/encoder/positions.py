"""Where the refresh of a bucket stands, and whom a change of events, items or clock concerns.

A position is one small JSON document that is replaced in one step after everything it stands for
was published. It names items, never users.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from services.core.model import Model
from services.core.schema import (
    CATEGORIES,
    CONTENT_HASH,
    EVENT_TIME,
    ITEM_ID,
    UPDATED_TIME,
    USER_ID,
    Granularity,
)

# Before every commit of the event table.
NO_VERSION_YET = -1
_FINGERPRINT = "fingerprint"
# Raised where a version of this program publishes more of a user than the one before: all are made
# again once. 2: user_activity.
RECIPE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What a bucket's published rows were made of."""

    # Version of the event table.
    version: int
    # Event-time now; later events were not used.
    as_of: datetime
    # First event that was not used because it lies after `as_of`.
    next_event: datetime | None
    # Of everything else that results depend on: model, granularities.
    recipe: str
    # Item -> fingerprint of its versions, for the items in the bucket's events.
    items: dict[str, str]

    def to_state(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "version": self.version,
            "as_of": self.as_of.isoformat(),
            "next_event": self.next_event.isoformat() if self.next_event else None,
            "recipe": self.recipe,
            "items": self.items,
        }


def position_of(state: dict[str, Any]) -> Position | None:
    """Return the position in a document; None where there is none."""
    if not state:
        return None
    later = state["next_event"]
    return Position(
        version=state["version"],
        as_of=datetime.fromisoformat(state["as_of"]),
        next_event=datetime.fromisoformat(later) if later else None,
        recipe=state["recipe"],
        items=state["items"],
    )


def recipe_of(model: Model, granularities: Sequence[Granularity], bulk_day_events: int) -> str:
    """Return a digest of what, besides events and items, decides the results."""
    said = (RECIPE, model.space_id, model.model_version, sorted(granularities), bulk_day_events)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def fingerprints(items: pl.DataFrame, now: datetime, encoded: Collection[str]) -> dict[str, str]:
    """Return a digest of each item's versions up to `now`; items without any are left out.

    Args:
        items: every version (ITEM_COLUMNS).
        now: event-time now.
        encoded: content hashes that have a vector; a version without one does not count yet.
    """
    rows = items.filter(
        (pl.col(UPDATED_TIME) <= now) & pl.col(CONTENT_HASH).is_in(list(encoded))
    ).sort(ITEM_ID, UPDATED_TIME, CONTENT_HASH)
    said = pl.concat_str(
        pl.col(UPDATED_TIME).dt.timestamp("us").cast(pl.String),
        pl.col(CONTENT_HASH),
        pl.col(CATEGORIES).list.join("\x1f").fill_null(""),
        separator="\x1e",
    )
    joined = rows.group_by(ITEM_ID, maintain_order=True).agg(said.alias(_FINGERPRINT))
    return {
        item_id: hashlib.sha256("\x1d".join(versions).encode()).hexdigest()[:12]
        for item_id, versions in joined.iter_rows()
    }


def users_to_make(
    events: pl.DataFrame,
    changed_users: Sequence[str],
    position: Position | None,
    *,
    items: dict[str, str],
    now: datetime,
) -> list[str]:
    """Return the users, ascending, whose results may differ from those at the position.

    Users with events that are new to the table; with events of items that were described, or
    described anew, since; with events that lay in the future then. No position: all.

    Args:
        events: of the bucket.
        changed_users: from the event table.
        position: of the bucket, made by the same recipe; None where there is none.
        items: fingerprints now.
        now: event-time now.
    """
    if position is None:
        return sorted({*events[USER_ID].unique().to_list(), *changed_users})
    occurring = events[ITEM_ID].unique().to_list()
    stirred = [item for item in occurring if items.get(item, "") != position.items.get(item, "")]
    came_due = pl.col(EVENT_TIME).is_between(position.as_of, now, closed="right")
    concerned = events.filter(came_due | pl.col(ITEM_ID).is_in(stirred))[USER_ID].unique()
    return sorted({*changed_users, *concerned.to_list()})


def is_still(
    position: Position, changed_users: Sequence[str], items: dict[str, str], now: datetime
) -> bool:
    """Tell that nothing can differ, without a look at the events."""
    return (
        not changed_users
        and now >= position.as_of
        and (position.next_event is None or position.next_event > now)
        and all(items.get(item, "") == held for item, held in position.items.items())
    )


def position_after(
    events: pl.DataFrame, *, version: int, items: dict[str, str], recipe: str, now: datetime
) -> Position:
    """Return the position once everything of a bucket is published."""
    later = events.filter(pl.col(EVENT_TIME) > now)[EVENT_TIME].min()
    assert later is None or isinstance(later, datetime)
    return Position(
        version=version,
        as_of=now,
        next_event=later.astimezone(UTC) if later is not None else None,
        recipe=recipe,
        # An item that is not described yet is kept as such: its first description is a change.
        items={item: items.get(item, "") for item in sorted(events[ITEM_ID].unique().to_list())},
    )


def strictly_after(previous: datetime | None) -> datetime:
    """Return the wall clock's now, later than any instant it returned before."""
    now = datetime.now(UTC)
    return now if previous is None or now > previous else previous + timedelta(microseconds=1)
