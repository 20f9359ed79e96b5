"""The two RPCs without Ray: requests in, responses or errors out."""

import math
import os

import numpy as np
import pytest
from driftline.v1 import forecaster_service_pb2 as pb
from driftline.v1 import vector_pb2

from services.core.errors import InvalidArgument, SpaceMismatch
from services.forecaster.forecaster import ForecasterStores, InterestForecaster
from services.forecaster.handler import ForecasterHandler
from services.runtime.errors import InvalidRequest
from services.runtime.settings import Settings
from services.runtime.validation import validate
from services.store.memory_events import EventMemory, MemoryTables
from tests.encoder.world import BUCKETS, NOW, WIDTH, CountingFeatures, HeldModels, model

SPACE = model().space_id
EAST, NORTH = (1, 0, 0, 0), (0, 1, 0, 0)


@pytest.fixture
def handler():
    stores = ForecasterStores(
        models=HeldModels(model()),
        tables=MemoryTables(EventMemory(), BUCKETS),
        features=CountingFeatures(),
    )
    return ForecasterHandler(InterestForecaster(stores, Settings(bucket_count=BUCKETS, now=NOW)))


def trajectory(*rows, periods=("2026-W01", "2026-W03"), counts=(1, 2), **changes):
    given = {"space_id": SPACE, "width": WIDTH, "values": np.array(rows, "<f4").tobytes()}
    last = changes.pop("last_period", "")
    return pb.Trajectory(
        vectors=vector_pb2.VectorBatch(**{**given, **changes}),
        periods=periods,
        event_counts=counts,
        last_period=last,
    )


def request(*trajectories, **fields):
    return pb.ForecastInterestsRequest(trajectories=trajectories, **fields)


async def test_forecasts_come_in_order_with_their_periods(handler):
    asked = request(trajectory(EAST, EAST), trajectory(NORTH, NORTH, last_period="2026-W05"))
    validate(asked)
    answer = await handler.ForecastInterests(asked)
    assert (answer.forecaster, answer.model_version) == ("ema", "m1")
    first, second = (list(each.forecasts) for each in answer.forecasts)
    assert [f.period for f in first] == ["2026-W04", "2026-W05", "2026-W06", "2026-W07"]
    assert [f.horizon for f in first] == [1, 2, 3, 4]
    assert second[0].period == "2026-W06"
    assert np.allclose(np.frombuffer(first[0].mean.values, "<f4"), EAST)
    assert np.allclose(np.frombuffer(second[3].mean.values, "<f4"), NORTH)
    assert first[0].mean.space_id == SPACE
    scales = [np.frombuffer(f.scale_values, "<f4") for f in first]
    assert (scales[3] > scales[0]).all()


async def test_a_trajectory_alone_is_a_row_of_many(handler):
    mixed = trajectory(EAST, NORTH, periods=("2025-W01", "2026-W03"))
    alone = await handler.ForecastInterests(request(mixed))
    beside = await handler.ForecastInterests(request(trajectory(NORTH, NORTH), mixed))
    assert alone.forecasts[0] == beside.forecasts[1]


async def test_days_and_months_and_other_horizons_are_served(handler):
    asked = request(
        trajectory(EAST, periods=("2026-03",), counts=(4,)),
        granularity=vector_pb2.GRANULARITY_MONTH,
        horizon_count=2,
    )
    answer = await handler.ForecastInterests(asked)
    assert [f.period for f in answer.forecasts[0].forecasts] == ["2026-04", "2026-05"]


async def test_another_space_is_refused(handler):
    with pytest.raises(SpaceMismatch) as caught:
        await handler.ForecastInterests(request(trajectory(EAST, EAST, space_id="other_1")))
    assert caught.value.metadata == {"expected_space_id": SPACE, "actual_space_id": "other_1"}


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (trajectory(EAST, (math.nan, 0, 0, 0)), "trajectories[0].vectors.values"),
        (trajectory(EAST, (math.inf, 0, 0, 0)), "trajectories[0].vectors.values"),
        (trajectory(EAST, (2, 0, 0, 0)), "trajectories[0].vectors.values"),
        (trajectory(EAST, (0, 0, 0, 0)), "trajectories[0].vectors.values"),
        (trajectory((1, 0), (1, 0), width=2), "trajectories[0].vectors.width"),
        (trajectory(EAST, EAST, values=b"\0" * 9), "trajectories[0].vectors.values"),
        (trajectory(EAST), "trajectories[0].periods"),
        (trajectory(EAST, EAST, counts=(1,)), "trajectories[0].event_counts"),
        (trajectory(EAST, EAST, periods=("2026-W03", "2026-W01")), "trajectories[0].periods"),
        (trajectory(EAST, EAST, periods=("2026-W01", "2026-W01")), "trajectories[0].periods"),
        (trajectory(EAST, EAST, periods=("2026-W01", "2026-03")), "trajectories[0].periods[1]"),
        (trajectory(EAST, EAST, periods=("1901-W01", "2026-W01")), "trajectories[0].periods"),
        (trajectory(EAST, EAST, last_period="soon"), "trajectories[0].last_period"),
        (trajectory(EAST, EAST, last_period="2025-W01"), "trajectories[0].last_period"),
    ],
)
async def test_a_malformed_trajectory_is_refused_by_the_name_of_its_field(handler, bad, field):
    with pytest.raises(InvalidArgument) as caught:
        await handler.ForecastInterests(request(bad))
    assert caught.value.field == field


def test_the_rules_refuse_what_the_proto_forbids():
    with pytest.raises(InvalidRequest):
        validate(request())
    with pytest.raises(InvalidRequest):
        validate(request(trajectory(EAST, EAST), horizon_count=53))


async def test_a_refresh_answers_with_the_process_that_did_it(handler):
    answer = await handler.RefreshForecasts(pb.RefreshForecastsRequest(buckets=[0]))
    assert answer.replica_pid == os.getpid()
    assert answer.user_count == 0
