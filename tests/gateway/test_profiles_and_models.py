"""ProfileService and ModelService over a real server."""

from datetime import UTC, datetime, timedelta

import pytest
from driftline.v1 import model_service_pb2 as mo
from driftline.v1 import profile_service_pb2 as pf
from driftline.v1 import vector_pb2

from tests.gateway.world import NOW, Registry, World, model, profile, refusal, serve, stamp


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
