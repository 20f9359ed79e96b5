"""ContentService over a real server, and through both clients of the SDK."""

from dataclasses import replace
from datetime import timedelta

import driftline
import numpy as np
import pytest
from driftline.v1 import content_service_pb2 as ct

from services.core.demand import ACTIVITY_COHORTS, Cells, ReleaseTerms
from services.core.demand_release import make_release
from services.core.periods import period_from_name
from services.core.schema import DEFAULT_TENANT, Granularity
from services.core.topics import Topics
from tests.gateway.world import NOW, SPACE, World, catalogue, refusal, serve

TERMS = ReleaseTerms()
TOPICS = Topics(
    ids=("t1", "t2"), names=("food: jam", "home: soap"), terms=(("jam",), ("soap",)),
    categories=(("food",), ("home",)), centroids_TD=np.eye(2, dtype=np.float32), item_count=4,
)  # fmt: skip


def release(newest="2026-W47", periods=40, now=NOW, former=None):
    """Occasional and regular users are many; two are frequent."""
    rng = np.random.default_rng(0)
    level = np.array([[[100.0], [300.0]], [[200.0], [100.0]], [[1.0], [1.0]]])
    volume = rng.poisson(level, (3, 2, periods))
    cells = Cells(
        cohorts=ACTIVITY_COHORTS, topic_ids=TOPICS.ids,
        first=period_from_name(Granularity.WEEK, newest).ordinal - periods + 1,
        audience_CTP=volume // 2, volume_CTP=volume,
        size_CP=np.array([[400] * periods, [300] * periods, [2] * periods]),
    )  # fmt: skip
    return make_release(cells, former, TERMS, secret=b"s" * 32, space_id=SPACE, now=now)


@pytest.fixture
async def demanded():
    world = World()
    world.catalogues.publish(DEFAULT_TENANT, replace(catalogue(), topics=TOPICS))
    world.demand.update(DEFAULT_TENANT, SPACE, TERMS.name, lambda secret, former: release())
    async with serve(world) as served:
        yield served


def ask(world, **fields):
    return world.content_service.ForecastTopicDemand(ct.ForecastTopicDemandRequest(**fields))


def brief(world, **fields):
    return world.content_service.DraftBrief(ct.DraftBriefRequest(**fields))


async def test_topics_come_by_the_volume_expected_next_with_intervals_of_every_period(demanded):
    reply = await ask(demanded, horizon_count=2, history_count=3)
    assert [one.topic_id for one in reply.topics] == ["t2", "t1"]
    soap = reply.topics[0]
    assert (soap.name, list(soap.terms), soap.item_count) == ("home: soap", ["soap"], 2)
    assert [(one.period, one.horizon) for one in soap.forecasts] == [
        ("2026-W48", 1),
        ("2026-W49", 2),
    ]
    # 300 + 100 events, half as many users; the two frequent users are in no sum.
    assert soap.forecasts[0].volume.mean == pytest.approx(400, abs=40)
    assert soap.forecasts[0].audience.mean == pytest.approx(200, abs=20)
    for figure in ("audience", "volume", "share"):
        one = getattr(soap.forecasts[0], figure)
        assert one.low_95 <= one.low_80 < one.mean < one.high_80 <= one.high_95
    shares = [topic.forecasts[0].share.mean for topic in reply.topics]
    assert sum(shares) == pytest.approx(1, abs=0.02)
    assert [one.period for one in soap.history] == ["2026-W45", "2026-W46", "2026-W47"]
    assert soap.history[-1].volume == pytest.approx(400, abs=150)


async def test_the_answer_says_what_it_rests_on_and_which_cohorts_there_are(demanded):
    reply = await ask(demanded)
    basis = reply.basis
    assert (basis.newest_period, basis.space_id, basis.cohort) == ("2026-W47", SPACE, "all")
    assert not basis.is_stale
    terms = basis.terms
    assert (terms.epsilon, terms.event_cap, terms.least_cohort_users) == (1.0, 8, 20)
    assert terms.edition == 1
    assert [(one.name, one.is_served) for one in reply.cohorts] == [
        ("all", True), ("occasional", True), ("regular", True), ("frequent", False)
    ]  # fmt: skip
    assert 300 < reply.cohorts[1].least_user_count <= 400
    assert reply.cohorts[3].least_user_count == 0
    assert reply.cohorts[2].description == "active in 3 to 5 of the last 8 weeks"


async def test_a_cohort_too_small_is_refused_with_the_least_size(demanded):
    for call in (ask(demanded, cohort="frequent"), brief(demanded, cohort="frequent")):
        failed = await refusal(call)
        assert (failed.code, failed.reason) == ("FAILED_PRECONDITION", "COHORT_TOO_SMALL")
        assert failed.metadata == {"cohort": "frequent", "least_users": "20"}
        assert "20" in failed.message


async def test_cohorts_and_topics_that_are_none_are_refused_by_name(demanded):
    for call, field in (
        (ask(demanded, cohort="u1,u2"), "cohort"),
        (brief(demanded, cohort="nobody"), "cohort"),
        (ask(demanded, topic_ids=["t9"]), "topic_id"),
        (brief(demanded, topic_id="t9"), "topic_id"),
        (ask(demanded, topic_ids=["t1", "t1"]), "topic_ids"),
        (ask(demanded, horizon_count=29), "horizon_count"),
        (ask(demanded, history_count=-1), "history_count"),
        (ask(demanded, page_size=65), "page_size"),
        (brief(demanded), "subject"),
    ):
        failed = await refusal(call)
        assert (failed.code, failed.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
        assert failed.metadata["field"] == field


async def test_a_page_keeps_the_most_wanted_and_named_topics_come_alone(demanded):
    assert [one.topic_id for one in (await ask(demanded, page_size=1)).topics] == ["t2"]
    assert [one.topic_id for one in (await ask(demanded, topic_ids=["t1"])).topics] == ["t1"]
    regular = await ask(demanded, cohort="regular")
    assert [one.topic_id for one in regular.topics] == ["t1", "t2"]


async def test_repeated_calls_are_equal_also_after_a_restart_and_a_refresh(demanded):
    first = [await ask(demanded, history_count=40, cohort=name) for name in ("", "regular")]
    again = [await ask(demanded, history_count=40, cohort=name) for name in ("", "regular")]
    assert first == again
    # The same store behind another gateway, after a refresh that found nothing new.
    demanded.demand.update(
        DEFAULT_TENANT, SPACE, TERMS.name, lambda secret, former: release(former=former)
    )
    async with serve(World(catalogues=demanded.catalogues, demand=demanded.demand)) as other:
        assert [await ask(other, history_count=40, cohort=n) for n in ("", "regular")] == first


async def test_periods_that_are_over_are_not_forecast_and_an_old_release_is_stale():
    world = World()
    world.catalogues.publish(DEFAULT_TENANT, replace(catalogue(), topics=TOPICS))
    old = release(newest="2026-W44", now=NOW - timedelta(weeks=3))
    world.demand.update(DEFAULT_TENANT, SPACE, TERMS.name, lambda secret, former: old)
    async with serve(world) as served:
        reply = await ask(served, horizon_count=2)
        assert reply.basis.is_stale
        steps = reply.topics[0].forecasts
        assert [(one.period, one.horizon) for one in steps] == [("2026-W48", 4), ("2026-W49", 5)]


async def test_before_the_first_publication_demand_is_not_ready(world):
    failed = await refusal(ask(world))
    assert (failed.code, failed.reason) == ("UNAVAILABLE", "NOT_READY")
    assert failed.metadata == {"missing": "content demand"}


async def test_a_topics_brief_says_who_and_what_next_and_cites_the_catalogue(demanded):
    reply = await brief(demanded, topic_id="t1")
    parts = [one.part for one in reply.statements]
    assert parts[:2] == [ct.BRIEF_PART_WHO, ct.BRIEF_PART_NEXT]
    assert parts[-1] == ct.BRIEF_PART_EXAMPLES
    who = reply.statements[0]
    assert "food: jam" in who.text and "% regular" in who.text
    assert [one.cohort for one in who.figures] == ["all", "regular", "occasional"]
    assert list(reply.statements[-1].example_titles) == ["Jam", "Rye bread"]
    assert all(one.figures for one in reply.statements)
    assert reply.text == " ".join(one.text for one in reply.statements)


async def test_an_audiences_brief_says_who_they_are(demanded):
    reply = await brief(demanded, cohort="regular")
    assert reply.basis.cohort == "regular"
    who = reply.statements[0]
    assert "active in 3 to 5 of the last 8 weeks" in who.text
    assert who.figures[0].measure == ct.BRIEF_MEASURE_COHORT_USERS
    share = next(one for one in reply.statements if one.part == ct.BRIEF_PART_NEXT).figures[0]
    assert 0 < share.low < share.value < share.high < 1
    assert (share.first_period, share.last_period) == ("2026-W48", "2026-W48")


async def test_the_sdk_reads_demand_and_briefs_from_a_live_gateway(demanded):
    async with driftline.AsyncClient(demanded.target) as client:
        demand = await client.forecast_demand(horizon_count=1)
        assert demand.basis.granularity is driftline.Granularity.WEEK
        assert [one.topic_id for one in demand.topics] == ["t2", "t1"]
        assert demand.topics[0].forecasts[0].volume.mean == pytest.approx(400, abs=40)
        said = await client.draft_brief(cohort="regular")
        assert said.statements[0].part is driftline.BriefPart.WHO
        with pytest.raises(driftline.CohortTooSmallError) as failed:
            await client.forecast_demand("frequent")
        assert (failed.value.cohort, failed.value.least_users) == ("frequent", 20)
        with pytest.raises(driftline.InvalidArgumentError, match="cohort"):
            await client.forecast_demand("u1,u2")
