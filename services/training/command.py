"""`driftline train`: from the stored events to a model in the registry."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from services.core.errors import InvalidArgument
from services.core.items import encoder_text
from services.core.records import ModelInfo
from services.core.schema import DEFAULT_TENANT, ITEM_ID, TEXT, TITLE, UPDATED_TIME
from services.runtime.settings import Settings
from services.store.backbone import load_backbone
from services.store.model_folder import load_info, save_model
from services.store.ports import EventTables, ModelRegistry
from services.training.train import Progress, TrainConfig, train


def run_train(
    tables: EventTables,
    models: ModelRegistry,
    settings: Settings,
    *,
    until: datetime,
    tenant: str = DEFAULT_TENANT,
    promote: bool = True,
    config: TrainConfig | None = None,
    on_progress: Progress = lambda stage, done, total: None,
) -> ModelInfo:
    """Train on a tenant's events strictly before `until` and add the model to the registry.

    Args:
        tables: events and items.
        models: the registry.
        settings: backbone, granularities.
        until: aware.
        tenant: whose data.
        promote: make the model live; else it stays a candidate.
        config: what is trained; the default forecasts each of the settings' granularities.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: too few events before `until`.
    """
    chosen = config or TrainConfig(forecast_granularities=tuple(settings.granularities))
    events = tables.read_events(tenant)
    if events.is_empty():
        raise InvalidArgument("events", "none are stored; run `driftline import`")
    backbone = load_backbone(settings.backbone)
    model = train(
        events, item_texts(tables.read_items(tenant)), backbone, chosen,
        until=until, on_progress=on_progress,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / model.model_version
        info = save_model(folder, model)
        models.add(tenant, str(folder), info)
    if promote:
        models.promote(tenant, info.model_version)
    return load_info(
        Path(models.folder(tenant, info.model_version)), "live" if promote else "candidate"
    )


def item_texts(items: pl.DataFrame) -> pl.DataFrame:
    """Return item_id, updated_time and the text that the encoder reads, one row a version."""
    distinct = items.select(TITLE, TEXT).unique()
    read = [encoder_text(title or "", text or "") for title, text in distinct.iter_rows()]
    texts = distinct.with_columns(pl.Series("_read", read, dtype=pl.String))
    return items.join(texts, on=[TITLE, TEXT], how="left", nulls_equal=True).select(
        ITEM_ID, UPDATED_TIME, pl.col("_read").alias(TEXT)
    )


def parse_until(text: str | None, settings: Settings) -> datetime:
    """Return the instant a date names (its first, UTC); now where there is none.

    Raises:
        InvalidArgument: it is not a date.
    """
    if not text:
        return settings.clock()
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise InvalidArgument(
            "until", f"{text!r} is not a date; write it like 2026-11-24"
        ) from None


def train_from_store(
    settings: Settings, *, until: str | None, promote: bool, on_progress: Progress
) -> ModelInfo:
    """Open the stores that the settings name, and run_train on them."""
    from services.store.layout import Layout
    from services.store.models import FolderRegistry
    from services.store.tables import DeltaTables

    layout = Layout(settings.data_dir, settings.bucket_count)
    return run_train(
        DeltaTables(layout),
        FolderRegistry(layout),
        settings,
        until=parse_until(until, settings),
        promote=promote,
        on_progress=on_progress,
    )
