"""Training: from events and texts to a model, all of it strictly before one instant.

encode      each distinct text once (the backbone stays as it is)
ranker      item tower and ranker, together, on what users did in the period after each origin
forecaster  one a granularity, on the vectors of the learned space

What is done is kept as it goes (checkpoints.py), and a model can be the start of the next one
(incremental.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import torch
from threadpoolctl import threadpool_limits

from services.core.card import CardCost, CardData, CardSplit, ModelCard
from services.core.dataset import Dataset, dataset_from_frame, first_categories, instant
from services.core.errors import InvalidArgument
from services.core.model import ForecasterSpec, Model
from services.core.periods import Period, closed_before
from services.core.pooling import PoolingConfig
from services.core.progress import Progress
from services.core.records import F32
from services.core.schema import EVENT_TIME, UPDATED_TIME, Granularity
from services.core.tower import BackboneSpec, space_id_of
from services.store.model_folder import version_of
from services.store.ports import TextEncoder
from services.training.bursts import BurstFitConfig, BurstSource
from services.training.checkpoints import Checkpoints, checkpoints_of, json_of, key_of
from services.training.cost import Stopwatch
from services.training.examples import Origin, make_origin
from services.training.fit_ranker import FittedRanker, Learned
from services.training.forecaster import ForecasterConfig
from services.training.forecasters import FittedForecasters, fit_forecasters
from services.training.ranker import RankerConfig
from services.training.ranker_job import RankerJob, run_ranker_job
from services.training.ray_workers import RanOnWorkers, run_on_workers
from services.training.workers import Alone, ComputeConfig, check_compute


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that can be chosen; Complete Journey takes three minutes on one core."""

    # Of the ranker's examples.
    granularity: Granularity = Granularity.WEEK
    # Granularities to fit a forecaster for.
    forecast_granularities: tuple[Granularity, ...] = (Granularity.WEEK,)
    # Last origins that the ranker does not learn from: they give its validation loss.
    validation_origins: int = 0
    pooling: PoolingConfig = field(default_factory=PoolingConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    forecaster: ForecasterConfig = field(default_factory=ForecasterConfig)
    # Detection of bursts of interest; None: none is fitted.
    bursts: BurstFitConfig | None = field(default_factory=BurstFitConfig)
    # Shortest time between two states that a killed training could go on from; decides no result.
    checkpoint_every_s: float = 10.0
    # What the ranker is trained on.
    compute: ComputeConfig = field(default_factory=ComputeConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    """Ordinals of the periods that are predicted."""

    origins: list[int]
    validation: list[int]

    def named(self, granularity: Granularity, until: datetime) -> CardSplit:
        """Return it as a card says it."""
        origins, validation = (
            tuple(Period(granularity, period).name for period in periods)
            for periods in (self.origins, self.validation)
        )
        return CardSplit(
            granularity=str(granularity),
            trained_until=until.isoformat(),
            origins=origins,
            validation=validation,
        )


def train(
    events: pl.DataFrame,
    texts: pl.DataFrame | None,
    backbone: TextEncoder,
    config: TrainConfig,
    *,
    until: datetime,
    on_progress: Progress = lambda stage, done, total: None,
    parent: Model | None = None,
    work: Path | None = None,
    is_fresh: bool = False,
) -> Model:
    """Train a model on what happened strictly before `until`.

    Args:
        events: user_id, item_id, event_time (UTC), kind; value, and text where `texts` is None.
        texts: item_id, text; with updated_time, versions: the newest before `until` counts.
        backbone: encodes texts.
        config: what is trained.
        until: aware. Periods that had not closed by then give no examples.
        on_progress: called with a stage's name, steps done, steps in all.
        parent: go on from this model in its space; `config` is incremental.continued's.
        work: folder to keep states in, and to take up the same work from (checkpoints.work_folder
            holds it); unset means nowhere. The caller removes them when the model is safe.
        is_fresh: begin anew whatever is kept.

    Raises:
        InvalidArgument: there are no two closed periods of events before `until`, or this machine
            lacks what `config.compute` asks for.
        DependencyUnavailable: workers died again and again.
    """
    check_compute(config.compute)
    watch = Stopwatch()
    past = events.filter(pl.col(EVENT_TIME) < until)
    data = dataset_from_frame(
        past, config.granularity, config.pooling, texts=_texts_before(texts, until)
    )
    split = _split(data, until, config)
    checkpoints = None
    if work is not None:
        key = _key(data, split, backbone.spec, config, until=until, parent=parent)
        checkpoints = checkpoints_of(
            work, key, every_s=config.checkpoint_every_s, is_fresh=is_fresh
        )
    with watch.stage("encode"):
        text_NB = backbone.encode(
            data.texts, lambda done, total: on_progress("encode texts", done, total)
        )
    with _one_thread():
        with watch.stage("ranker"):
            ran = _fit_ranker(data, text_NB, split, config, parent, checkpoints, on_progress)
        fitted = ran.fitted
        with watch.stage("forecaster"):
            forecasts = fit_forecasters(
                data, fitted.tower.item_vectors(text_NB, data.item_ids), config.forecaster, config.pooling,
                granularities=config.forecast_granularities, until=until,
                parent=parent.forecasters if parent else {},
                bursts=_burst_source(past, texts, until, config), checkpoints=checkpoints,
                on_progress=on_progress,
            )  # fmt: skip
    model = Model(
        model_version="",
        space_id=space_id_of(backbone.spec, fitted.tower),
        backbone=backbone.spec,
        tower=fitted.tower,
        pooling=config.pooling,
        ranker=fitted.ranker,
        forecasters=forecasts.specs,
        trained_time=datetime.now(UTC),
        trained_until=until,
        data_sha256=data.sha256(),
        metrics=_metrics(fitted, forecasts),
        curves=fitted.curves | forecasts.curves,
    )
    # The card says what was chosen, not that it was to be chosen.
    ranker = replace(config.ranker, epochs=fitted.epochs)
    used = replace(config, ranker=ranker)
    cost = watch.cost(config.compute.workers, ran.cpu_seconds)
    card = _card(data, split, used, cost, until=until, parent=parent)
    return replace(model, model_version=version_of(model), card=card)


def _fit_ranker(
    data: Dataset, text_NB: F32, split: _Split, config: TrainConfig, parent: Model | None,
    checkpoints: Checkpoints | None, on_progress: Progress,
) -> RanOnWorkers:  # fmt: skip
    def origins() -> Iterator[Origin]:
        periods = (*split.origins, *split.validation)
        for number, period in enumerate(periods, start=1):
            yield make_origin(
                data, period, config.pooling, config.ranker.popularity_half_lives_days,
                config.ranker.popularity_floor, config.ranker.ahead,
            )  # fmt: skip
            on_progress("examples", number, len(periods))

    job = RankerJob(
        text_NV=text_NB,
        item_ids=data.item_ids,
        half_lives_days=config.pooling.half_lives_days,
        config=config.ranker,
        validation=len(split.validation),
        learned=Learned(tower=parent.tower, ranker=parent.ranker) if parent else None,
        checkpoints=checkpoints,
    )
    if config.compute.workers > 1:
        return run_on_workers(job, origins(), config.compute, on_progress)
    device = torch.device("cuda" if config.compute.gpu else "cpu")
    fitted = run_ranker_job(job, list(origins()), on_progress, Alone(device=device))
    return RanOnWorkers(fitted=fitted, cpu_seconds=0.0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch and BLAS on one thread: steps are small, and waiting threads cost more than they give.

    Complete Journey's ranker takes 30 s on one thread and 37 s on two; on busy cores many times that.
    It also makes sums, and so models, the same on machines of any size.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def _burst_source(
    events: pl.DataFrame, texts: pl.DataFrame | None, until: datetime, config: TrainConfig
) -> BurstSource | None:
    """Return how detection of bursts is fitted, and the categories that are its topics."""
    if config.bursts is None:
        return None
    rows = _texts_before(texts, until)
    categories = first_categories(events if rows is None else rows)
    return BurstSource(config=config.bursts, category_of=categories)


def _texts_before(texts: pl.DataFrame | None, until: datetime) -> pl.DataFrame | None:
    if texts is None or UPDATED_TIME not in texts.columns:
        return texts
    return texts.filter(pl.col(UPDATED_TIME) < until).sort(UPDATED_TIME, descending=True)


def _split(data: Dataset, until: datetime, config: TrainConfig) -> _Split:
    last = closed_before(config.granularity, until).ordinal
    count = config.ranker.origins + config.validation_origins
    first = max(int(data.period_E.min()) + 1, last - count + 1)
    periods = list(range(first, last + 1))
    if len(periods) <= config.validation_origins:
        raise InvalidArgument(
            "events", f"span no two closed {config.granularity}s; train later or on shorter periods"
        )
    cut = len(periods) - config.validation_origins
    return _Split(origins=periods[:cut], validation=periods[cut:])


def _key(
    data: Dataset, split: _Split, backbone: BackboneSpec, config: TrainConfig, *,
    until: datetime, parent: Model | None,
) -> str:  # fmt: skip
    """Return the key of this work. The instant `until` counts by the periods that it closes."""
    return key_of(
        {
            "data": data.sha256(),
            "backbone": asdict(backbone),
            # Not what it runs on: a killed training goes on with as many workers as there are then.
            "config": asdict(replace(config, checkpoint_every_s=0.0, compute=ComputeConfig())),
            "origins": [split.origins, split.validation],
            "closed": [closed_before(g, until).ordinal for g in config.forecast_granularities],
            "parent": parent.model_version if parent else "",
        }
    )


def _card(
    data: Dataset, split: _Split, config: TrainConfig, cost: CardCost, *,
    until: datetime, parent: Model | None,
) -> ModelCard:  # fmt: skip
    first, last = (instant(float(data.time_E[row])).isoformat() for row in (0, -1))
    return ModelCard(
        parent_version=parent.model_version if parent else "",
        data=CardData(
            sha256=data.sha256(),
            events=data.event_count,
            users=data.user_count,
            items=data.item_count,
            first_event=first,
            last_event=last,
        ),
        split=split.named(config.granularity, until),
        config=json_of(asdict(config)),
        cost=cost,
    )


def _metrics(fitted: FittedRanker, forecasts: FittedForecasters) -> dict[str, float]:
    metrics = {"ranker_loss_start": fitted.first_loss, "ranker_loss": fitted.last_loss}
    for granularity, spec in forecasts.specs.items():
        metrics |= _gains(granularity, spec)
    return metrics


def _gains(granularity: Granularity, spec: ForecasterSpec) -> dict[str, float]:
    skill: Any = spec.config["validation_skill"]
    choice = spec.config["choice"]
    assert isinstance(choice, list)
    return {
        f"forecast_{granularity}_h{horizon}_gain": gains[chosen][0]
        for (horizon, gains), chosen in zip(skill.items(), choice, strict=False)
    }
