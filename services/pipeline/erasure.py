"""Erasure: a request is recorded at once, the next refresh carries it out everywhere."""

import uuid
from datetime import UTC, datetime

import polars as pl

from services.core.schema import DEFAULT_TENANT, USER_ID
from services.runtime.settings import Settings
from services.store.erasures import finish_erasures, pending_erasures
from services.store.event_frames import ERASURE_ID
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from services.store.ports import EventTables, FeatureWriter, ModelRegistry


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
    settings: Settings,
    tenant: str = DEFAULT_TENANT,
) -> int:
    """Carry out every request that preprocess took in; return how many users were erased.

    Safe to repeat: a request is forgotten only after every table and view is rid of the user.

    Raises:
        DependencyUnavailable: a store does not answer; the requests stay pending.
    """
    pending = pending_erasures(tables, tenant)
    if not pending:
        return 0
    for erasure in pending:
        tables.erase(tenant, [erasure.user_id], before=erasure.requested_time)
    users = sorted({erasure.user_id for erasure in pending})
    for space_id in sorted({model.space_id for model in models.list(tenant)}):
        features.erase(tenant, space_id, users)
    finish_erasures(tables, tenant, [e.erasure_id for e in pending], datetime.now(UTC))
    return len(users)
