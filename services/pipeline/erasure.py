"""Erasure: a request is recorded at once, the next refresh carries it out everywhere."""

import uuid
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from services.core.schema import DEFAULT_TENANT, EVENT_TIME, INGEST_TIME, USER_ID, bucket_of
from services.runtime.settings import Settings
from services.store.erasures import Erasure, covered_events, finish_erasures, pending_erasures
from services.store.event_frames import ERASURE_ID
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from services.store.model_card import note_predated
from services.store.ports import EventTables, FeatureWriter, ModelRegistry, Overlays


def request_erasure(settings: Settings, tenant: str, user_id: str) -> str:
    """Record a request durably; return its id."""
    layout = Layout(settings.data_dir, settings.bucket_count)
    erasure_id = uuid.uuid4().hex
    rows = pl.DataFrame({ERASURE_ID: [erasure_id], USER_ID: [user_id]})
    InboxWriter(layout, "operator", tenant).append("erasures", rows)
    return erasure_id


def erase_requested(
    tables: EventTables,
    features: FeatureWriter,
    models: ModelRegistry,
    overlays: Overlays,
    settings: Settings,
    tenant: str = DEFAULT_TENANT,
) -> int:
    """Carry out every request that preprocess took in; return how many users were erased.

    A model that learned from the user cannot unlearn: its card names the request as predated.
    Safe to repeat: a request is forgotten only after every table and view is rid of the user.

    Raises:
        DependencyUnavailable: a store does not answer; the requests stay pending.
    """
    pending = pending_erasures(tables, tenant)
    if not pending:
        return 0
    for erasure in pending:
        _note_in_cards(tables, models, settings, tenant, erasure)
        tables.erase(tenant, [erasure.user_id], before=erasure.requested_time)
    users = sorted({erasure.user_id for erasure in pending})
    for space_id in sorted({model.space_id for model in models.list(tenant)}):
        features.erase(tenant, space_id, users)
    overlays.erase(tenant, users)
    finish_erasures(tables, tenant, [e.erasure_id for e in pending], datetime.now(UTC))
    return len(users)


def _note_in_cards(
    tables: EventTables, models: ModelRegistry, settings: Settings, tenant: str, erasure: Erasure
) -> None:
    """Name a request in the card of every model that saw an event of its user."""
    bucket = bucket_of(erasure.user_id, settings.bucket_count)
    events = covered_events(tables.read_events(tenant, bucket), erasure)
    for model in models.list(tenant):
        seen = events.filter(
            (pl.col(EVENT_TIME) < model.trained_until) & (pl.col(INGEST_TIME) <= model.trained_time)
        )
        if not seen.is_empty():
            note_predated(Path(models.folder(tenant, model.model_version)), erasure.erasure_id)
