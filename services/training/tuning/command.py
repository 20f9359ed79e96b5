"""`driftline tune`: from the stored events and items to a tuned backbone.

Shape suffixes: N = texts.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from services.core.dataset import Dataset, dataset_from_frame
from services.core.errors import InvalidArgument
from services.core.heads import without_label
from services.core.periods import closed_before
from services.core.pooling import F64, PoolingConfig
from services.core.progress import Progress
from services.core.schema import (
    CATEGORIES,
    DEFAULT_TENANT,
    EVENT_TIME,
    ITEM_ID,
    KIND,
    UPDATED_TIME,
    VALUE,
    Granularity,
    Kind,
)
from services.runtime.settings import Settings
from services.store.erasures import drop_erased
from services.store.ports import EventTables
from services.training.command import item_texts
from services.training.tuning.config import TuneConfig
from services.training.tuning.signals import Histories, Signals
from services.training.tuning.tune import TuneResult, tune_backbone

# Events that an item's mean value needs; of fewer it says more about them than about the item.
VALUE_EVENTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What the store holds, as tuning reads it; a row an item."""

    texts: tuple[str, ...]
    # The texts without the label they say.
    unlabelled: tuple[str, ...]
    signals: Signals


def run_tune(
    tables: EventTables,
    settings: Settings,
    config: TuneConfig,
    *,
    until: datetime,
    out: Path,
    backbone: str = "",
    granularity: Granularity = Granularity.WEEK,
    tenant: str = DEFAULT_TENANT,
    on_progress: Progress = lambda stage, done, total: None,
) -> TuneResult:
    """Tune a backbone on a tenant's events and items from strictly before `until`.

    Args:
        tables: events and items. Events of users whose erasure is not carried out yet are left out.
        settings: which backbone to start from, where `backbone` does not say.
        config: what is tuned, and how.
        until: aware.
        out: folder to write; DRIFTLINE_BACKBONE names it to `driftline train`.
        backbone: name or folder to start from.
        granularity: of the periods that next items are looked for in.
        tenant: whose data.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: too little is stored, or the objective does not fit the backbone.
    """
    events = tables.read_events(tenant)
    if events.is_empty():
        raise InvalidArgument("events", "none are stored; run `driftline import`")
    found = material(
        drop_erased(tables, tenant, events), tables.read_items(tenant),
        until=until, granularity=granularity,
    )  # fmt: skip
    return tune_backbone(
        found.texts, found.signals, config,
        out=out, backbone=backbone or settings.backbone, task_texts=found.unlabelled, until=until,
        on_progress=on_progress,
    )  # fmt: skip


def material(
    events: pl.DataFrame, items: pl.DataFrame, *, until: datetime, granularity: Granularity
) -> Material:
    """Turn stored rows from before an instant into texts and signals.

    A label is an item's first category. A value is the mean rating of an item where there are
    ratings, else the mean of log(1 + value) of its events: quantities have long tails.

    Raises:
        InvalidArgument: there are no events of described items before `until`.
    """
    past = events.filter(pl.col(EVENT_TIME) < until)
    if past.is_empty():
        earliest = events[EVENT_TIME].dt.date().min()
        raise InvalidArgument("until", f"no event is before {until}; the first is of {earliest!s}")
    known = items.filter(pl.col(UPDATED_TIME) < until).sort(UPDATED_TIME, descending=True)
    data = dataset_from_frame(past, granularity, PoolingConfig(), texts=item_texts(known))
    first = pl.col(CATEGORIES).list.first().fill_null("")
    newest = known.unique(ITEM_ID, keep="first", maintain_order=True)
    label_of = dict(newest.select(ITEM_ID, first).iter_rows())
    labels = tuple(label_of.get(item_id, "") for item_id in data.item_ids)
    # An item nobody described has no row of text, and says nothing to learn.
    texts = tuple(text or "" for text in data.texts)
    return Material(
        texts=texts,
        unlabelled=tuple(map(without_label, texts, labels)),
        signals=Signals(
            labels=labels,
            value_N=_values(past, data),
            histories=Histories(
                user_ix_E=data.user_ix_E,
                text_ix_E=data.item_ix_E,
                period_E=data.period_E,
                last=min(closed_before(granularity, until).ordinal, int(data.period_E.max())),
            ),
        ),
    )


def _values(past: pl.DataFrame, data: Dataset) -> F64:
    rated = past.filter(pl.col(KIND) == str(Kind.RATING))
    value = pl.col(VALUE).cast(pl.Float64)
    if rated.is_empty():
        rated, value = past.filter(pl.col(VALUE) >= 0), value.log1p()
    means = rated.group_by(ITEM_ID).agg(value.mean().alias("mean"), pl.len().alias("count"))
    enough = means.filter(pl.col("count") >= VALUE_EVENTS)
    value_of = dict(enough.select(ITEM_ID, "mean").iter_rows())
    return np.array([value_of.get(item_id, np.nan) for item_id in data.item_ids], np.float64)
