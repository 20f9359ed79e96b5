"""Preprocess: inbox -> clean events, item versions, rejects.

Crash-safe: before anything is appended, the batch (its positions and instant) is written down; what
a crash left half done is done again with the same batch and the same batch_id, which appends
nothing twice. The position moves after the appends.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from services.core.cleaning import (
    LINE,
    RAW,
    REASON,
    REJECT_SCHEMA,
    clean_events,
)
from services.core.event_ids import settle, told_once
from services.core.item_cleaning import clean_items, item_conflicts
from services.core.items import new_versions, with_content_hash
from services.core.schema import DEFAULT_TENANT, EVENT_ID
from services.runtime.settings import Settings
from services.store.erasures import erased_rejects, record_erasures, tombstones
from services.store.ports import EventTables, InboxBatch

STATE = "intake"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessSummary:
    """What one preprocess took in."""

    # Events more in the table.
    events: int = 0
    # Rows that said again what is stored or was refused, or what another of the batch says.
    duplicates: int = 0
    # Item versions stored.
    items: int = 0
    # Rows refused.
    rejected: int = 0
    # The same by reason.
    reasons: dict[str, int] = field(default_factory=dict)
    # Requests to erase a user that came in.
    erasures: int = 0
    # Events dropped because their user was erased after they were recorded.
    erased_events: int = 0

    def __add__(self, other: "PreprocessSummary") -> "PreprocessSummary":
        return PreprocessSummary(
            events=self.events + other.events,
            duplicates=self.duplicates + other.duplicates,
            items=self.items + other.items,
            rejected=self.rejected + other.rejected,
            reasons=dict(Counter(self.reasons) + Counter(other.reasons)),
            erasures=self.erasures + other.erasures,
            erased_events=self.erased_events + other.erased_events,
        )


def preprocess(
    tables: EventTables,
    settings: Settings,
    *,
    tenant: str = DEFAULT_TENANT,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> PreprocessSummary:
    """Take in all that waits in the inboxes; one job at a time, others wait for it.

    Args:
        tables: the event log.
        settings: for the clock.
        tenant: whose data.
        on_progress: called with "preprocess", batches done, batches known of.

    Raises:
        DependencyUnavailable: the store does not answer; call it again.
    """
    summary = PreprocessSummary()
    with tables.intake_lock(tenant):
        batch_count, is_last = 0, False
        while not is_last:
            state = tables.read_state(tenant, STATE)
            position, pending = state.get("position", {}), state.get("pending")
            until = pending and pending["until"]
            now = datetime.fromisoformat(pending["now"]) if pending else settings.clock()
            batch = tables.read_inbox(tenant, position, until)
            is_last = batch.is_last and not pending
            if batch.position != position:
                summary += _take_in(tables, tenant, batch, now, state)
                batch_count += 1
                on_progress("preprocess", batch_count, batch_count + (not is_last))
        tables.trim_inbox(tenant, batch.position)
    return summary


def _take_in(
    tables: EventTables,
    tenant: str,
    batch: InboxBatch,
    now: datetime,
    state: dict[str, Any],
) -> PreprocessSummary:
    summary = PreprocessSummary()
    if not (batch.events.is_empty() and batch.items.is_empty() and batch.erasures.is_empty()):
        pending = {"until": batch.position, "now": now.isoformat()}
        tables.write_state(tenant, STATE, {**state, "pending": pending})
        batch_id = _batch_id(state.get("position", {}), batch.position)
        summary = _store(tables, tenant, batch, batch_id, now)
    taken = PreprocessSummary(**state.get("taken", {})) + summary
    new_state = {
        "position": batch.position,
        "taken": {"events": taken.events, "duplicates": taken.duplicates, "items": taken.items},
        "updated_time": datetime.now(UTC).isoformat(),
    }
    tables.write_state(tenant, STATE, new_state)
    return summary


def _store(
    tables: EventTables, tenant: str, batch: InboxBatch, batch_id: str, now: datetime
) -> PreprocessSummary:
    # First: this batch's events from before a request must not get past it.
    record_erasures(tables, tenant, batch.erasures)
    if batch.events.is_empty() and batch.items.is_empty():
        return PreprocessSummary(erasures=batch.erasures.height)
    raw, refused = _split_erased(tables, tenant, batch.events)
    cleaned = clean_events(raw.with_columns(pl.lit(None, pl.Int64).alias(LINE)), now)
    known = tables.known_events(tenant, cleaned.events[EVENT_ID])
    settled = settle(cleaned.events, known)
    items = clean_items(batch.items, now)
    versions, conflicts = new_versions(with_content_hash(items.items), tables.read_items(tenant))
    said = pl.concat([cleaned.rejects, settled.rejects, items.rejects, item_conflicts(conflicts)])
    untold = tables.untold_rejects(tenant, told_once(said))
    rejects = pl.concat([refused, untold])
    # First: once the events are stored, nothing tells any more which of them gave way.
    tables.append_rejects(tenant, rejects, batch_id)
    tables.append_events(tenant, settled.events, batch_id, settled.displaced)
    tables.append_items(tenant, versions, batch_id)
    return PreprocessSummary(
        events=settled.events.height - settled.displaced.height,
        duplicates=settled.duplicates + said.height - untold.height,
        items=versions.height,
        rejected=rejects.height,
        reasons=dict(rejects[REASON].value_counts().iter_rows()),
        erasures=batch.erasures.height,
        erased_events=batch.events.height - raw.height,
    )


def _split_erased(
    tables: EventTables, tenant: str, events: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the events that no erasure covers, and rejects that say only how many others came."""
    is_erased = tombstones(tables, tenant).covers(events)
    gone = events.filter(is_erased).with_columns(
        pl.lit(None, pl.Int64).alias(LINE),
        *(pl.lit(None, pl.String).alias(name) for name in (REASON, RAW)),
    )
    return events.filter(~is_erased), erased_rejects(gone.select(*REJECT_SCHEMA))


def _batch_id(before: dict[str, int], after: dict[str, int]) -> str:
    positions = json.dumps([before, after], sort_keys=True)
    return f"batch-{hashlib.sha256(positions.encode()).hexdigest()[:32]}"
