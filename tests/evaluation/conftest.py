from dataclasses import replace

import pytest

from services.core.recurrent import CELLS, RecurrentConfig
from services.core.schema import Granularity
from services.evaluation.command import run_evaluate
from services.training.evaluated import FrozenTrainer
from services.training.forecaster import ForecasterConfig
from services.training.ranker import RankerConfig
from services.training.train import TrainConfig, train
from tests.planted import WordEncoder, planted_events


def small_trainer(events, backbone, *, granularity, until, on_progress):
    config = TrainConfig(
        granularity=granularity,
        ranker=RankerConfig(width=8, epochs=6, origins=4),
        forecaster=ForecasterConfig(
            horizons=2, nets=CELLS, net=RecurrentConfig(hidden=4, epochs=1)
        ),
        forecast_granularities=(granularity,),
    )
    model = train(events, None, backbone, config, until=until, on_progress=on_progress)
    return replace(model, trained_time=until)


def evaluate(events, out, **kwargs):
    given = {"granularity": Granularity.WEEK, "origins": 4, "horizons": (1, 2)} | kwargs
    return run_evaluate(events, out=out, backbone=WordEncoder(), trainer=small_trainer, **given)


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory):
    """A report on planted data, and its folder."""
    out = tmp_path_factory.mktemp("evaluated")
    events = planted_events(users=40, weeks=20)
    return evaluate(events, out, frozen=FrozenTrainer()), out
