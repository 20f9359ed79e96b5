"""At every read of the gateway, what the stores give of another space is refused, both named."""

from dataclasses import replace

import pytest
from driftline.v1 import interest_service_pb2 as interests
from driftline.v1 import recommendation_service_pb2 as recommendations
from driftline.v1 import vector_pb2

from services.core.periods import period_from_name
from services.core.schema import HISTORY_PERIODS, Granularity
from services.store.memory_features import MemoryFeatures
from tests.gateway.world import (
    NOW,
    SPACE,
    World,
    catalogue,
    forecast,
    rank_state,
    refusal,
    serve,
    stamp,
    vector,
    vector_of,
)

# As wide as ours.
OTHER = "toy_99999999"
WEEK = Granularity.WEEK


class Mixed(MemoryFeatures):
    """Answers from the right rows, but says that they are of another space."""

    async def interests(self, *asked):
        rows = await super().interests(*asked)
        return [row and replace(row, space_id=OTHER) for row in rows]

    async def history(self, *asked):
        return [replace(row, space_id=OTHER) for row in await super().history(*asked)]

    async def forecast(self, *asked):
        return replace(await super().forecast(*asked), space_id=OTHER)

    async def rank_state(self, *asked):
        return replace(await super().rank_state(*asked), space_id=OTHER)

    async def forecast_at(self, *asked, **named):
        return replace(await super().forecast_at(*asked, **named), space_id=OTHER)

    async def trajectory(self, *asked, **named):
        return [replace(row, space_id=OTHER) for row in await super().trajectory(*asked, **named)]


@pytest.fixture
async def mixed():
    world = World(features=Mixed())
    end = period_from_name(WEEK, "2026-W47")
    world.put("u", *(vector_of(end + -back) for back in range(HISTORY_PERIODS[WEEK] + 3, -1, -1)))
    world.put_forecast("u", forecast("2026-W46"))
    world.put_rank_state("u", rank_state("jam"))
    async with serve(world):
        yield world


PAST = vector_pb2.AsOf(event_time=stamp(NOW))
ENTRIES = {
    "newest": ("interest_service", "GetInterest", interests.GetInterestRequest(user_id="u")),
    "of a period": (
        "interest_service",
        "GetInterest",
        interests.GetInterestRequest(user_id="u", period="2026-W46"),
    ),
    "of the past": (
        "interest_service",
        "GetInterest",
        interests.GetInterestRequest(user_id="u", as_of=PAST),
    ),
    "batch": (
        "interest_service",
        "BatchGetInterests",
        interests.BatchGetInterestsRequest(user_ids=["nobody", "u"]),
    ),
    "trajectory": (
        "interest_service",
        "GetTrajectory",
        interests.GetTrajectoryRequest(user_id="u"),
    ),
    "long trajectory": (
        "interest_service",
        "GetTrajectory",
        interests.GetTrajectoryRequest(user_id="u", page_size=100),
    ),
    "past trajectory": (
        "interest_service",
        "GetTrajectory",
        interests.GetTrajectoryRequest(user_id="u", as_of=PAST),
    ),
    "past forecast": (
        "interest_service",
        "GetForecast",
        interests.GetForecastRequest(user_id="u", as_of=PAST),
    ),
    "forecast": ("interest_service", "GetForecast", interests.GetForecastRequest(user_id="u")),
    "recommend": (
        "recommendation_service",
        "RecommendItems",
        recommendations.RecommendItemsRequest(user_id="u"),
    ),
    "recommend many": (
        "recommendation_service",
        "BatchRecommendItems",
        recommendations.BatchRecommendItemsRequest(user_ids=["u"]),
    ),
}


@pytest.mark.parametrize("entry", ENTRIES)
async def test_a_read_of_another_space_is_refused_with_both_named(mixed, entry, trust):
    service, method, request = ENTRIES[entry]
    trust("reads of another space's vectors")
    failed = await refusal(getattr(getattr(mixed, service), method)(request))
    assert (failed.code, failed.reason) == ("FAILED_PRECONDITION", "SPACE_MISMATCH")
    assert failed.metadata == {"expected_space_id": SPACE, "actual_space_id": OTHER}


async def test_an_export_of_another_space_is_refused(mixed):
    stream = mixed.recommendation_service.ExportRecommendations(
        recommendations.ExportRecommendationsRequest(user_ids=["u"])
    )
    failed = await refusal(stream.read())
    assert failed.metadata == {"expected_space_id": SPACE, "actual_space_id": OTHER}


async def test_an_index_of_another_space_is_not_served():
    world = World()
    world.catalogues.held[SPACE] = replace(catalogue("g2"), space_id=OTHER)
    async with serve(world):
        request = recommendations.FindSimilarItemsRequest(item_id="jam")
        failed = await refusal(world.recommendation_service.FindSimilarItems(request))
        assert (failed.code, failed.reason) == ("UNAVAILABLE", "NOT_READY")
        # The right one is, as soon as it is there.
        world.catalogues.held[SPACE] = catalogue("g3")
        await world.state.poll()
        await world.recommendation_service.FindSimilarItems(request)


async def test_a_served_index_is_not_replaced_by_one_of_another_space(world):
    world.catalogues.held[SPACE] = replace(catalogue("g2"), space_id=OTHER)
    await world.state.poll()
    assert world.state.served().stocked().catalogue.space_id == SPACE


async def test_every_vector_says_its_space(world):
    world.put("u", vector("2026-W46"), vector("2026-W47"))
    world.put_forecast("u", forecast("2026-W46"))
    reads = world.interest_service
    one = await reads.GetInterest(interests.GetInterestRequest(user_id="u"))
    many = await reads.BatchGetInterests(interests.BatchGetInterestsRequest(user_ids=["u"]))
    path = await reads.GetTrajectory(interests.GetTrajectoryRequest(user_id="u", as_of=PAST))
    ahead = await reads.GetForecast(interests.GetForecastRequest(user_id="u"))
    said = [one.interest.vector, many.interests[0].interest.vector]
    said += [each.vector for each in path.interests] + [each.mean for each in ahead.forecasts]
    assert len(said) == 2 + 2 + 3
    assert {each.space_id for each in said} == {SPACE}
