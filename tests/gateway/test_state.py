"""What the gateway holds is swapped whole, and erased users are hidden at once."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest
from driftline.v1 import interest_service_pb2 as it
from driftline.v1 import privacy_service_pb2 as pr
from driftline.v1 import profile_service_pb2 as pf
from driftline.v1 import recommendation_service_pb2 as rec
from driftline.v1 import vector_pb2

from services.core.errors import DependencyUnavailable, NotReady
from services.core.schema import DEFAULT_TENANT
from services.store.memory_events import MemoryInbox
from tests.gateway.world import (
    SPACE,
    Catalogues,
    Registry,
    World,
    catalogue,
    forecast,
    model,
    profile,
    rank_state,
    serve,
    vector,
)


def fill(world: World, user_id: str) -> None:
    world.put(user_id, vector("2026-W47"))
    world.put_forecast(user_id, forecast("2026-W47"))
    world.put_rank_state(user_id, rank_state("tea"))
    world.put_profile(user_id, profile())


async def known_to(world: World, user_id: str) -> set[str]:
    """Return the reads that know a user."""
    found = set()
    for name, call in {
        "interest": world.interest_service.GetInterest(it.GetInterestRequest(user_id=user_id)),
        "trajectory": world.interest_service.GetTrajectory(
            it.GetTrajectoryRequest(user_id=user_id)
        ),
        "past": world.interest_service.GetInterest(
            it.GetInterestRequest(user_id=user_id, period="2026-W47")
        ),
        "forecast": world.interest_service.GetForecast(it.GetForecastRequest(user_id=user_id)),
        "portrait": world.profile_service.GetProfile(pf.GetProfileRequest(user_id=user_id)),
    }.items():
        try:
            await call
            found.add(name)
        except Exception as error:
            assert "USER_NOT_FOUND" in str(error) or error.code().name == "NOT_FOUND"
    batch = await world.interest_service.BatchGetInterests(
        it.BatchGetInterestsRequest(user_ids=[user_id])
    )
    if batch.interests:
        found.add("batch")
    reply = await world.recommendation_service.RecommendItems(
        rec.RecommendItemsRequest(user_id=user_id)
    )
    if reply.basis.kind == vector_pb2.BASIS_KIND_PERSONAL:
        found.add("recommendations")
    return found


EVERY_READ = {
    "interest", "trajectory", "past", "forecast", "portrait", "batch", "recommendations",
}  # fmt: skip


async def test_an_erased_user_is_unknown_from_the_next_read_on(world):
    fill(world, "u")
    fill(world, "v")
    assert await known_to(world, "u") == EVERY_READ
    reply = await world.privacy_service.EraseUser(pr.EraseUserRequest(user_id="u"))
    assert reply.erasure_id
    assert await known_to(world, "u") == set()
    assert await known_to(world, "v") == EVERY_READ
    stored = world.events().erasures
    assert stored["erasure_id"].to_list() == [reply.erasure_id]
    assert stored["user_id"].to_list() == ["u"]


async def test_an_erasure_through_another_process_is_seen_at_the_next_look(world):
    fill(world, "u")
    await MemoryInbox(world.memory, "gateway-1").append_erasure(DEFAULT_TENANT, "x", "u")
    assert "interest" in await known_to(world, "u")
    await world.state.poll()
    assert await known_to(world, "u") == set()


async def test_erasing_a_stranger_reveals_nothing(world):
    fill(world, "u")
    replies = [
        await world.privacy_service.EraseUser(pr.EraseUserRequest(user_id=user))
        for user in ("u", "nobody")
    ]
    assert all(reply.erasure_id and reply.requested_time.seconds for reply in replies)


async def test_an_erasure_that_was_carried_out_hides_nobody_any_more(world):
    fill(world, "u")
    await world.privacy_service.EraseUser(pr.EraseUserRequest(user_id="u"))
    await world.state.poll()
    assert world.state.is_erased("u")
    world.memory.logs.clear()  # carried out
    await world.state.poll()
    assert not world.state.is_erased("u")


async def test_an_erasure_during_a_look_is_not_forgotten_by_it():
    looking, go_on = threading.Event(), threading.Event()

    class SlowErasures:
        def users(self, tenant):
            looking.set()
            go_on.wait(5)
            return frozenset()  # read before the erasure was committed

    world = World()
    await world.state.start()
    world.state._erased = SlowErasures()
    look = asyncio.create_task(world.state.poll())
    await asyncio.to_thread(looking.wait, 5)
    world.state.hide("u")
    go_on.set()
    await look
    assert world.state.is_erased("u")


async def test_nobody_is_served_while_erasures_cannot_be_read():
    class Down:
        def users(self, tenant):
            raise DependencyUnavailable("event store")

    world = World()
    world.state._erased = Down()
    with pytest.raises(DependencyUnavailable):
        await world.state.start()


async def test_erasures_stay_hidden_while_they_cannot_be_read(world):
    class Down:
        def users(self, tenant):
            raise DependencyUnavailable("event store")

    await world.privacy_service.EraseUser(pr.EraseUserRequest(user_id="u"))
    await world.state.poll()
    world.state._erased = Down()
    await world.state.poll()
    assert world.state.is_erased("u")


async def test_a_new_index_is_served_without_a_restart(world):
    world.catalogues.publish(DEFAULT_TENANT, catalogue("g2", plum=("Plum", ("food",), (1.0, 0.0))))
    await world.state.poll()
    reply = await world.recommendation_service.RecommendItems(
        rec.RecommendItemsRequest(user_id="u")
    )
    assert [item.item_id for item in reply.items] == ["plum"]


async def test_a_look_that_finds_nothing_new_reads_nothing(world):
    before = world.state.served()
    world.catalogues.current = None  # would fail if it were called
    await world.state.poll()
    assert world.state.served() is before


async def test_model_and_index_of_a_new_space_come_together(world):
    other = "other_00000000"
    world.registry.models = [model("m2", space_id=other), model(stage="previous")]
    await world.state.poll()
    held = world.state.served()
    assert (held.model.model_version, held.stocked().catalogue.space_id) == ("m1", SPACE)
    world.catalogues.publish(DEFAULT_TENANT, replace(catalogue("g9"), space_id=other))
    await world.state.poll()
    held = world.state.served()
    assert (held.model.model_version, held.stocked().catalogue.space_id) == ("m2", other)


async def test_a_new_model_in_the_same_space_keeps_the_index(world):
    stock = world.state.served().stock
    world.registry.models = [model("m2"), model(stage="previous")]
    await world.state.poll()
    assert world.state.served().model.model_version == "m2"
    assert world.state.served().stock is stock


async def test_a_broken_index_leaves_the_old_one_serving(world):
    def broken(tenant, space_id):
        raise DependencyUnavailable("the item index")

    world.catalogues.held = {SPACE: catalogue("g2")}
    world.catalogues.current = broken
    await world.state.poll()
    assert world.state.served().stocked().catalogue.generation == "g1"


async def test_an_empty_store_starts_and_fills_up():
    world = World(registry=Registry(models=[]), catalogues=Catalogues(held={}))
    async with serve(world):
        with pytest.raises(NotReady):
            world.state.served()
        world.registry.models = [model()]
        await world.state.poll()
        with pytest.raises(NotReady):
            world.state.served().stocked()
        world.catalogues.publish(DEFAULT_TENANT, catalogue())
        await world.state.poll()
        assert world.state.served().stocked().catalogue.generation == "g1"


async def test_polling_goes_on_after_a_fault(world):
    calls = []

    class Faulty:
        def users(self, tenant):
            calls.append(tenant)
            raise KeyError("surprise")

    world.state._erased = Faulty()
    polling = asyncio.create_task(world.state.keep_polling(0.01))
    async with asyncio.timeout(60):
        while len(calls) < 3:
            await asyncio.sleep(0.01)
    assert not polling.done()
    polling.cancel()


async def test_readers_never_see_half_of_a_swap():
    """Each generation's titles carry its number; no answer mixes two."""

    def numbered(number: int):
        made = catalogue(f"g{number}")
        return replace(
            made,
            titles=tuple(f"{title} {number}" for title in made.titles),
            items_ND=np.roll(made.items_ND, number, axis=0),
        )

    async with serve(World(catalogues=Catalogues(held={SPACE: numbered(0)}))) as world:
        seen = set()

        async def read():
            reply = await world.recommendation_service.RecommendItems(
                rec.RecommendItemsRequest(user_id="u")
            )
            numbers = {item.title.split()[-1] for item in reply.items}
            assert len(numbers) == 1
            seen.update(numbers)

        for number in range(1, 11):
            world.catalogues.publish(DEFAULT_TENANT, numbered(number))
            await asyncio.gather(world.state.poll(), *(read() for _ in range(5)))
    assert len(seen) > 5
