"""Interest vectors of all users on one grid, as forecasts and their figures need them."""

from dataclasses import dataclass

from services.core.dataset import Dataset
from services.core.model import Model
from services.core.pooling import pool_periods
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch, grid
from services.evaluation.protocol import Split

# Periods of the past that a forecaster gets.
HISTORY = 156


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectories:
    """All vectors up to the last full period; whoever forecasts from an origin is given its past."""

    batch: TrajectoryBatch
    # Ordinal of the first column.
    first: int

    def column(self, origin: int) -> int:
        """Return the column of an origin: the first period that is forecast from it."""
        return origin - self.first

    def before(self, origin: int) -> TrajectoryBatch:
        """Return what was known at an origin."""
        return self.batch.until(self.column(origin))


def trajectories(data: Dataset, split: Split, model: Model, items_ND: F32) -> Trajectories:
    """Return the vectors of every user up to the last full period of a split."""
    first = max(split.first, split.origins[0] - HISTORY)
    vectors = pool_periods(
        data.user_ix_E, data.period_E, data.item_ix_E, data.weight_E, items_ND, model.pooling
    )
    batch = grid(
        vectors.user_ix_P, vectors.period_P, vectors.vec_PD, vectors.event_count_P,
        users=data.user_count, first=first, last=split.last,
    )  # fmt: skip
    return Trajectories(batch=batch, first=first)
