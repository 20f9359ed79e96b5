"""Redis fails under a running gateway: each read ends in time, says what is wrong, and goes on by itself afterwards.

A gateway process and a server process; both SDKs ask. The write path: tests/slow/test_store_faults.py.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from driftline import AsyncClient, Client, ClientOptions, Deadlines, Event, Retries
from driftline.errors import DriftlineError, NotFoundError, UnavailableError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.core.activity import NO_ACTIVITY
from services.core.schema import DEFAULT_TENANT
from services.store import filled
from services.store.layout import Layout
from tests.faulty_redis import FaultyRedis, faulty_redis
from tests.gateway import world
from tests.gateway.process import Process, gateway, publish
from tests.gateway.tenants_world import StoredFeatures
from tests.gateway.test_profiles_and_models import TOPICS

# One gateway for the file.
pytestmark = pytest.mark.xdist_group("store-faults")

USER, STRANGER = "user-1", "user-who-never-came"
DEADLINE_S = 20.0
# Nothing is waited for so long; a busy machine may be slow.
LIMIT_S = 60.0
OPTIONS = ClientOptions(
    deadlines=Deadlines(read_s=DEADLINE_S, write_s=DEADLINE_S), retries=Retries(attempts=2)
)
# What needs the online store.
READS: dict[str, Callable[[Any], Any]] = {
    "GetInterest": lambda client: client.get_interest(USER),
    "BatchGetInterests": lambda client: client.get_interests([USER, STRANGER]),
    "GetTrajectory": lambda client: client.get_trajectory(USER),
    "GetForecast": lambda client: client.get_forecast(USER),
    "RecommendItems": lambda client: client.recommend(USER),
    "BatchRecommendItems": lambda client: client.recommend_many([USER]),
    "GetProfile": lambda client: client.get_profile(USER),
}
CORRECT = {"CorrectProfile": lambda client: client.correct_profile(USER, "t", "none")}
# What does not.
OTHERS: dict[str, Callable[[Any], Any]] = {
    "FindSimilarItems": lambda client: client.similar_items("jam"),
    "ListModels": lambda client: client.list_models(),
    "RecordEvents": lambda client: client.record_events(
        [Event(user_id="u", item_id="jam", kind="view", event_time=world.NOW - timedelta(days=1))]
    ),
}
READERS = ("InterestService", "RecommendationService", "ProfileService")
STEADY = ("", "driftline.v1.EventService", "driftline.v1.ModelService")


@dataclass
class Faulty:
    """A running gateway and its store."""

    redis: FaultyRedis
    running: Process
    layout: Layout
    space_id: str

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.running.port}"

    def fill(self) -> None:
        """Write the user's rows, as a refresh does, and then say that all are there."""
        features = StoredFeatures(self.layout, self.redis.url)
        weeks = [world.vector(f"2026-W{week}") for week in (45, 46, 47)]
        stamps = {"space_id": self.space_id, "computed_time": world.NOW}
        features.put_interest(USER, *weeks, space_id=self.space_id)
        features.put_forecast(USER, world.forecast("2026-W47"), space_id=self.space_id)
        features.put_rank_state(USER, world.rank_state("jam"), **stamps)
        features.put_profile(USER, world.profile(), **stamps)
        features.put_activity(USER, NO_ACTIVITY, **stamps)
        filled.mark_filled(self.redis.url, self.layout, DEFAULT_TENANT)

    def ask(self, calls: dict[str, Callable[[Any], Any]]) -> dict[str, DriftlineError | None]:
        """Make each call by both SDKs, all at once; return how each ended."""
        return asyncio.run(self._ask(calls))

    async def _ask(self, calls: dict[str, Callable[[Any], Any]]) -> Any:
        with Client(self.target, OPTIONS) as client:
            async with AsyncClient(self.target, OPTIONS) as aio:
                made = [asyncio.to_thread(call, client) for call in calls.values()]
                made += [call(aio) for call in calls.values()]
                started = time.monotonic()
                ended = await asyncio.gather(*made, return_exceptions=True)
        assert time.monotonic() - started < DEADLINE_S + LIMIT_S
        names = [f"{name} ({sdk})" for sdk in ("Client", "AsyncClient") for name in calls]
        unforeseen = [e for e in ended if isinstance(e, BaseException) and not ours(e)]
        assert unforeseen == []
        return {
            name: end if isinstance(end, DriftlineError) else None
            for name, end in zip(names, ended, strict=True)
        }

    def health(self, name: str) -> str:
        with grpc.insecure_channel(self.target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=DEADLINE_S)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))

    def serves(self) -> bool:
        """Tell whether health says that everything is served, and it is."""
        if {self.health(f"driftline.v1.{name}") for name in READERS} != {"SERVING"}:
            return False
        return set(self.ask(READS).values()) == {None}


def ours(error: BaseException) -> bool:
    return isinstance(error, DriftlineError)


def wait_for(is_so: Callable[[], bool]) -> float:
    """Return how long it took."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < LIMIT_S
        time.sleep(0.02)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def world_with_faults(tmp_path_factory) -> Iterator[Faulty]:
    layout = Layout(tmp_path_factory.mktemp("faults") / "data", 2)
    space_id = publish(layout, replace(world.catalogue(), topics=TOPICS), world.ranker())
    settings = {"now": world.NOW, "metrics_port": 0, "poll_s": 0.1, "online_store": "redis"}
    with (
        faulty_redis() as server,
        gateway(layout.root, bucket_count=2, redis_url=server.url, **settings) as running,
    ):
        yield Faulty(server, running, layout, space_id)


@pytest.fixture
def faulty(world_with_faults) -> Faulty:
    world_with_faults.fill()
    wait_for(world_with_faults.serves)
    return world_with_faults


@contextmanager
def healed_by(heal: Callable[[], None]) -> Iterator[None]:
    """Put right what a test broke, also where it failed."""
    try:
        yield
    finally:
        heal()


def all_named(ended: dict[str, DriftlineError | None], *words: str) -> dict[str, str]:
    """Return calls that did not end in UNAVAILABLE with every word in the message, and how they did."""
    return {
        name: f"{error!r}"
        for name, error in ended.items()
        if not isinstance(error, UnavailableError)
        or error.code != "UNAVAILABLE"
        or not all(word in error.message for word in words)
    }


def check_down(faulty: Faulty, trust: Any, *words: str) -> None:
    """Look at every call and at health while the store does not answer."""
    started = time.monotonic()
    ended = faulty.ask(READS | CORRECT)
    print(f"{len(ended)} calls at once were told after {time.monotonic() - started:.2f} s")
    wrong, others = all_named(ended, *words), faulty.ask(OTHERS)
    trust("faults injected", 1, int(bool(wrong) or set(others.values()) != {None}))
    assert wrong == {}
    assert set(others.values()) == {None}
    wait_for(lambda: {faulty.health(f"driftline.v1.{name}") for name in READERS} == {"NOT_SERVING"})
    assert {faulty.health(name) for name in STEADY} == {"SERVING"}


def test_a_killed_redis_is_named_and_reads_go_on_when_it_is_back(faulty, trust):
    with healed_by(faulty.redis.start):
        faulty.redis.kill()
        check_down(faulty, trust, "the Redis", "try again")
    print(f"all is served {wait_for(faulty.serves):.2f} s after it was back")


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_a_redis_that_does_not_answer_is_named_within_the_deadline(faulty, trust, how):
    stop = faulty.redis.pause if how == "stopped" else lambda: faulty.redis.silence(True)
    go_on = faulty.redis.go_on if how == "stopped" else lambda: faulty.redis.silence(False)
    with healed_by(go_on):
        stop()
        check_down(faulty, trust, "the Redis", "in 2 s", "try again")
    print(f"all is served {wait_for(faulty.serves):.2f} s after it answered")


def test_a_slow_redis_slows_reads_and_fails_none(faulty, trust):
    with healed_by(lambda: faulty.redis.delay(0)):
        faulty.redis.delay(0.5)
        ended = faulty.ask(READS)
        trust("faults injected", 1, sum(error is not None for error in ended.values()))
        assert set(ended.values()) == {None}
        assert {faulty.health(f"driftline.v1.{name}") for name in READERS} == {"SERVING"}


def test_a_redis_out_of_memory_serves_reads_and_says_what_to_do_of_writes(faulty, trust):
    more = {"CorrectProfile": lambda client: client.correct_profile(USER, TOPICS.ids[0], "more")}
    with healed_by(faulty.redis.unlimit_memory):
        faulty.redis.limit_memory()
        reads, writes = faulty.ask(READS), all_named(faulty.ask(more), "corrections", "maxmemory")
        trust("faults injected", 1, int(bool(writes) or set(reads.values()) != {None}))
        assert set(reads.values()) == {None}
        assert writes == {}
    assert set(faulty.ask(more).values()) == {None}


def test_a_redis_that_came_back_empty_never_says_that_a_user_has_no_history(faulty, trust):
    with healed_by(faulty.fill):
        faulty.redis.restart_empty()
        # The connection breaks; after that nothing but the rows is wrong.
        wait_for(lambda: not all_named(faulty.ask(READS), "rebuild-online"))
        check_down(faulty, trust, "lost its rows", "driftline rebuild-online")
        ended = faulty.ask({"GetInterest": lambda client: client.get_interest(STRANGER)})
        assert all_named(ended, "rebuild-online") == {}
    wait_for(faulty.serves)
    with Client(faulty.target) as client, pytest.raises(NotFoundError):
        client.get_interest(STRANGER)


def test_a_row_that_is_back_is_served_before_the_rest_is(faulty):
    with healed_by(faulty.fill), faulty.redis.client() as client:
        client.delete(filled.filled_key(DEFAULT_TENANT))
        assert set(faulty.ask({"x": lambda client: client.get_interest(USER)}).values()) == {None}
        ended = faulty.ask({"x": lambda client: client.recommend(STRANGER)})
        assert all_named(ended, "rebuild-online") == {}
