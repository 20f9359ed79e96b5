"""The trainers that `driftline evaluate` is given; the command line joins the two packages."""

from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from services.core.model import Model
from services.core.progress import Progress
from services.core.recurrent import CELLS
from services.core.schema import Granularity
from services.store.ports import TextEncoder
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
        )
        return train(events, None, backbone, config, until=until, on_progress=on_progress)


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
