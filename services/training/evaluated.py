"""The trainer that `driftline evaluate` is given; the command line joins the two packages."""

from datetime import datetime

import polars as pl

from services.core.model import Model
from services.core.schema import Granularity
from services.training.texts import TextEncoder
from services.training.train import Progress, TrainConfig, train


def train_before(
    events: pl.DataFrame,
    backbone: TextEncoder,
    *,
    granularity: Granularity,
    until: datetime,
    on_progress: Progress,
) -> Model:
    """Train with the default configuration on the events strictly before `until`."""
    config = TrainConfig(granularity=granularity, forecast_granularities=(granularity,))
    return train(events, None, backbone, config, until=until, on_progress=on_progress)
