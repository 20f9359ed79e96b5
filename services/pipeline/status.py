"""`driftline status`: what is stored, what waits, what was refused."""

from dataclasses import dataclass

from services.core.cleaning import LINE, REASON, SOURCE
from services.core.schema import DEFAULT_TENANT, EVENT_ID, INGEST_TIME
from services.pipeline.preprocess import STATE
from services.runtime.settings import Settings
from services.store.erasures import pending_erasures
from services.store.layout import Layout
from services.store.tables import DeltaTables


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Counts of a tenant's event log."""

    events: int
    items: int
    item_versions: int
    # Event rows that said again what was stored, all time.
    duplicates: int
    rejected: int
    # The same by reason, most frequent first.
    reasons: dict[str, int]
    # Rows in the inboxes that preprocess has not taken in.
    waiting_events: int
    waiting_items: int
    waiting_erasures: int
    # Requests to erase that preprocess took in and refresh has not carried out.
    pending_erasures: int
    # Inbox log -> version up to which it is taken in.
    position: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """One refused row, without its content."""

    event_id: str
    source: str
    line: int | None
    reason: str
    ingest_time: str


def newest_rejects(
    settings: Settings, tenant: str = DEFAULT_TENANT, limit: int = 10
) -> list[RejectedRow]:
    """Return the rows that were refused last, oldest of them first."""
    tables = DeltaTables(Layout(settings.data_dir, settings.bucket_count))
    return [
        RejectedRow(
            event_id=row[EVENT_ID] or "",
            source=row[SOURCE],
            line=row[LINE],
            reason=row[REASON],
            ingest_time=row[INGEST_TIME].isoformat(timespec="seconds"),
        )
        for row in tables.read_rejects(tenant).tail(limit).iter_rows(named=True)
    ]


def status(settings: Settings, tenant: str = DEFAULT_TENANT) -> Status:
    """Count what is stored and what waits.

    Raises:
        InvalidArgument: the store was made with another bucket count.
        DependencyUnavailable: the store does not answer.
    """
    tables = DeltaTables(Layout(settings.data_dir, settings.bucket_count))
    state = tables.read_state(tenant, STATE)
    position = state.get("position", {})
    counts = tables.counts(tenant, position)
    return Status(
        events=counts.events,
        items=counts.items,
        item_versions=counts.item_versions,
        duplicates=state.get("taken", {}).get("duplicates", 0),
        rejected=sum(counts.rejects.values()),
        reasons=counts.rejects,
        waiting_events=counts.waiting_events,
        waiting_items=counts.waiting_items,
        waiting_erasures=counts.waiting_erasures,
        pending_erasures=len(pending_erasures(tables, tenant)),
        position=position,
    )
