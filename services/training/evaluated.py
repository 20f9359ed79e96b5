"""The trainers that `driftline evaluate` is given; the command line joins the two packages."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import polars as pl

from services.core.dataset import dataset_from_frame
from services.core.model import Model
from services.core.pooling import PoolingConfig
from services.core.progress import Progress
from services.core.ranker import neutral_ranker
from services.core.recurrent import CELLS
from services.core.schema import EVENT_TIME, Granularity
from services.core.tower import ItemTower, space_id_of
from services.store.ports import TextEncoder
from services.training.forecaster import ForecasterConfig
from services.training.forecasters import fit_forecasters
from services.training.ranker import RankerConfig
from services.training.train import TrainConfig, train

# Principal components that arima and ets are fitted to.
_COMPONENTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedTrainer:
    """Trains with the default configuration, but for what is named here."""

    seed: int = 0
    # False: rank without the interest vector, to see what it is worth.
    has_interest: bool = True
    has_forecasters: bool = True
    # lstm, arima and ets too, which never serve by default: they take minutes.
    has_all_forecasters: bool = True
    # Detection of bursts, which the live model needs and no figure.
    has_bursts: bool = False

    def __call__(
        self,
        events: pl.DataFrame,
        backbone: TextEncoder,
        *,
        granularity: Granularity,
        until: datetime,
        on_progress: Progress,
    ) -> Model:
        """Train on the events strictly before `until`."""
        default = TrainConfig()
        config = TrainConfig(
            granularity=granularity,
            forecast_granularities=(granularity,) if self.has_forecasters else (),
            ranker=replace(default.ranker, seed=self.seed, has_interest=self.has_interest),
            forecaster=replace(
                default.forecaster,
                seed=self.seed,
                components=_COMPONENTS if self.has_all_forecasters else 0,
                nets=CELLS if self.has_all_forecasters else default.forecaster.nets,
            ),
            bursts=default.bursts if self.has_bursts else None,
        )
        return train(events, None, backbone, config, until=until, on_progress=on_progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenTrainer:
    """Fits forecasters to vectors of the backbone's own space, and learns nothing else.

    Nets are left out: ours do not serve where the levels are as good (DECISIONS.md), and frozen
    vectors are wide.
    """

    seed: int = 0

    def __call__(
        self,
        events: pl.DataFrame,
        backbone: TextEncoder,
        *,
        granularity: Granularity,
        until: datetime,
        on_progress: Progress,
    ) -> Model:
        """Fit on the events strictly before `until`."""
        pooling, windows = PoolingConfig(), RankerConfig().popularity_half_lives_days
        data = dataset_from_frame(events.filter(pl.col(EVENT_TIME) < until), granularity, pooling)
        width = backbone.spec.width
        tower = ItemTower(
            mean_B=np.zeros(width, np.float32), projection_BD=np.eye(width, dtype=np.float32)
        )
        fitted = fit_forecasters(
            data, tower.item_vectors(backbone.encode(data.texts), data.item_ids),
            ForecasterConfig(nets=(), components=0, seed=self.seed), pooling,
            granularities=(granularity,), until=until, parent={}, on_progress=on_progress,
        )  # fmt: skip
        return Model(
            model_version="frozen",
            space_id=space_id_of(backbone.spec, tower),
            backbone=backbone.spec,
            tower=tower,
            pooling=pooling,
            ranker=neutral_ranker(pooling.half_lives_days, windows, width),
            forecasters=fitted.specs,
            trained_time=datetime.now(UTC),
            trained_until=until,
            data_sha256=data.sha256(),
            metrics={},
            curves=fitted.curves,
        )


def variants(*, seeds: int, is_ablated: bool) -> dict[str, EvaluatedTrainer]:
    """Return what trains further models of ours, by name: other seeds, and one without the vector."""
    found = {
        f"driftline_seed_{seed}": EvaluatedTrainer(seed=seed, has_forecasters=False)
        for seed in range(1, seeds)
    }
    if is_ablated:
        found["driftline_without_vector"] = EvaluatedTrainer(
            has_interest=False, has_forecasters=False
        )
    return found
