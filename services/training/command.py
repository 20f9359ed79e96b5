"""`driftline train`: from the stored events to a model in the registry."""

import tempfile
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import polars as pl

from services.core.card import CardErasures
from services.core.errors import InvalidArgument
from services.core.items import encoder_text
from services.core.model import Model
from services.core.progress import Progress
from services.core.records import ModelInfo
from services.core.schema import (
    CATEGORIES,
    DEFAULT_TENANT,
    EVENT_TIME,
    ITEM_ID,
    TEXT,
    TITLE,
    UPDATED_TIME,
    USER_ID,
)
from services.runtime.settings import Settings
from services.store.backbone import load_backbone, load_spec
from services.store.erasures import covered_events, drop_erased, pending_erasures, tombstones
from services.store.layout import Layout
from services.store.model_card import note_predated
from services.store.model_folder import load_info, load_model, save_model
from services.store.ports import EventTables, ModelRegistry
from services.store.text_vectors import TextVectors
from services.training.checkpoints import forget, work_folder
from services.training.incremental import continued
from services.training.texts import KeptTexts
from services.training.train import TrainConfig, train
from services.training.workers import ComputeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What `driftline train` is asked for."""

    # Aware.
    until: datetime
    tenant: str = DEFAULT_TENANT
    # Make the model live; else it stays a candidate.
    promote: bool = True
    # Begin anew: neither states of a killed training nor kept text vectors are used.
    fresh: bool = False
    # Go on from this model in its space, or from the live one; both empty: train anew.
    base: str = ""
    from_live: bool = False
    compute: ComputeConfig = field(default_factory=ComputeConfig)


def run_train(
    tables: EventTables,
    models: ModelRegistry,
    settings: Settings,
    request: TrainRequest,
    *,
    layout: Layout,
    config: TrainConfig | None = None,
    on_progress: Progress = lambda stage, done, total: None,
) -> ModelInfo:
    """Train on a tenant's events strictly before `until` and add the model to the registry.

    The same work asked again after a kill goes on where it stood. Events of users whose erasure is
    not carried out yet are left out.

    Args:
        tables: events and items.
        models: the registry.
        settings: backbone, granularities.
        request: whose data, until when, from which model, on what.
        layout: where states and text vectors are kept meanwhile.
        config: what is trained; the default forecasts each of the settings' granularities.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: too few events before `until`, the base is unknown or saw more, or this
            machine has fewer CPUs or GPUs.
        NotReady: `from_live` where no model is live.
        Overloaded: another training of this tenant runs.
        DependencyUnavailable: workers died again and again; the same request goes on.
    """
    tenant, until = request.tenant, request.until
    chosen = config or TrainConfig(forecast_granularities=tuple(settings.granularities))
    chosen = replace(chosen, compute=request.compute)
    parent = _parent(models, request)
    if parent is not None:
        chosen = continued(chosen, parent, until=until)
    events = tables.read_events(tenant)
    if events.is_empty():
        raise InvalidArgument("events", "none are stored; run `driftline import`")
    erasures = erasures_of(tables, tenant, events, until=until, parent=parent)
    events = drop_erased(tables, tenant, events)
    backbone = (
        load_spec(parent.backbone)
        if parent
        else load_backbone(settings.backbone, is_int8=settings.backbone_int8)
    )
    texts = KeptTexts(backbone, TextVectors(layout), tenant, is_fresh=request.fresh)
    with work_folder(layout.training_dir(tenant)) as work:
        model = train(
            events, item_texts(tables.read_items(tenant)), texts, chosen,
            until=until, on_progress=on_progress, parent=parent, work=work, is_fresh=request.fresh,
        )  # fmt: skip
        assert model.card is not None
        # By the clock that events come in by: it says which of them the model could have seen.
        model = replace(
            model, trained_time=tables.tick(), card=replace(model.card, erasures=erasures)
        )
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / model.model_version
            info = save_model(folder, model)
            models.add(tenant, str(folder), info)
        _note_late_erasures(tables, models, tenant, events, info.model_version)
        forget(work)
    if request.promote:
        models.promote(tenant, info.model_version)
    return load_info(
        Path(models.folder(tenant, info.model_version)), "live" if request.promote else "candidate"
    )


def erasures_of(
    tables: EventTables,
    tenant: str,
    events: pl.DataFrame,
    *,
    until: datetime,
    parent: Model | None,
) -> CardErasures:
    """Return which requests to erase a model's data leave out, and which came too late for it.

    Args:
        tables: hold the open requests.
        tenant: whose.
        events: all stored events: those of open requests are still there.
        until: end of the training data.
        parent: the model that is gone on from; what it learned from is learned.
    """
    pending = pending_erasures(tables, tenant)
    left_out, predated = [], list(_predated(parent))
    for erasure in pending:
        first = covered_events(events, erasure)[EVENT_TIME]
        if first.is_empty():
            continue
        earliest = first.min()
        assert isinstance(earliest, datetime)
        if earliest < until:
            left_out.append(erasure.erasure_id)
        if (
            parent is not None
            and erasure.requested_time > parent.trained_time
            and earliest < parent.trained_until
        ):
            predated.append(erasure.erasure_id)
    return CardErasures(left_out=tuple(left_out), predated=tuple(dict.fromkeys(predated)))


def _note_late_erasures(
    tables: EventTables, models: ModelRegistry, tenant: str, events: pl.DataFrame, version: str
) -> None:
    """Name in the card the requests that came in while the model learned from their users."""
    # After the model was added: whoever erases from now on finds it themselves.
    known = tombstones(tables, tenant)
    late = known.requests(events.filter(known.covers(events))[USER_ID].unique())
    users = set(events[USER_ID].unique()) if late else set()
    named = [name for user, name in late.items() if user in users]
    note_predated(Path(models.folder(tenant, version)), *named)


def _predated(parent: Model | None) -> tuple[str, ...]:
    return parent.card.erasures.predated if parent and parent.card else ()


def _parent(models: ModelRegistry, request: TrainRequest) -> Model | None:
    version = request.base
    if not version and request.from_live:
        version = models.live(request.tenant).model_version
    return load_model(Path(models.folder(request.tenant, version))) if version else None


def item_texts(items: pl.DataFrame) -> pl.DataFrame:
    """Return item_id, updated_time, categories and the text that the encoder reads, one row a version."""
    distinct = items.select(TITLE, TEXT).unique()
    read = [encoder_text(title or "", text or "") for title, text in distinct.iter_rows()]
    texts = distinct.with_columns(pl.Series("_read", read, dtype=pl.String))
    return items.join(texts, on=[TITLE, TEXT], how="left", nulls_equal=True).select(
        ITEM_ID, UPDATED_TIME, pl.col("_read").alias(TEXT), CATEGORIES
    )


def train_from_store(
    settings: Settings, request: TrainRequest, *, on_progress: Progress
) -> ModelInfo:
    """Open the stores that the settings name, and run_train on them."""
    from services.store.models import FolderRegistry
    from services.store.tables import DeltaTables

    layout = Layout(settings.data_dir, settings.bucket_count)
    return run_train(
        DeltaTables(layout),
        FolderRegistry(layout),
        settings,
        request,
        layout=layout,
        on_progress=on_progress,
    )
