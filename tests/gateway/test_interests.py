"""InterestService over a real server: vectors, batches, trajectories, forecasts."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from driftline.v1 import interest_service_pb2 as pb
from driftline.v1 import vector_pb2

from services.core.periods import Period, period_from_name
from services.core.schema import Granularity
from tests.gateway.world import (
    NOW,
    SPACE,
    VERSION,
    Catalogues,
    Registry,
    World,
    forecast,
    refusal,
    serve,
    stamp,
    vector,
    vector_of,
)

WEEK = Granularity.WEEK


def weeks(count: int, last: str = "2026-W47"):
    """Return `count` weeks in a row, oldest first."""
    end = period_from_name(WEEK, last)
    return [vector_of(end + -back) for back in range(count - 1, -1, -1)]


def as_of(event_time=None, ingest_time=None):
    return vector_pb2.AsOf(
        event_time=stamp(event_time) if event_time else None,
        ingest_time=stamp(ingest_time) if ingest_time else None,
    )


def periods(reply) -> list[str]:
    return [interest.period for interest in reply.interests]


async def test_the_newest_week_is_the_default(world):
    newest = vector("2026-W47")
    world.put("u", vector("2026-W46"), newest)
    reply = await world.interest_service.GetInterest(pb.GetInterestRequest(user_id="u"))
    got = reply.interest
    assert got.period == "2026-W47"
    assert got.granularity == vector_pb2.GRANULARITY_WEEK
    assert got.event_count == newest.event_count
    assert got.vector.space_id == SPACE
    assert np.array_equal(np.frombuffer(got.vector.values, "<f4"), newest.vec_D)
    assert got.period_start_time.ToDatetime(UTC) == datetime(2026, 11, 16, tzinfo=UTC)
    assert got.period_end_time.ToDatetime(UTC) == datetime(2026, 11, 23, tzinfo=UTC)
    assert got.computed_time.ToDatetime(UTC) == newest.computed_time


async def test_the_basis_says_what_an_answer_rests_on(world):
    world.put("u", vector("2026-W47"))
    before = datetime.now(UTC)
    reply = await world.interest_service.GetInterest(pb.GetInterestRequest(user_id="u"))
    basis = reply.basis
    assert basis.as_of_event_time.ToDatetime(UTC) == NOW
    assert basis.as_of_ingest_time.ToDatetime(UTC) >= before
    assert basis.model_version == VERSION
    assert basis.space_id == SPACE
    assert basis.kind == vector_pb2.BASIS_KIND_PERSONAL
    assert not basis.is_stale
    # W47 ended on Monday at midnight; now is Tuesday noon.
    assert basis.input_age.ToTimedelta() == timedelta(hours=36)


@pytest.mark.parametrize(
    ("newest", "is_stale"), [("2026-W48", False), ("2026-W46", False), ("2026-W45", True)]
)
async def test_a_vector_older_than_two_periods_is_stale(world, newest, is_stale):
    world.put("u", vector(newest))
    reply = await world.interest_service.GetInterest(pb.GetInterestRequest(user_id="u"))
    assert reply.basis.is_stale is is_stale


async def test_an_open_period_has_no_age(world):
    world.put("u", vector("2026-W48"))
    reply = await world.interest_service.GetInterest(pb.GetInterestRequest(user_id="u"))
    assert reply.basis.HasField("input_age")
    assert reply.basis.input_age.ToTimedelta() == timedelta(0)


async def test_one_period_of_another_granularity(world):
    world.put("u", *(vector(name, Granularity.MONTH) for name in ("2026-09", "2026-10")))
    request = pb.GetInterestRequest(
        user_id="u", granularity=vector_pb2.GRANULARITY_MONTH, period="2026-09"
    )
    assert (await world.interest_service.GetInterest(request)).interest.period == "2026-09"


async def test_a_period_without_events_is_not_found_by_name(world):
    world.put("u", vector("2026-W45"), vector("2026-W47"))
    request = pb.GetInterestRequest(user_id="u", period="2026-W46")
    failed = await refusal(world.interest_service.GetInterest(request))
    assert (failed.code, failed.reason) == ("NOT_FOUND", "USER_NOT_FOUND")
    assert failed.message.startswith("no interest vector of 2026-W46 for this user;")


async def test_a_period_that_left_the_online_store_is_read_from_history(world):
    world.put("u", *weeks(40))
    request = pb.GetInterestRequest(user_id="u", period=weeks(40)[3].period.name)
    reply = await world.interest_service.GetInterest(request)
    assert reply.interest.period == request.period


async def test_a_past_instant_sees_periods_that_were_closed_then(world):
    world.put("u", *weeks(4))
    friday_of_w46 = datetime(2026, 11, 13, tzinfo=UTC)
    request = pb.GetInterestRequest(user_id="u", as_of=as_of(friday_of_w46))
    reply = await world.interest_service.GetInterest(request)
    assert reply.interest.period == "2026-W45"
    assert reply.basis.as_of_event_time.ToDatetime(UTC) == friday_of_w46
    assert reply.basis.input_age.ToTimedelta() == timedelta(days=4)


async def test_what_was_known_at_an_instant_is_answered_with_what_was_known(world):
    later = NOW - timedelta(hours=1)
    world.put("u", vector("2026-W46"))
    world.put("u", vector("2026-W46", known_time=later, computed_time=later, event_count=99))
    asked = {}
    for name, ingest_time in (("now", None), ("then", NOW - timedelta(days=2))):
        request = pb.GetInterestRequest(user_id="u", period="2026-W46")
        if ingest_time:
            request.as_of.CopyFrom(as_of(ingest_time=ingest_time))
        asked[name] = (await world.interest_service.GetInterest(request)).interest.event_count
    assert asked["then"] == vector("2026-W46").event_count
    assert asked["now"] == 99


async def test_unknown_users_are_told_what_to_do(world):
    request = pb.GetInterestRequest(user_id="nobody")
    failed = await refusal(world.interest_service.GetInterest(request))
    assert (failed.code, failed.reason) == ("NOT_FOUND", "USER_NOT_FOUND")
    assert failed.message == (
        "no interest vector for this user; record events and run `driftline refresh`"
    )
    assert failed.metadata == {"user_id": "nobody"}


async def test_a_batch_keeps_the_order_and_lists_who_is_missing(world):
    world.put("a", vector("2026-W45"))
    world.put("c", vector("2026-W47"))
    request = pb.BatchGetInterestsRequest(user_ids=["c", "x", "a", "y"])
    reply = await world.interest_service.BatchGetInterests(request)
    assert [(i.user_id, i.interest.period) for i in reply.interests] == [
        ("c", "2026-W47"),
        ("a", "2026-W45"),
    ]
    assert list(reply.missing_user_ids) == ["x", "y"]
    assert reply.basis.kind == vector_pb2.BASIS_KIND_PERSONAL
    assert reply.basis.input_age.ToTimedelta() == timedelta(hours=36)


async def test_a_batch_of_strangers_is_an_answer_without_input(world):
    request = pb.BatchGetInterestsRequest(user_ids=["x"])
    reply = await world.interest_service.BatchGetInterests(request)
    assert list(reply.missing_user_ids) == ["x"]
    assert reply.basis.kind == vector_pb2.BASIS_KIND_FALLBACK
    assert reply.basis.space_id == ""
    assert not reply.basis.HasField("input_age")


async def test_a_trajectory_is_oldest_first_with_gaps_left_out(world):
    world.put("u", vector("2026-W40"), vector("2026-W44"), vector("2026-W47"))
    reply = await world.interest_service.GetTrajectory(pb.GetTrajectoryRequest(user_id="u"))
    assert periods(reply) == ["2026-W40", "2026-W44", "2026-W47"]
    assert reply.next_page_token == ""
    assert reply.basis.input_age.ToTimedelta() == timedelta(hours=36)


async def test_pages_walk_back_through_online_and_offline_vectors_once_each(world):
    all_of_them = weeks(60)
    world.put("u", *all_of_them)
    for page_size in (7, 26, 50, 366):
        token, got = "", []
        for _ in range(20):
            request = pb.GetTrajectoryRequest(user_id="u", page_size=page_size, page_token=token)
            reply = await world.interest_service.GetTrajectory(request)
            got = periods(reply) + got
            token = reply.next_page_token
            if not token:
                break
        assert got == [v.period.name for v in all_of_them], page_size


async def test_the_default_page_is_what_is_kept_online():
    class NoHistory:
        async def trajectory(self, *args, **options):
            raise AssertionError("read history")

    async with serve(World(history=NoHistory())) as world:
        world.put("u", *weeks(60))
        reply = await world.interest_service.GetTrajectory(pb.GetTrajectoryRequest(user_id="u"))
    assert len(reply.interests) == 26
    assert reply.next_page_token


async def test_a_page_after_the_last_is_empty_not_an_error(world):
    world.put("u", *weeks(26))
    first = await world.interest_service.GetTrajectory(pb.GetTrajectoryRequest(user_id="u"))
    request = pb.GetTrajectoryRequest(user_id="u", page_token=first.next_page_token)
    reply = await world.interest_service.GetTrajectory(request)
    assert (len(first.interests), periods(reply), reply.next_page_token) == (26, [], "")


async def test_a_past_trajectory_ends_where_it_was_closed(world):
    world.put("u", *weeks(40))
    then = datetime(2026, 6, 10, tzinfo=UTC)
    request = pb.GetTrajectoryRequest(user_id="u", page_size=3, as_of=as_of(then))
    reply = await world.interest_service.GetTrajectory(request)
    assert periods(reply) == ["2026-W21", "2026-W22", "2026-W23"]
    request = pb.GetTrajectoryRequest(
        user_id="u", page_size=3, page_token=reply.next_page_token, as_of=as_of(then)
    )
    reply = await world.interest_service.GetTrajectory(request)
    assert periods(reply) == ["2026-W18", "2026-W19", "2026-W20"]


async def test_nothing_known_by_then_is_not_found(world):
    world.put("u", *weeks(3))
    request = pb.GetTrajectoryRequest(user_id="u", as_of=as_of(datetime(2020, 1, 1, tzinfo=UTC)))
    failed = await refusal(world.interest_service.GetTrajectory(request))
    assert failed.reason == "USER_NOT_FOUND"


async def test_a_token_is_good_for_its_own_request_only(world):
    world.put("u", *weeks(10))
    first = await world.interest_service.GetTrajectory(
        pb.GetTrajectoryRequest(user_id="u", page_size=2)
    )
    for token, granularity in (
        (first.next_page_token, vector_pb2.GRANULARITY_DAY),
        ("2²", 0),
        ("d2Vlay7CsjI", 0),  # "week.²2"
        ("d2Vlay4", 0),  # "week."
        ("d2Vlay4tLTU", 0),  # "week.--5"
        ("d2Vlay45OTk5OTk5OTk5OTk5OTk5OTk5", 0),
        ("===", 0),
        ("é", 0),
    ):
        request = pb.GetTrajectoryRequest(user_id="u", page_token=token, granularity=granularity)
        failed = await refusal(world.interest_service.GetTrajectory(request))
        assert (failed.code, list(failed.fields)) == ("INVALID_ARGUMENT", ["page_token"]), token


async def test_a_forecast_has_every_horizon_not_over_nearest_first(world):
    # Made at the close of W46: horizon 1 is W47, which is over; W48 is under way.
    world.put_forecast("u", forecast("2026-W46"))
    reply = await world.interest_service.GetForecast(pb.GetForecastRequest(user_id="u"))
    assert [(f.horizon, f.period) for f in reply.forecasts] == [
        (2, "2026-W48"),
        (3, "2026-W49"),
        (4, "2026-W50"),
    ]
    first = reply.forecasts[0]
    assert np.frombuffer(first.mean.values, "<f4").tolist() == [2.0, -2.0]
    assert np.frombuffer(first.scale_values, "<f4").tolist() == [1.0, 1.0]
    assert first.mean.space_id == SPACE
    assert reply.forecaster == "gru"
    assert reply.made_time.ToDatetime(UTC) == datetime(2026, 11, 16, tzinfo=UTC)
    assert reply.basis.model_version == VERSION


async def test_an_asked_period_is_mapped_to_its_horizon(world):
    world.put_forecast("u", forecast("2026-W46"))
    request = pb.GetForecastRequest(user_id="u", period="2026-W49")
    reply = await world.interest_service.GetForecast(request)
    assert [(f.horizon, f.period) for f in reply.forecasts] == [(3, "2026-W49")]


@pytest.mark.parametrize("period", ["2026-W47", "2026-W46", "2027-W20"])
async def test_a_period_that_is_over_or_too_far_has_no_forecast(world, period):
    world.put_forecast("u", forecast("2026-W46"))
    request = pb.GetForecastRequest(user_id="u", period=period)
    failed = await refusal(world.interest_service.GetForecast(request))
    assert failed.reason == "USER_NOT_FOUND"
    assert failed.message.startswith(f"no forecast of {period} for this user;")


async def test_forecasts_that_are_all_over_are_none(world):
    world.put_forecast("u", forecast("2026-W30"))
    failed = await refusal(world.interest_service.GetForecast(pb.GetForecastRequest(user_id="u")))
    assert failed.message.startswith("no forecast for this user;")


async def test_an_old_forecast_is_stale(world):
    world.put_forecast("u", forecast("2026-W45"))
    reply = await world.interest_service.GetForecast(pb.GetForecastRequest(user_id="u"))
    assert reply.basis.is_stale


async def test_a_past_forecast_is_the_newest_that_had_been_made(world):
    # Each is made and known when its period closes; W45 is made again a day later.
    for name, days in (("2026-W44", 0), ("2026-W45", 0), ("2026-W46", 0), ("2026-W45", 1)):
        end = period_from_name(WEEK, name).end
        made = forecast(name)
        again = replace(made, means_HD=made.means_HD + days, computed_time=end + timedelta(days))
        world.put_forecast("u", again)
    close = period_from_name(WEEK, "2026-W45").end

    async def ask(event_time, ingest_time, period=""):
        request = pb.GetForecastRequest(
            user_id="u", period=period, as_of=as_of(event_time, ingest_time)
        )
        return await world.interest_service.GetForecast(request)

    reply = await ask(close, close)
    assert [f.period for f in reply.forecasts] == ["2026-W46", "2026-W47", "2026-W48", "2026-W49"]
    assert reply.made_time.ToDatetime(UTC) == close
    assert np.frombuffer(reply.forecasts[0].mean.values, "<f4").tolist() == [1.0, -1.0]
    later = await ask(close, close + timedelta(days=2))
    assert np.frombuffer(later.forecasts[0].mean.values, "<f4").tolist() == [2.0, 0.0]
    before = await ask(close - timedelta(seconds=1), NOW)
    assert before.made_time.ToDatetime(UTC) == period_from_name(WEEK, "2026-W44").end
    one = await ask(close, close, "2026-W47")
    assert [f.horizon for f in one.forecasts] == [2]
    for instants in ((close - timedelta(weeks=2), NOW), (NOW, close - timedelta(weeks=2))):
        failed = await refusal(ask(*instants))
        assert failed.reason == "USER_NOT_FOUND"


async def test_history_has_a_limit_and_a_deadline_of_its_own():
    release, begun = asyncio.Event(), []

    class SlowHistory:
        async def trajectory(self, *args, **options):
            begun.append(args)
            await release.wait()
            return []

    world = World(history=SlowHistory())
    world.put("u", *weeks(3))
    request = pb.GetTrajectoryRequest(user_id="u", as_of=as_of(NOW - timedelta(days=1)))
    async with serve(world, max_history_calls=2, history_deadline_s=0.2):
        slow = [
            asyncio.create_task(refusal(world.interest_service.GetTrajectory(request)))
            for _ in range(2)
        ]
        while len(begun) < 2:
            await asyncio.sleep(0.01)
        refused = await refusal(world.interest_service.GetTrajectory(request))
        assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        # Reads of now are not held up.
        await world.interest_service.GetInterest(pb.GetInterestRequest(user_id="u"))
        late = await asyncio.gather(*slow)
        assert {failed.code for failed in late} == {"DEADLINE_EXCEEDED"}
        # Given up, but still under way: their places are taken until they end.
        refused = await refusal(world.interest_service.GetTrajectory(request))
        assert refused.reason == "OVERLOADED"
        release.set()
        await asyncio.sleep(0.05)
        failed = await refusal(world.interest_service.GetTrajectory(request))
        assert failed.reason == "USER_NOT_FOUND"


async def test_without_a_live_model_reads_are_not_ready():
    async with serve(World(registry=Registry(models=[]))) as world:
        failed = await refusal(
            world.interest_service.GetInterest(pb.GetInterestRequest(user_id="u"))
        )
    assert (failed.code, failed.reason) == ("UNAVAILABLE", "NOT_READY")
    assert failed.metadata == {"missing": "live model"}


async def test_vectors_are_served_before_an_index_was_published():
    async with serve(World(catalogues=Catalogues(held={}))) as world:
        world.put("u", vector("2026-W47"))
        reply = await world.interest_service.GetInterest(pb.GetInterestRequest(user_id="u"))
    assert reply.interest.period == "2026-W47"


def test_ordinals_of_a_token_reach_before_1970():
    from services.gateway.translate.pages import before_from_token, trajectory_token

    for ordinal in (-3, 0, Period(WEEK, 2900).ordinal):
        assert before_from_token(trajectory_token(WEEK, ordinal), WEEK) == ordinal
