"""Training: from events and texts to a model, all of it strictly before one instant.

encode      each distinct text once (the backbone stays as it is)
ranker      item tower and ranker, together, on what users did in the period after each origin
forecaster  one a granularity, on the vectors of the learned space
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import polars as pl
import torch

from services.core.dataset import Dataset, dataset_from_frame
from services.core.errors import InvalidArgument
from services.core.model import ForecasterSpec, Model
from services.core.periods import closed_before
from services.core.pooling import PoolingConfig, pool_periods
from services.core.records import F32
from services.core.schema import EVENT_TIME, UPDATED_TIME, Granularity
from services.core.tower import BackboneSpec, space_id_of
from services.core.trajectories import TrajectoryBatch, grid
from services.store.model_folder import version_of
from services.training.examples import Origin, make_origin
from services.training.forecaster import ForecasterConfig, fit_forecaster
from services.training.ranker import RankerConfig, train_ranker

Progress = Callable[[str, int, int], None]

# Columns a forecaster learns from: newest first, more would not fit and say little.
FORECAST_PERIODS = {Granularity.DAY: 112, Granularity.WEEK: 156, Granularity.MONTH: 60}


class TextEncoder(Protocol):
    """What training asks of a backbone."""

    @property
    def spec(self) -> BackboneSpec:
        """Its identity."""
        ...

    def encode(
        self, texts: Sequence[str], on_progress: Callable[[int, int], None] | None = None
    ) -> F32:
        """Return one unit-norm row per text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that can be chosen; Complete Journey takes two minutes on one core."""

    # Of the ranker's examples.
    granularity: Granularity = Granularity.WEEK
    # Granularities to fit a forecaster for.
    forecast_granularities: tuple[Granularity, ...] = (Granularity.WEEK,)
    pooling: PoolingConfig = field(default_factory=PoolingConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    forecaster: ForecasterConfig = field(default_factory=ForecasterConfig)


def train(
    events: pl.DataFrame,
    texts: pl.DataFrame | None,
    backbone: TextEncoder,
    config: TrainConfig,
    *,
    until: datetime,
    on_progress: Progress = lambda stage, done, total: None,
) -> Model:
    """Train a model on what happened strictly before `until`.

    Args:
        events: user_id, item_id, event_time (UTC), kind; value, and text where `texts` is None.
        texts: item_id, text; with updated_time, versions: the newest before `until` counts.
        backbone: encodes texts.
        config: what is trained.
        until: aware. Periods that had not closed by then give no examples.
        on_progress: called with a stage's name, steps done, steps in all.

    Raises:
        InvalidArgument: there are no two closed periods of events before `until`.
    """
    past = events.filter(pl.col(EVENT_TIME) < until)
    data = dataset_from_frame(
        past, config.granularity, config.pooling, texts=_texts_before(texts, until)
    )
    text_NB = backbone.encode(
        data.texts, lambda done, total: on_progress("encode texts", done, total)
    )
    with _one_thread():
        origins = _origins(data, until, config, on_progress)
        fitted = train_ranker(
            origins, text_NB, config.pooling.half_lives_days, config.ranker, on_progress
        )
        items_ND = fitted.tower.item_vectors(text_NB)
        forecasters = _forecasters(data, items_ND, until, config, on_progress)
    model = Model(
        model_version="",
        space_id=space_id_of(backbone.spec, fitted.tower),
        backbone=backbone.spec,
        tower=fitted.tower,
        pooling=config.pooling,
        ranker=fitted.ranker,
        forecasters=forecasters,
        trained_time=datetime.now(UTC),
        trained_until=until,
        data_sha256=data.sha256(),
        metrics=_metrics(fitted.first_loss, fitted.last_loss, forecasters),
    )
    return replace(model, model_version=version_of(model))


def _forecasters(
    data: Dataset, items_ND: F32, until: datetime, config: TrainConfig, on_progress: Progress
) -> dict[Granularity, ForecasterSpec]:
    made = {}
    for granularity in config.forecast_granularities:
        batch = _trajectories(data, items_ND, granularity, until, config)
        settings = config.forecaster
        if granularity is Granularity.DAY:
            # Days are many and mostly empty: no net was tried on them, and fewer users will do.
            settings = replace(settings, nets=(), components=0, user_limit=2000)
        spec = fit_forecaster(batch, settings, on_progress)
        if spec is not None:
            made[granularity] = spec
    return made


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch on one thread: its steps are small, and waiting threads cost more than they give.

    Complete Journey's ranker takes 30 s on one thread and 37 s on two; on busy cores many times that.
    It also makes sums, and so models, the same on machines of any size.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _texts_before(texts: pl.DataFrame | None, until: datetime) -> pl.DataFrame | None:
    if texts is None or UPDATED_TIME not in texts.columns:
        return texts
    return texts.filter(pl.col(UPDATED_TIME) < until).sort(UPDATED_TIME, descending=True)


def _origins(
    data: Dataset, until: datetime, config: TrainConfig, on_progress: Progress
) -> list[Origin]:
    last = closed_before(config.granularity, until).ordinal
    first = max(int(data.period_E.min()) + 1, last - config.ranker.origins + 1)
    if first > last:
        raise InvalidArgument(
            "events", f"span no two closed {config.granularity}s; train later or on shorter periods"
        )
    origins = []
    for period in range(first, last + 1):
        origins.append(
            make_origin(data, period, config.pooling, config.ranker.popularity_half_lives_days)
        )
        on_progress("examples", len(origins), last + 1 - first)
    return origins


def _trajectories(
    data: Dataset, items_ND: F32, granularity: Granularity, until: datetime,
    config: TrainConfig,
) -> TrajectoryBatch:  # fmt: skip
    if granularity is not data.granularity:
        data = data.at(granularity)
    vectors = pool_periods(
        data.user_ix_E, data.period_E, data.item_ix_E, data.weight_E, items_ND, config.pooling
    )
    last = closed_before(granularity, until).ordinal
    first = max(int(data.period_E.min()), last - FORECAST_PERIODS[granularity] + 1)
    return grid(
        vectors.user_ix_P, vectors.period_P, vectors.vec_PD, vectors.event_count_P,
        users=data.user_count, first=first, last=last,
    )  # fmt: skip


def _metrics(
    first_loss: float, last_loss: float, forecasters: dict[Granularity, ForecasterSpec]
) -> dict[str, float]:
    metrics = {"ranker_loss_start": first_loss, "ranker_loss": last_loss}
    for granularity, spec in forecasters.items():
        skill: Any = spec.config["validation_skill"]
        for (horizon, gains), chosen in zip(skill.items(), _choice(spec), strict=False):
            metrics[f"forecast_{granularity}_h{horizon}_gain"] = gains[chosen][0]
    return metrics


def _choice(spec: ForecasterSpec) -> list[str]:
    choice = spec.config["choice"]
    assert isinstance(choice, list)
    return choice
