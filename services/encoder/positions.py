"""Where the refresh of a bucket stands, and whom a change of events, items or clock concerns.

A position is one small JSON document that is replaced in one step after everything it stands for
was published. What was known of items then is a document of its own, which seldom changes. Neither
names users.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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
class Items:
    """What is described, and how: fingerprints of item versions."""

    # Item -> fingerprint of its versions up to an instant.
    prints: dict[str, str]
    # Of all of them: equal where nothing was described, nor described anew.
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What a bucket's published rows were made of."""

    # Version of the event table.
    version: int
    # Event-time now; later events were not used.
    as_of: datetime
    # No event that was not used, because it lies after `as_of`, lies before this instant.
    next_event: datetime | None
    # Of everything else that results depend on: model, granularities.
    recipe: str
    # Digest of the items as they were described; the items themselves are kept beside.
    items: str

    def to_state(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "version": self.version,
            "as_of": self.as_of.isoformat(),
            "next_event": self.next_event.isoformat() if self.next_event else None,
            "recipe": self.recipe,
            "items_digest": self.items,
        }


def position_of(state: dict[str, Any]) -> Position | None:
    """Return the position in a document; None where there is none that this version can read."""
    if "items_digest" not in state:
        return None
    later = state["next_event"]
    return Position(
        version=state["version"],
        as_of=datetime.fromisoformat(state["as_of"]),
        next_event=datetime.fromisoformat(later) if later else None,
        recipe=state["recipe"],
        items=state["items_digest"],
    )


def items_to_state(items: Items) -> dict[str, Any]:
    """Return JSON values."""
    return {"digest": items.digest, "items": items.prints}


def items_of(state: dict[str, Any], digest: str) -> dict[str, str] | None:
    """Return the items of a digest; None where the document holds others: a refresh was cut."""
    found: dict[str, str] | None = state["items"] if state.get("digest") == digest else None
    return found


def recipe_of(model: Model, granularities: Sequence[Granularity], bulk_day_events: int) -> str:
    """Return a digest of what, besides events and items, decides the results."""
    said = (RECIPE, model.space_id, model.model_version, sorted(granularities), bulk_day_events)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def fingerprints(items: pl.DataFrame, now: datetime, encoded: Collection[str]) -> Items:
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
    prints = {
        item_id: hashlib.sha256("\x1d".join(versions).encode()).hexdigest()[:12]
        for item_id, versions in joined.iter_rows()
    }
    digest = hashlib.sha256(repr(list(prints.items())).encode()).hexdigest()[:32]
    return Items(prints=prints, digest=digest)


def users_to_make(
    events: pl.DataFrame,
    changed_users: Sequence[str],
    position: Position | None,
    *,
    held_items: dict[str, str],
    items: Items,
    now: datetime,
) -> list[str]:
    """Return the users, ascending, whose results may differ from those at the position.

    Users with events that are new to the table; with events of items that were described, or
    described anew, since; with events that lay in the future then. No position: all.

    Args:
        events: of the bucket.
        changed_users: from the event table.
        position: of the bucket, made by the same recipe; None where there is none.
        held_items: fingerprints at the position.
        items: fingerprints now.
        now: event-time now.
    """
    if position is None:
        return sorted({*events[USER_ID].unique().to_list(), *changed_users})
    occurring = events[ITEM_ID].unique().to_list()
    stirred = [item for item in occurring if items.prints.get(item, "") != held_items.get(item, "")]
    came_due = pl.col(EVENT_TIME).is_between(position.as_of, now, closed="right")
    concerned = events.filter(came_due | pl.col(ITEM_ID).is_in(stirred))[USER_ID].unique()
    return sorted({*changed_users, *concerned.to_list()})


def are_others_still(position: Position, items: Items, now: datetime) -> bool:
    """Tell that nothing differs but of users with new events, without a look at the others."""
    return (
        now >= position.as_of
        and (position.next_event is None or position.next_event > now)
        and position.items == items.digest
    )


def position_after(
    events: pl.DataFrame,
    *,
    version: int,
    items: Items,
    recipe: str,
    now: datetime,
    before: Position | None = None,
) -> Position:
    """Return the position once everything of a bucket is published.

    Args:
        events: of the bucket; where `before` is given, at least those that are new since.
        version: of the event table.
        items: fingerprints now.
        recipe: what else was used.
        now: event-time now.
        before: the position until now, where the events that it knew of are not looked at again.
    """
    later = events.filter(pl.col(EVENT_TIME) > now)[EVENT_TIME].min()
    assert later is None or isinstance(later, datetime)
    known = [later.astimezone(UTC)] if later is not None else []
    if before is not None and before.next_event is not None:
        known.append(before.next_event)
    return Position(
        version=version,
        as_of=now,
        next_event=min(known, default=None),
        recipe=recipe,
        items=items.digest,
    )
