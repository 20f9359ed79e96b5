"""Recommendations for many users: a batch, and an export as a stream, over a real server."""

import asyncio

import pytest
from driftline.v1 import recommendation_service_pb2 as pb
from driftline.v1 import vector_pb2

from services.gateway import recommender
from tests.gateway.world import World, catalogue, rank_state, refusal, serve

OPTIONS = {"page_size": 2, "consumed_policy": pb.CONSUMED_POLICY_DROP, "diversity": 0.5}


def export(world, user_ids, **options):
    request = pb.ExportRecommendationsRequest(user_ids=user_ids, options=options)
    return world.recommendation_service.ExportRecommendations(request)


async def exported(world, user_ids, **options):
    return [part async for part in export(world, user_ids, **options)]


async def test_a_batch_answers_each_user_as_a_call_of_their_own_would(world):
    world.put_rank_state("a", rank_state("tea"))
    world.put_rank_state("b", rank_state("jam", "soap"))
    asked = pb.BatchRecommendItemsRequest(
        user_ids=["b", "nobody", "a"], options=OPTIONS | {"declared_categories": ["home", "x"]}
    )
    reply = await world.recommendation_service.BatchRecommendItems(asked)
    assert [one.user_id for one in reply.users] == ["b", "nobody", "a"]
    assert reply.unmatched == ["x"]
    for one in reply.users:
        alone = await world.recommendation_service.RecommendItems(
            pb.RecommendItemsRequest(
                user_id=one.user_id, declared_categories=["home", "x"], **OPTIONS
            )
        )
        assert list(one.items) == list(alone.items)
        assert one.fallback == alone.fallback
        assert one.basis.kind == alone.basis.kind
    assert reply.users[1].basis.kind == vector_pb2.BASIS_KIND_FALLBACK


async def test_an_export_streams_everybody_in_the_order_asked(world, monkeypatch):
    monkeypatch.setattr(recommender, "EXPORTED_USERS", 3)
    world.put_rank_state("u4", rank_state("tea"))
    users = [f"u{i}" for i in range(8)]
    parts = await exported(world, users, consumed_policy=pb.CONSUMED_POLICY_ONLY)
    assert [len(part.users) for part in parts] == [3, 3, 2]
    assert [one.user_id for part in parts for one in part.users] == users
    had = {
        one.user_id: [item.item_id for item in one.items] for part in parts for one in part.users
    }
    assert had == {user: ["tea"] if user == "u4" else [] for user in users}


async def test_a_generation_that_comes_meanwhile_does_not_change_an_export(world, monkeypatch):
    monkeypatch.setattr(recommender, "EXPORTED_USERS", 1)
    stream = export(world, ["a", "b"])
    first = await stream.read()
    world.catalogues.publish("", catalogue("g2", fig=("Fig", ("food",), (1.0, 0.0))))
    await world.state.poll()
    second = await stream.read()
    assert list(first.users[0].items) == list(second.users[0].items)
    assert [one.item_id for one in (await exported(world, ["a"]))[0].users[0].items] == ["fig"]


@pytest.mark.parametrize(
    ("user_ids", "options", "field"),
    [
        ([], {}, "user_ids"),
        (["a", "a"], {}, "user_ids"),
        (["a"], {"diversity": 3.0}, "options.diversity"),
        (["a"], {"consumed_policy": 9}, "options.consumed_policy"),
    ],
)
async def test_a_bad_export_is_refused_by_name(world, user_ids, options, field):
    failed = await refusal(export(world, user_ids, **options).read())
    assert (failed.code, failed.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert field in failed.fields


async def test_an_export_without_an_index_is_not_ready():
    world = World()
    world.catalogues.held = {}
    async with serve(world):
        failed = await refusal(export(world, ["a"]).read())
    assert (failed.code, failed.reason) == ("UNAVAILABLE", "NOT_READY")


async def test_a_caller_who_leaves_an_export_frees_its_place(monkeypatch):
    monkeypatch.setattr(recommender, "EXPORTED_USERS", 1)
    async with serve(World(), max_concurrent_calls=1) as world:
        # More than the connection takes in at once, so that the server has to wait.
        stream = export(world, [f"u{i:04}" for i in range(5000)])
        await stream.read()
        refused = await refusal(export(world, ["a"]).read())
        assert refused.code == "RESOURCE_EXHAUSTED"
        stream.cancel()
        async with asyncio.timeout(10):
            while True:
                try:
                    parts = await exported(world, ["a"])
                    break
                except Exception:
                    await asyncio.sleep(0.05)
    assert len(parts) == 1


async def test_an_erased_user_is_a_stranger_in_an_export(world):
    world.put_rank_state("u", rank_state("tea"))
    world.state.hide("u")
    (part,) = await exported(world, ["u"])
    assert part.users[0].basis.kind == vector_pb2.BASIS_KIND_FALLBACK
    assert not any(item.HasField("reason") for item in part.users[0].items)
