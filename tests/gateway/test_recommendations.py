"""RecommendationService over a real server."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from driftline.v1 import recommendation_service_pb2 as pb
from driftline.v1 import vector_pb2

from services.core.recommend import Filters, recommend, shelf_of
from services.gateway import recommender
from services.store.memory_features import MemoryFeatures
from tests.gateway.world import (
    NOW,
    SPACE,
    VERSION,
    Catalogues,
    World,
    catalogue,
    rank_state,
    ranker,
    refusal,
    serve,
    stamp,
)


def ids(reply) -> list[str]:
    return [item.item_id for item in reply.items]


async def recommended(world, user_id="u", **fields):
    request = pb.RecommendItemsRequest(user_id=user_id, **fields)
    return await world.recommendation_service.RecommendItems(request)


async def test_a_stranger_gets_popular_items_marked_as_fallback(world):
    reply = await recommended(world, "nobody")
    assert ids(reply) == ["jam", "rye", "soap", "tea"]
    assert reply.basis.kind == vector_pb2.BASIS_KIND_FALLBACK
    assert not reply.basis.HasField("input_age")
    assert reply.items[0].title == "Jam"
    assert list(reply.items[0].categories) == ["food", "sweet"]
    assert all(item.parts.repeat == 0 for item in reply.items)


async def test_a_known_user_gets_what_the_core_ranks(world):
    state = rank_state("tea", "rye")
    world.put_rank_state("u", state)
    reply = await recommended(world)
    held = catalogue()
    shelf = shelf_of(held.item_ids, held.categories, held.items_ND, held.stats)
    expected = recommend(state, shelf, ranker(), now=NOW.timestamp(), k=20, filters=Filters())
    assert ids(reply) == [held.item_ids[row] for row in expected.row_K]
    assert np.allclose([item.score for item in reply.items], expected.score_K)
    assert np.allclose([i.parts.interest for i in reply.items], expected.interest_K)
    assert np.allclose([i.parts.popularity for i in reply.items], expected.popularity_K)
    assert {i.item_id for i in reply.items if i.parts.repeat} == {"tea", "rye"}
    basis = reply.basis
    assert basis.kind == vector_pb2.BASIS_KIND_PERSONAL
    assert (basis.model_version, basis.space_id) == (VERSION, SPACE)
    assert basis.input_age.ToTimedelta() == timedelta(days=1)
    assert not basis.is_stale


async def test_a_state_from_long_ago_is_stale(world):
    world.put_rank_state("u", rank_state("tea", at=datetime(2026, 10, 1, tzinfo=UTC)))
    assert (await recommended(world)).basis.is_stale


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"page_size": 2}, 2),
        ({"consumed_policy": pb.CONSUMED_POLICY_DROP}, {"jam", "soap"}),
        ({"consumed_policy": pb.CONSUMED_POLICY_ONLY}, {"tea", "rye"}),
        ({"consumed_policy": pb.CONSUMED_POLICY_KEEP}, {"jam", "rye", "soap", "tea"}),
        ({"categories": ["food"]}, {"jam", "rye"}),
        ({"categories": ["sweet", "home"]}, {"jam", "soap"}),
        ({"excluded_item_ids": ["jam", "unheard-of"]}, {"rye", "soap", "tea"}),
    ],
)
async def test_the_caller_decides_what_may_come_back(world, fields, expected):
    world.put_rank_state("u", rank_state("tea", "rye"))
    found = ids(await recommended(world, **fields))
    assert (len(found) if isinstance(expected, int) else set(found)) == expected


async def test_a_strangers_declared_categories_are_what_is_popular_there(world):
    reply = await recommended(world, "nobody", declared_categories=["home", "drinks"])
    assert ids(reply) == ["soap", "tea"]
    assert reply.fallback == pb.FALLBACK_KIND_DECLARED_CATEGORIES
    assert reply.basis.kind == vector_pb2.BASIS_KIND_FALLBACK


async def test_categories_that_nothing_is_in_fall_back_to_what_is_popular_and_are_named(world):
    reply = await recommended(world, "nobody", declared_categories=["games"])
    assert ids(reply) == ["jam", "rye", "soap", "tea"]
    assert reply.fallback == pb.FALLBACK_KIND_POPULAR
    assert reply.unmatched == ["games"]


async def test_declared_categories_change_nothing_for_who_is_known(world):
    world.put_rank_state("u", rank_state("tea", "rye"))
    reply = await recommended(world, declared_categories=["home"])
    assert reply.items == (await recommended(world)).items
    assert reply.fallback == pb.FALLBACK_KIND_UNSPECIFIED


async def test_what_the_catalogue_does_not_have_is_named(world):
    reply = await recommended(
        world,
        allowed_item_ids=["jam", "plum"],
        excluded_item_ids=["fig"],
        categories=["food", "toys"],
    )
    assert ids(reply) == ["jam"]
    assert reply.unmatched == ["toys", "plum", "fig"]


async def test_reasons_cite_the_users_own_items_and_when(world):
    world.put_rank_state("u", rank_state("tea", "rye"))
    by_id = {item.item_id: item for item in (await recommended(world)).items}
    (first, *_) = by_id["tea"].reason.cited_items
    assert (first.item_id, first.title) == ("tea", "Tea")
    assert first.effect > 0
    assert 1.9 < first.week_count < 2.0
    assert first.last_time.ToDatetime(UTC) == NOW - timedelta(days=1)
    cited = {one.item_id for item in by_id.values() for one in item.reason.cited_items}
    assert cited <= {"tea", "rye"}
    assert by_id["tea"].parts.novelty == 0
    assert by_id["jam"].parts.novelty == pytest.approx(0.2)
    stranger = await recommended(world, "nobody")
    assert not any(item.HasField("reason") for item in stranger.items)
    assert all(item.parts.novelty == 1 for item in stranger.items)


async def test_reasons_are_left_out_where_the_request_omits_them(world):
    world.put_rank_state("u", rank_state("tea", "rye"))
    plain, bare = await recommended(world), await recommended(world, omit_reasons=True)
    assert any(item.HasField("reason") for item in plain.items)
    for item in plain.items:
        item.ClearField("reason")
    assert list(bare.items) == list(plain.items)
    request = pb.BatchRecommendItemsRequest(
        user_ids=["u"], options=pb.RecommendationOptions(omit_reasons=True)
    )
    (many,) = (await world.recommendation_service.BatchRecommendItems(request)).users
    assert list(many.items) == list(bare.items)


async def test_explored_items_are_marked_and_stay_the_same_all_week(world):
    world.put_rank_state("u", rank_state("tea"))
    reply = await recommended(world, page_size=2, exploration_share=0.5)
    marked = [item.item_id for item in reply.items if item.is_exploration]
    assert len(reply.items) == 2
    assert len(marked) == 1
    assert marked != ["tea"]
    assert (await recommended(world, page_size=2, exploration_share=0.5)).items == reply.items
    drawn = {
        ids(await recommended(world, page_size=2, exploration_share=0.5, exploration_seed=n))[1]
        for n in range(1, 20)
    }
    assert len(drawn) > 1
    assert "tea" not in drawn


async def test_diversity_puts_a_different_item_second(world):
    plain = ids(await recommended(world, "nobody"))
    varied = ids(await recommended(world, "nobody", diversity=1.0))
    assert plain[:2] == ["jam", "rye"]
    assert varied[0] == "jam"
    assert varied[1] in {"soap", "tea"}


async def test_items_near_the_mean_of_several_leave_these_out(world):
    request = pb.FindSimilarItemsRequest(item_id="jam", other_item_ids=["soap"])
    reply = await world.recommendation_service.FindSimilarItems(request)
    assert ids(reply) == ["rye", "tea"]
    assert reply.items[0].score == pytest.approx(1.4 / 2**0.5)
    request = pb.FindSimilarItemsRequest(item_id="jam", categories=["home", "drinks"])
    reply = await world.recommendation_service.FindSimilarItems(request)
    assert ids(reply) == ["soap", "tea"]


async def test_one_unknown_item_among_several_is_named(world):
    request = pb.FindSimilarItemsRequest(item_id="jam", other_item_ids=["soap", "plum"])
    failed = await refusal(world.recommendation_service.FindSimilarItems(request))
    assert (failed.reason, failed.metadata) == ("ITEM_NOT_FOUND", {"item_id": "plum"})


async def test_a_large_catalogue_is_ranked_the_same_off_the_event_loop(world, monkeypatch):
    world.put_rank_state("u", rank_state("tea", "rye"))
    inline = await recommended(world)
    similar = await world.recommendation_service.FindSimilarItems(
        pb.FindSimilarItemsRequest(item_id="jam")
    )
    monkeypatch.setattr(recommender, "INLINE_ITEMS", 0)
    assert (await recommended(world)).items == inline.items
    again = await world.recommendation_service.FindSimilarItems(
        pb.FindSimilarItemsRequest(item_id="jam")
    )
    assert again.items == similar.items


async def test_a_past_recommendation_is_not_served_yet(world):
    failed = await refusal(recommended(world, as_of={"event_time": stamp(NOW)}))
    assert (failed.code, failed.reason) == ("UNIMPLEMENTED", "UNIMPLEMENTED")


async def test_without_an_index_there_is_nothing_to_rank():
    async with serve(World(catalogues=Catalogues(held={}))) as world:
        failed = await refusal(recommended(world))
        similar = await refusal(
            world.recommendation_service.FindSimilarItems(pb.FindSimilarItemsRequest(item_id="jam"))
        )
    for one in (failed, similar):
        assert (one.code, one.reason) == ("UNAVAILABLE", "NOT_READY")
        assert one.metadata == {"missing": "item index"}


async def test_before_any_user_was_published_everybody_is_a_stranger():
    world = World()
    world.features = MemoryFeatures()  # no view applied
    async with serve(world):
        reply = await recommended(world)
    assert len(reply.items) == 4
    assert reply.basis.kind == vector_pb2.BASIS_KIND_FALLBACK


async def test_similar_items_come_nearest_first_without_the_item(world):
    request = pb.FindSimilarItemsRequest(item_id="jam", page_size=2)
    reply = await world.recommendation_service.FindSimilarItems(request)
    assert ids(reply) == ["rye", "soap"]
    assert [item.score for item in reply.items] == pytest.approx([0.8, 0.0])
    assert not reply.items[0].HasField("parts")
    assert reply.basis.space_id == SPACE


async def test_an_unknown_item_is_not_found(world):
    request = pb.FindSimilarItemsRequest(item_id="plum")
    failed = await refusal(world.recommendation_service.FindSimilarItems(request))
    assert (failed.code, failed.reason) == ("NOT_FOUND", "ITEM_NOT_FOUND")
    assert failed.message == "no such item; upsert it and run `driftline refresh`"
    assert failed.metadata == {"item_id": "plum"}
