"""ProfileService and ModelService over a real server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from driftline.v1 import model_service_pb2 as mo
from driftline.v1 import privacy_service_pb2 as pv
from driftline.v1 import profile_service_pb2 as pf
from driftline.v1 import vector_pb2

from services.core.activity import Activity
from services.core.burst_everyone import PastBurst, PopulationBursts, UserBursts
from services.core.burst_state import BurstType
from services.core.periods import period_from_name
from services.core.schema import DEFAULT_TENANT, Granularity
from services.core.topics import Topics
from services.core.tower import space_id_of
from services.store.layout import Layout
from services.store.model_card import attach_comparison
from services.store.model_folder import save_model
from services.store.models import FolderRegistry
from tests.core.test_promotion import compared
from tests.encoder.world import model as whole
from tests.encoder.world import tower
from tests.gateway.world import (
    NOW,
    SPACE,
    Catalogues,
    Registry,
    World,
    catalogue,
    model,
    profile,
    refusal,
    serve,
    stamp,
)
from tests.store.test_promotion import CARD


async def test_a_portrait_names_the_strongest_interests_first(world):
    world.put_profile("u", profile())
    reply = await world.profile_service.GetProfile(pf.GetProfileRequest(user_id="u"))
    assert [named.label for named in reply.interests] == ["food", "home", "drinks"]
    assert [named.share for named in reply.interests] == pytest.approx([0.5, 0.3, 0.2])
    assert [named.recent_share for named in reply.interests] == pytest.approx([0.75, 0.25, 0.0])
    assert (reply.event_count, reply.session_count) == (12, 3)
    assert reply.first_event_time.ToDatetime(UTC) == datetime(2026, 1, 5, 8, tzinfo=UTC)
    assert reply.last_event_time.ToDatetime(UTC) == datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert not reply.is_suspected_bot
    assert reply.basis.kind == vector_pb2.BASIS_KIND_PERSONAL
    assert reply.basis.input_age.ToTimedelta() == timedelta(days=2, hours=3)


async def test_a_page_of_a_portrait_keeps_the_strongest(world):
    world.put_profile("u", profile(is_suspected_bot=True))
    reply = await world.profile_service.GetProfile(pf.GetProfileRequest(user_id="u", page_size=1))
    assert [named.label for named in reply.interests] == ["food"]
    assert reply.is_suspected_bot


async def test_a_portrait_of_a_stranger_is_not_found(world):
    failed = await refusal(world.profile_service.GetProfile(pf.GetProfileRequest(user_id="x")))
    assert (failed.code, failed.reason) == ("NOT_FOUND", "USER_NOT_FOUND")
    assert failed.message == "no portrait for this user; record events and run `driftline refresh`"


async def test_a_past_portrait_is_not_served_yet(world):
    request = pf.GetProfileRequest(user_id="u", as_of={"event_time": stamp(NOW)})
    failed = await refusal(world.profile_service.GetProfile(request))
    assert (failed.code, failed.reason) == ("UNIMPLEMENTED", "UNIMPLEMENTED")


TOPICS = Topics(
    ids=("t1", "t2"),
    names=("food: jam", "home: soap"),
    terms=(("jam", "rye"), ("soap",)),
    categories=(("food",), ("home",)),
    centroids_TD=np.array([[1, 0], [0, 1]], np.float32),
    item_count=4,
)


def year() -> Activity:
    """Jam, then soap: from a year of both to the last half of soap alone."""
    weeks = np.arange(40)
    jam, soap = 8 * (weeks < 20), 8 * (weeks >= 20) + 1
    cells = np.concatenate([weeks[jam > 0], weeks])
    order = np.lexsort((np.r_[np.zeros(20), np.ones(40)], cells))
    return Activity(
        item_ids=("gone", "jam", "soap"),
        item_C=np.r_[np.full(20, 1), np.full(40, 2)][order].astype(np.int64),
        week_C=cells[order] + NEWEST_WEEK - 39,
        count_C=np.r_[jam[jam > 0], soap][order].astype(np.int64),
        weekday_days=(0, 0, 0, 0, 0, 40, 0),
        hour_hours=(0,) * 8 + (40,) + (0,) * 15,
    )


NEWEST_WEEK = period_from_name(Granularity.WEEK, "2026-W47").ordinal


@pytest.fixture
async def portrayed():
    made = World()
    made.catalogues.publish(DEFAULT_TENANT, replace(catalogue("g2"), topics=TOPICS))
    made.put_profile("u", profile())
    made.put_activity("u", year())
    async with serve(made) as served:
        yield served


async def test_a_portrait_states_topics_with_the_items_and_weeks_they_rest_on(portrayed):
    reply = await portrayed.profile_service.GetProfile(pf.GetProfileRequest(user_id="u"))
    soap, jam = reply.topics
    assert (soap.topic_id, soap.name, list(soap.terms)) == ("t2", "home: soap", ["soap"])
    assert (jam.topic_id, list(jam.categories)) == ("t1", ["food"])
    assert 0 < jam.weight_low < jam.weight < jam.weight_high < soap.weight
    assert (soap.trend, jam.trend) == (pf.TOPIC_TREND_RISING, pf.TOPIC_TREND_FADING)
    assert soap.standing == pf.TOPIC_STANDING_CORE
    assert [(one.item_id, one.title) for one in soap.trend_evidence.items] == [("soap", "Soap")]
    assert [(one.item_id, one.title) for one in jam.evidence.items] == [("jam", "Jam")]
    assert (soap.evidence.last_week, soap.evidence.event_count) == ("2026-W47", 200)
    assert soap.change.week == "2026-W28"
    assert (soap.change.share_before, soap.change.share_after) == (pytest.approx(1 / 9), 1)
    assert (reply.pattern.active_week_count, reply.pattern.week_count) == (40, 40)
    assert (reply.pattern.busiest_iso_weekday, reply.pattern.busiest_hour) == (6, 6)
    assert reply.summary.startswith("Mostly home: soap (")
    assert "like Soap" in reply.summary


async def test_a_page_of_topics_keeps_the_heaviest_in_words_too(portrayed):
    request = pf.GetProfileRequest(user_id="u", page_size=1)
    reply = await portrayed.profile_service.GetProfile(request)
    assert [one.topic_id for one in reply.topics] == ["t2"]
    assert "jam" not in reply.summary


async def test_hours_without_a_favourite_are_unset_not_midnight(portrayed):
    portrayed.put_profile("even", profile())
    portrayed.put_activity("even", replace(year(), hour_hours=(5,) * 24, weekday_days=(5,) * 7))
    reply = await portrayed.profile_service.GetProfile(pf.GetProfileRequest(user_id="even"))
    assert not reply.pattern.HasField("busiest_hour")
    assert reply.pattern.busiest_iso_weekday == 0


async def test_without_topics_or_activity_the_portrait_is_of_categories_alone(world, portrayed):
    world.put_profile("u", profile())
    world.put_activity("u", year())
    portrayed.put_profile("idle", profile())
    for service, user in ((world.profile_service, "u"), (portrayed.profile_service, "idle")):
        reply = await service.GetProfile(pf.GetProfileRequest(user_id=user))
        assert [named.label for named in reply.interests] == ["food", "home", "drinks"]
        assert (list(reply.topics), reply.HasField("pattern"), reply.summary) == ([], False, "")


def known_bursts(*bursts):
    return UserBursts(bursts=bursts, model_version="m1", known_at=week("2026-W46"))


def week(name):
    return period_from_name(Granularity.WEEK, name)


def burst(first, kind=BurstType.PERSONAL, **changes):
    given = {"topic": 1, "name": "games", "share": 0.5, "last": week(first)}
    return PastBurst(kind=kind, first=week(first), **given | changes)


async def test_a_portrait_tells_of_bursts_with_their_weeks_type_and_size(portrayed):
    known = known_bursts(
        burst("2026-W45", last=week("2026-W46"), is_lasting=True),
        burst("2026-W40", BurstType.AUTOMATED, topic=-1, name="", share=0.0),
        burst("2026-W20"),
    )
    portrayed.features.put_bursts("u", known, space_id=SPACE, computed_time=NOW)
    risen = PopulationBursts(risen={week("2026-W20"): (1,)}, model_version="m1")
    portrayed.features.put_population_bursts(
        risen, ("tea", "games"), known_at=week("2026-W20"), space_id=SPACE, computed_time=NOW
    )
    reply = await portrayed.profile_service.GetProfile(pf.GetProfileRequest(user_id="u"))
    said = [(one.first_week, one.last_week, one.kind, one.topic_name) for one in reply.bursts]
    assert said == [
        ("2026-W45", "2026-W46", pf.BURST_KIND_PERSONAL, "games"),
        ("2026-W40", "2026-W40", pf.BURST_KIND_AUTOMATED, ""),
        ("2026-W20", "2026-W20", pf.BURST_KIND_POPULATION, "games"),
    ]
    assert [one.is_lasting for one in reply.bursts] == [True, False, False]
    assert [one.peak_share for one in reply.bursts] == [0.5, 0.0, 0.5]


async def test_a_user_without_bursts_has_none(portrayed):
    reply = await portrayed.profile_service.GetProfile(pf.GetProfileRequest(user_id="u"))
    assert list(reply.bursts) == []


async def correct(world, topic_id="t2", wish=pf.TOPIC_WISH_NOT_INTERESTED, user_id="u"):
    request = pf.CorrectProfileRequest(user_id=user_id, topic_id=topic_id, wish=wish)
    return await world.profile_service.CorrectProfile(request)


async def topics(world):
    reply = await world.profile_service.GetProfile(pf.GetProfileRequest(user_id="u"))
    return [one.topic_id for one in reply.topics], reply


async def test_a_correction_is_in_the_very_next_portrait_and_can_be_taken_back(portrayed):
    said = await correct(portrayed)
    assert [(one.topic_id, one.name, one.wish) for one in said.corrections] == [
        ("t2", "home: soap", pf.TOPIC_WISH_NOT_INTERESTED)
    ]
    ids, reply = await topics(portrayed)
    assert ids == ["t1"]
    assert list(reply.corrections) == list(said.corrections)
    assert "soap" not in reply.summary
    said = await correct(portrayed, "t1", pf.TOPIC_WISH_MORE)
    assert [one.topic_id for one in said.corrections] == ["t1", "t2"]
    ids, reply = await topics(portrayed)
    assert reply.topics[0].wish == pf.TOPIC_WISH_MORE
    await correct(portrayed, "t1", pf.TOPIC_WISH_NONE)
    assert list((await correct(portrayed, "t2", pf.TOPIC_WISH_NONE)).corrections) == []
    assert (await topics(portrayed))[0] == ["t2", "t1"]


async def test_a_correction_is_kept_through_a_refresh_and_rests_while_its_topic_is_no_more(
    portrayed,
):
    await correct(portrayed)
    portrayed.put_activity("u", replace(year(), weekday_days=(1,) * 7))
    renamed = replace(TOPICS, names=("food", "soap and water"))
    made = replace(catalogue("g3"), topics=renamed)
    portrayed.catalogues.publish(DEFAULT_TENANT, made)
    await portrayed.state.poll()
    ids, reply = await topics(portrayed)
    assert ids == ["t1"]
    assert reply.corrections[0].name == "soap and water"
    gone = replace(TOPICS, ids=("t1", "t9"))
    portrayed.catalogues.publish(DEFAULT_TENANT, replace(catalogue("g4"), topics=gone))
    await portrayed.state.poll()
    ids, reply = await topics(portrayed)
    assert ids == ["t9", "t1"]
    assert [(one.topic_id, one.name) for one in reply.corrections] == [("t2", "")]
    assert list((await correct(portrayed, "t2", pf.TOPIC_WISH_NONE)).corrections) == []


async def test_bad_corrections_are_refused_by_name(portrayed):
    failed = await refusal(correct(portrayed, "t9"))
    assert (failed.code, failed.metadata["field"]) == ("INVALID_ARGUMENT", "topic_id")
    failed = await refusal(correct(portrayed, "t1", pf.TOPIC_WISH_UNSPECIFIED))
    assert (failed.code, failed.metadata["field"]) == ("INVALID_ARGUMENT", "wish")
    failed = await refusal(correct(portrayed, "t1", 77))
    assert (failed.code, failed.metadata["field"]) == ("INVALID_ARGUMENT", "wish")
    failed = await refusal(correct(portrayed, user_id="stranger"))
    assert (failed.code, failed.reason) == ("NOT_FOUND", "USER_NOT_FOUND")


async def test_an_erased_user_can_correct_nothing(portrayed):
    await correct(portrayed)
    await portrayed.privacy_service.EraseUser(pv.EraseUserRequest(user_id="u"))
    failed = await refusal(correct(portrayed))
    assert (failed.code, failed.reason) == ("NOT_FOUND", "USER_NOT_FOUND")


async def test_models_come_newest_first_page_by_page():
    models = [
        model("m5", stage="candidate"),
        model("m4", stage="live"),
        model("m3", stage="previous"),
        model("m2", stage=""),
        model("m1", stage=""),
    ]
    async with serve(World(registry=Registry(models=models))) as world:
        got, token, sizes = [], "", []
        while True:
            request = mo.ListModelsRequest(page_size=2, page_token=token)
            reply = await world.model_service.ListModels(request)
            got += reply.models
            sizes.append(len(reply.models))
            token = reply.next_page_token
            if not token:
                break
    assert sizes == [2, 2, 1]
    assert [one.model_version for one in got] == ["m5", "m4", "m3", "m2", "m1"]
    assert [one.stage for one in got[:4]] == [
        mo.MODEL_STAGE_CANDIDATE,
        mo.MODEL_STAGE_LIVE,
        mo.MODEL_STAGE_PREVIOUS,
        mo.MODEL_STAGE_UNSPECIFIED,
    ]
    first = got[0]
    assert first.trained_until_time.ToDatetime(UTC) == NOW - timedelta(days=3)
    assert {m.name: m.value for m in first.metrics} == {"recommendation.all.h1.ndcg_at_10": 0.25}


async def test_an_empty_registry_is_an_empty_list():
    async with serve(World(registry=Registry(models=[]))) as world:
        reply = await world.model_service.ListModels(mo.ListModelsRequest())
    assert (list(reply.models), reply.next_page_token) == ([], "")


@pytest.fixture
async def promoting(tmp_path):
    """A gateway over a registry on disk: m1 is live, m2 a candidate, far another space's."""
    registry = FolderRegistry(Layout(tmp_path / "data", 4))
    far = tower(seed=1)
    for version, changes in {
        "m1": {},
        "m2": {},
        "far": {"tower": far, "space_id": space_id_of(whole().backbone, far)},
    }.items():
        folder = tmp_path / version
        info = save_model(folder, replace(whole(version, **changes), card=CARD))
        registry.add("default", str(folder), info)
    registry.promote("default", "m1")
    space_id = whole().space_id
    held = {space_id: replace(catalogue(), space_id=space_id)}
    async with serve(World(registry=registry, catalogues=Catalogues(held=held))) as world:
        yield world


async def test_a_promoted_model_is_live_and_what_it_was_judged_by_is_said(promoting):
    folder = Path(promoting.registry.folder("default", "m2"))
    attach_comparison(folder, compared(0.01, 0.03).to_json())
    reply = await promoting.model_service.PromoteModel(mo.PromoteModelRequest(model_version="m2"))
    assert (reply.model.model_version, reply.model.stage) == ("m2", mo.MODEL_STAGE_LIVE)
    assert reply.previous_model_version == "m1"
    assert (reply.comparison.live_model_version, reply.comparison.user_count) == ("m1", 400)
    assert (reply.comparison.gain_low, reply.comparison.gain_high) == (0.01, 0.03)
    assert list(reply.comparison.learned_from_answers) == ["m1"]
    await promoting.state.poll()
    assert promoting.state.served().model.model_version == "m2"


async def test_a_model_that_is_proven_worse_is_refused_with_the_proof(promoting):
    folder = Path(promoting.registry.folder("default", "m2"))
    attach_comparison(folder, compared(-0.07, -0.01).to_json())
    request = mo.PromoteModelRequest(model_version="m2")
    failed = await refusal(promoting.model_service.PromoteModel(request))
    assert (failed.code, failed.reason) == ("FAILED_PRECONDITION", "WORSE_THAN_LIVE")
    assert failed.metadata["live_model_version"] == "m1"
    assert "-0.0700 to -0.0100" in failed.metadata["proof"]
    request.accepts_worse = True
    reply = await promoting.model_service.PromoteModel(request)
    assert reply.model.model_version == "m2"


async def test_a_model_of_another_space_or_none_at_all_is_not_promoted(promoting):
    request = mo.PromoteModelRequest(model_version="far", accepts_worse=True)
    failed = await refusal(promoting.model_service.PromoteModel(request))
    assert (failed.code, failed.reason) == ("FAILED_PRECONDITION", "SPACE_MISMATCH")
    request = mo.PromoteModelRequest(model_version="m9")
    failed = await refusal(promoting.model_service.PromoteModel(request))
    assert (failed.code, list(failed.fields)) == ("INVALID_ARGUMENT", ["model_version"])
    reply = await promoting.model_service.PromoteModel(mo.PromoteModelRequest(model_version="m2"))
    assert not reply.HasField("comparison")
