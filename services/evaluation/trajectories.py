"""Interest vectors of all users on one grid, as forecasts and their figures need them."""

from dataclasses import dataclass

from services.core.dataset import Dataset, vector_grid
from services.core.model import Model
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch
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
    batch = vector_grid(data, items_ND, model.pooling, first=first, last=split.last)
    return Trajectories(batch=batch, first=first)
