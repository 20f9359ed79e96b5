"""Every kind of bad request is the caller's fault, by code, reason and field; never INTERNAL."""

import math
from datetime import timedelta

import pytest
from driftline.v1 import event_service_pb2 as ev
from driftline.v1 import interest_service_pb2 as it
from driftline.v1 import model_service_pb2 as mo
from driftline.v1 import privacy_service_pb2 as pr
from driftline.v1 import profile_service_pb2 as pf
from driftline.v1 import recommendation_service_pb2 as rec
from driftline.v1 import vector_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from tests.gateway.test_events import event, item
from tests.gateway.world import NOW, refusal, stamp

LONG = "é" * 128 + "x"  # 257 bytes in 129 characters
TOMORROW = stamp(NOW + timedelta(days=1))
# The wall clock of the test machine is what ingest times are compared with.
FAR = Timestamp(seconds=4_000_000_000)
AFTER_TIME = Timestamp(seconds=2**62)
DAY, MONTH = vector_pb2.GRANULARITY_DAY, vector_pb2.GRANULARITY_MONTH


def events(*made):
    return "event_service", ev.RecordEventsRequest(events=made)


def items(*made):
    return "event_service", ev.UpsertItemsRequest(items=made)


def get(**fields):
    return "interest_service", it.GetInterestRequest(**({"user_id": "u"} | fields))


def batch(**fields):
    return "interest_service", it.BatchGetInterestsRequest(**fields)


def trajectory(**fields):
    return "interest_service", it.GetTrajectoryRequest(**({"user_id": "u"} | fields))


def forecast(**fields):
    return "interest_service", it.GetForecastRequest(**({"user_id": "u"} | fields))


def recommend(**fields):
    return "recommendation_service", rec.RecommendItemsRequest(**({"user_id": "u"} | fields))


def similar(**fields):
    return "recommendation_service", rec.FindSimilarItemsRequest(**({"item_id": "jam"} | fields))


def many(**options):
    return "recommendation_service", rec.BatchRecommendItemsRequest(user_ids=["u"], options=options)


def of_many(*user_ids):
    return "recommendation_service", rec.BatchRecommendItemsRequest(user_ids=user_ids)


def profile(**fields):
    return "profile_service", pf.GetProfileRequest(**({"user_id": "u"} | fields))


BAD = {
    "no events": (events(), "events"),
    "1,001 events": (events(*(event(f"e{i}") for i in range(1001))), "events"),
    "an empty event id": (events(event(event_id="")), "events[0].event_id"),
    "an empty user id": (events(event(), event("e2", user_id="")), "events[1].user_id"),
    "an over-long user id": (events(event(user_id=LONG)), "events[0].user_id"),
    "an over-long item id": (events(event(item_id=LONG)), "events[0].item_id"),
    "an unset kind": (events(event(kind=0)), "events[0].kind"),
    "an unknown kind": (events(event(kind=99)), "events[0].kind"),
    "a NaN value": (events(event(value=math.nan)), "events[0].value"),
    "an infinite value": (events(event(value=math.inf)), "events[0].value"),
    "a future event": (events(event(event_time=TOMORROW)), "events[0].event_time"),
    "an event before 1970": (
        events(event(event_time=Timestamp(seconds=-1))),
        "events[0].event_time",
    ),
    "an event after time": (events(event(event_time=AFTER_TIME)), "events[0].event_time"),
    "an event of bad nanoseconds": (
        events(event(event_time=Timestamp(seconds=1, nanos=-5))),
        "events[0].event_time",
    ),
    "no items": (items(), "items"),
    "1,001 items": (items(*(item(f"i{i}") for i in range(1001))), "items"),
    "an empty item id": (items(item("")), "items[0].item_id"),
    "an over-long title": (items(item(title="x" * 1025)), "items[0].title"),
    "an over-long text": (items(item(text="x" * 16_385)), "items[0].text"),
    "17 categories": (items(item(categories=["c"] * 17)), "items[0].categories"),
    "an empty category": (items(item(categories=["a", ""])), "items[0].categories[1]"),
    "a future item": (items(item(updated_time=TOMORROW)), "items[0].updated_time"),
    "get of nobody": (get(user_id=""), "user_id"),
    "get of an over-long id": (get(user_id=LONG), "user_id"),
    "get of an unknown granularity": (get(granularity=9), "granularity"),
    "a month's name for a week": (get(period="2026-11"), "period"),
    "a week's name for a day": (get(granularity=DAY, period="2026-W48"), "period"),
    "a day's name for a month": (get(granularity=MONTH, period="2026-11-24"), "period"),
    "a week that never was": (get(period="2026-W54"), "period"),
    "a week in Arabic digits": (get(period="٢٠٢٦-W48"), "period"),
    "a week of the year 0": (get(period="0000-W01"), "period"),
    "an over-long period": (get(period="2026-W48-and-more"), "period"),
    "get as of tomorrow": (get(as_of={"event_time": TOMORROW}), "as_of.event_time"),
    "get as known far ahead": (get(as_of={"ingest_time": FAR}), "as_of.ingest_time"),
    "get as of after time": (get(as_of={"event_time": AFTER_TIME}), "as_of.event_time"),
    "get as of before 1970": (
        get(as_of={"event_time": Timestamp(seconds=-9)}),
        "as_of.event_time",
    ),
    "a batch of nobody": (batch(), "user_ids"),
    "a batch of 501": (batch(user_ids=[f"u{i}" for i in range(501)]), "user_ids"),
    "a batch with one twice": (batch(user_ids=["a", "b", "a"]), "user_ids"),
    "a batch with an empty id": (batch(user_ids=["a", ""]), "user_ids[1]"),
    "a batch of an unknown granularity": (batch(user_ids=["a"], granularity=4), "granularity"),
    "a trajectory of 367": (trajectory(page_size=367), "page_size"),
    "a trajectory of -1": (trajectory(page_size=-1), "page_size"),
    "a trajectory from a foreign token": (trajectory(page_token="17"), "page_token"),
    "a trajectory from an over-long token": (trajectory(page_token="x" * 65), "page_token"),
    "a trajectory as of tomorrow": (
        trajectory(as_of={"event_time": TOMORROW}),
        "as_of.event_time",
    ),
    "a forecast of a bad period": (forecast(period="soon"), "period"),
    "a forecast of an unknown granularity": (forecast(granularity=7), "granularity"),
    "a forecast as of tomorrow": (forecast(as_of={"event_time": TOMORROW}), "as_of.event_time"),
    "recommendations for nobody": (recommend(user_id=""), "user_id"),
    "201 recommendations": (recommend(page_size=201), "page_size"),
    "an unknown policy": (recommend(consumed_policy=8), "consumed_policy"),
    "65 categories": (recommend(categories=["c"] * 65), "categories"),
    "1,001 exclusions": (recommend(excluded_item_ids=["i"] * 1001), "excluded_item_ids"),
    "an empty exclusion": (recommend(excluded_item_ids=[""]), "excluded_item_ids[0]"),
    "a negative diversity": (recommend(diversity=-0.1), "diversity"),
    "a diversity that is no number": (recommend(diversity=math.nan), "diversity"),
    "an exploration of more than all": (recommend(exploration_share=2), "exploration_share"),
    "a negative seed": (recommend(exploration_seed=-1), "exploration_seed"),
    "1,001 allowed items": (recommend(allowed_item_ids=["i"] * 1001), "allowed_item_ids"),
    "an item both allowed and excluded": (
        recommend(allowed_item_ids=["a", "b"], excluded_item_ids=["b"]),
        "allowed_item_ids",
    ),
    "an empty declared category": (recommend(declared_categories=[""]), "declared_categories[0]"),
    "many recommendations for nobody": (of_many(), "user_ids"),
    "recommendations for 101": (of_many(*(f"u{i}" for i in range(101))), "user_ids"),
    "recommendations for one twice": (of_many("a", "a"), "user_ids"),
    "201 recommendations for many": (many(page_size=201), "options.page_size"),
    "a diversity of 2 for many": (many(diversity=2), "options.diversity"),
    "contradictory lists for many": (
        many(allowed_item_ids=["a"], excluded_item_ids=["a"]),
        "options.allowed_item_ids",
    ),
    "like 100 others": (similar(other_item_ids=["i"] * 100), "other_item_ids"),
    "recommendations as of tomorrow": (
        recommend(as_of={"event_time": TOMORROW}),
        "as_of.event_time",
    ),
    "like nothing": (similar(item_id=""), "item_id"),
    "like an over-long id": (similar(item_id=LONG), "item_id"),
    "-1 similar items": (similar(page_size=-1), "page_size"),
    "a portrait of nobody": (profile(user_id=""), "user_id"),
    "51 named interests": (profile(page_size=51), "page_size"),
    "a portrait as of tomorrow": (profile(as_of={"event_time": TOMORROW}), "as_of.event_time"),
    "erasing nobody": (("privacy_service", pr.EraseUserRequest()), "user_id"),
    "erasing an over-long id": (("privacy_service", pr.EraseUserRequest(user_id=LONG)), "user_id"),
    "101 models": (("model_service", mo.ListModelsRequest(page_size=101)), "page_size"),
    "a foreign model token": (
        ("model_service", mo.ListModelsRequest(page_token="bm90aGluZw")),
        "page_token",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_names_its_field(world, name):
    (service, request), field = BAD[name]
    stub = getattr(world, service)
    method = type(request).__name__.removesuffix("Request")
    failed = await refusal(getattr(stub, method)(request))
    assert (failed.code, failed.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert field in failed.fields
    assert failed.metadata["field"] in failed.fields
    assert all(failed.fields.values())
    assert failed.message.startswith(failed.metadata["field"])
    assert world.events().events.is_empty()
    assert world.events().items.is_empty()


async def test_what_is_allowed_is_said(world):
    failed = await refusal(
        world.interest_service.GetTrajectory(it.GetTrajectoryRequest(user_id="u", page_size=367))
    )
    assert "366" in failed.fields["page_size"]
    failed = await refusal(
        world.interest_service.GetInterest(it.GetInterestRequest(user_id="u", period="2026-11"))
    )
    assert "2026-W48" in failed.fields["period"]
    failed = await refusal(
        world.interest_service.GetInterest(it.GetInterestRequest(user_id="u", granularity=9))
    )
    assert "GRANULARITY_WEEK" in failed.fields["granularity"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"diversity": 1.5}, "diversity: must be in [0, 1], is 1.5"),
        (
            {"allowed_item_ids": ["jam"], "excluded_item_ids": ["jam"]},
            "allowed_item_ids: 'jam' is in excluded_item_ids too; take it out of one of them",
        ),
    ],
)
async def test_a_bad_filter_names_its_value(world, fields, said):
    request = rec.RecommendItemsRequest(user_id="u", **fields)
    failed = await refusal(world.recommendation_service.RecommendItems(request))
    assert failed.message == said


async def test_ids_of_exactly_256_bytes_pass(world):
    failed = await refusal(
        world.interest_service.GetInterest(it.GetInterestRequest(user_id="é" * 128))
    )
    assert failed.reason == "USER_NOT_FOUND"


@pytest.mark.parametrize(
    ("granularity", "period"),
    [(DAY, "9999-12-31"), (vector_pb2.GRANULARITY_WEEK, "9999-W52"), (MONTH, "9999-12")],
)
async def test_the_last_period_of_time_is_merely_not_found(world, granularity, period):
    asked = {"user_id": "u", "granularity": granularity, "period": period}
    stub = world.interest_service
    for call in (
        stub.GetInterest(it.GetInterestRequest(**asked)),
        stub.GetForecast(it.GetForecastRequest(**asked)),
        stub.GetInterest(it.GetInterestRequest(**asked, as_of={"event_time": stamp(NOW)})),
    ):
        assert (await refusal(call)).reason == "USER_NOT_FOUND"
