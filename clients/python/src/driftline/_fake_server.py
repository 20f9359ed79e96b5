"""A gateway in memory: takes the same calls as the real one, and answers or refuses alike.

It stands behind `driftline.testing`; what it knows was put into it by a test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from google.protobuf.message import Message

from . import errors as e
from ._fake_content import FakeDemand
from ._fake_events import keep_one
from ._fake_privacy import copy_of, receipt_of
from ._fake_ranking import among_declared, cited, is_allowed, is_in, scored_item, share
from ._fake_rules import check
from ._periods import KEPT, period_bounds
from ._plans import Call
from ._requests import instant
from .types import Granularity
from .v1 import (
    event_pb2,
    event_service_pb2,
    interest_service_pb2,
    model_service_pb2,
    privacy_service_pb2,
    profile_service_pb2,
    vector_pb2,
)
from .v1 import recommendation_service_pb2 as rec
from .vectors import Vector, cosine, mean

_CLOCK_SKEW = timedelta(minutes=5)
_GRANULARITIES = {
    vector_pb2.GRANULARITY_DAY: Granularity.DAY,
    vector_pb2.GRANULARITY_WEEK: Granularity.WEEK,
    vector_pb2.GRANULARITY_MONTH: Granularity.MONTH,
}


@dataclass
class StoredForecast:
    """A user's forecast of one granularity."""

    vectors: list[vector_pb2.ForecastVector]
    forecaster: str
    made_time: datetime


@dataclass
class Failure:
    """An error to answer with."""

    error: e.DriftlineError
    times: int
    # Empty: any method.
    method: str


@dataclass
class FakeServer:
    """What the fake gateway knows, and its answers."""

    space_id: str
    model_version: str
    # None: the wall clock.
    fixed_now: "datetime | None" = None
    # By user and granularity, then by period.
    interests: dict[tuple[str, Granularity], dict[str, vector_pb2.InterestVector]] = field(
        default_factory=dict
    )
    forecasts: dict[tuple[str, Granularity], StoredForecast] = field(default_factory=dict)
    profiles: dict[str, profile_service_pb2.GetProfileResponse] = field(default_factory=dict)
    # By user, then by topic.
    corrections: dict[str, dict[str, profile_service_pb2.TopicCorrection]] = field(
        default_factory=dict
    )
    demand: FakeDemand = field(default_factory=FakeDemand)
    # In catalogue order.
    items: dict[str, event_pb2.Item] = field(default_factory=dict)
    item_vectors: dict[str, Vector] = field(default_factory=dict)
    events: dict[str, event_pb2.Event] = field(default_factory=dict)
    # Newest first.
    models: list[model_service_pb2.Model] = field(default_factory=list)
    # Oldest first.
    rejects: list[event_service_pb2.Reject] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    erasure_count: int = 0
    # When each was asked for; the fake carries them out at once.
    erasures: dict[str, datetime] = field(default_factory=dict)

    def now(self) -> datetime:
        """Return the instant that counts as now."""
        return self.fixed_now or datetime.now(timezone.utc)

    def answer(self, call: Call) -> Message:
        """Answer a call, or raise what the real client would."""
        self.calls.append(call)
        for failure in self.failures:
            if failure.times and failure.method in ("", call.method):
                failure.times -= 1
                raise failure.error
        check(call, self.now())
        handler: Callable[[Any], Message] = getattr(self, f"_{call.method}")
        return handler(call.request)

    def _RecordEvents(self, request: Any) -> Message:
        latest = self.now() + _CLOCK_SKEW
        seen: dict[str, event_pb2.Event] = {}
        for i, event in enumerate(request.events):
            if event.event_time.ToDatetime(tzinfo=timezone.utc) > latest:
                raise _invalid(f"events[{i}].event_time", "lies in the future")
            if seen.setdefault(event.event_id, event) != event:
                field_path = f"events[{i}].event_id"
                raise e.EventConflictError(
                    f"{field_path}: comes twice in the call with different content",
                    code="ALREADY_EXISTS",
                    reason="EVENT_CONFLICT",
                    metadata={"event_id": event.event_id, "field": field_path},
                )
        for event in seen.values():
            keep_one(self.events, self.rejects, event, instant(self.now(), "now"))
        return event_service_pb2.RecordEventsResponse(
            event_count=len(request.events), ingest_time=instant(self.now(), "now")
        )

    def _UpsertItems(self, request: Any) -> Message:
        seen: set[str] = set()
        for i, item in enumerate(request.items):
            if item.item_id in seen:
                raise _invalid(f"items[{i}].item_id", "comes twice; send each item once a call")
            seen.add(item.item_id)
            if not item.title.strip() and not item.text.strip():
                raise _invalid(f"items[{i}].title", "title and text are both blank; write one")
            if item.updated_time.ToDatetime(tzinfo=timezone.utc) > self.now() + _CLOCK_SKEW:
                raise _invalid(f"items[{i}].updated_time", "lies in the future")
        for item in request.items:
            self.items[item.item_id] = item
        return event_service_pb2.UpsertItemsResponse(
            item_count=len(request.items), ingest_time=instant(self.now(), "now")
        )

    def _GetInterest(self, request: Any) -> Message:
        granularity = _granularity(request)
        if request.period:
            period_bounds(granularity, request.period)
        known = self._known(request.user_id, granularity, request.as_of)
        if request.period:
            known = [one for one in known if one.period == request.period]
        if not known:
            raise _user_not_found(request.user_id, "interest vector")
        return interest_service_pb2.GetInterestResponse(
            interest=known[-1], basis=self._basis(known[-1], request.as_of)
        )

    def _BatchGetInterests(self, request: Any) -> Message:
        reply = interest_service_pb2.BatchGetInterestsResponse(basis=self._basis())
        for user_id in request.user_ids:
            known = self._known(user_id, _granularity(request))
            if known:
                reply.interests.add(user_id=user_id, interest=known[-1])
            else:
                reply.missing_user_ids.append(user_id)
        return reply

    def _GetTrajectory(self, request: Any) -> Message:
        granularity = _granularity(request)
        known = self._known(request.user_id, granularity, request.as_of)
        if not known:
            raise _user_not_found(request.user_id, "interest vector")
        # A token counts the newest periods that were delivered already.
        end = len(known) - int(request.page_token or 0)
        start = max(0, end - (request.page_size or KEPT[granularity]))
        return interest_service_pb2.GetTrajectoryResponse(
            interests=known[start:end],
            next_page_token=str(len(known) - start) if start else "",
            basis=self._basis(known[-1], request.as_of),
        )

    def _GetForecast(self, request: Any) -> Message:
        granularity = _granularity(request)
        if request.period:
            period_bounds(granularity, request.period)
        stored = self.forecasts.get((request.user_id, granularity))
        if stored is None or stored.made_time > self._instants(request.as_of)[0]:
            raise _user_not_found(request.user_id, "forecast")
        vectors = [v for v in stored.vectors if request.period in ("", v.period)]
        if not vectors:
            raise _user_not_found(request.user_id, f"forecast of {request.period}")
        return interest_service_pb2.GetForecastResponse(
            forecasts=vectors,
            forecaster=stored.forecaster,
            made_time=instant(stored.made_time, "made_time"),
            basis=self._basis(as_of=request.as_of),
        )

    def _RecommendItems(self, request: Any) -> Message:
        made = self._recommended(request.user_id, request)
        return rec.RecommendItemsResponse(
            items=made.items,
            basis=made.basis,
            fallback=made.fallback,
            unmatched=self._unmatched(request),
        )

    def _BatchRecommendItems(self, request: Any) -> Message:
        return rec.BatchRecommendItemsResponse(
            users=[self._recommended(user, request.options) for user in request.user_ids],
            unmatched=self._unmatched(request.options),
        )

    def _ExportRecommendations(self, request: Any) -> Message:
        users = [self._recommended(user, request.options) for user in request.user_ids]
        return rec.ExportRecommendationsResponse(users=users)

    def _recommended(self, user_id: str, wishes: Any) -> rec.UserRecommendations:
        if not self.items:
            raise e.NotReadyError(
                "no item index yet; upsert items",
                code="UNAVAILABLE",
                reason="NOT_READY",
                metadata={"missing": "item index"},
            )
        had = [one for one in self.events.values() if one.user_id == user_id]
        had_ids = {one.item_id for one in had}
        known = self._known(user_id, Granularity.WEEK)
        allowed = [one for one in self.items.values() if is_allowed(one, wishes, had_ids)]
        fallback = rec.FALLBACK_KIND_UNSPECIFIED
        if not (known or had):
            allowed, fallback = among_declared(allowed, wishes.declared_categories)
        taste = _vector(known[-1].vector) if known else None
        scored = [self._scored(item, taste, had) for item in allowed]
        if wishes.omit_reasons:
            for one in scored:
                one.ClearField("reason")
        scored.sort(key=lambda one: -one.score)  # stable: equal scores keep catalogue order
        return rec.UserRecommendations(
            user_id=user_id,
            items=scored[: wishes.page_size or 20],
            basis=self._basis(known[-1] if known else None, personal=bool(known or had)),
            fallback=fallback,
        )

    def _unmatched(self, wishes: Any) -> list[str]:
        categories = {name for item in self.items.values() for name in item.categories}
        named = dict.fromkeys((*wishes.categories, *wishes.declared_categories))
        item_ids = dict.fromkeys((*wishes.allowed_item_ids, *wishes.excluded_item_ids))
        return [
            *(name for name in named if name not in categories),
            *(item_id for item_id in item_ids if item_id not in self.items),
        ]

    def _FindSimilarItems(self, request: Any) -> Message:
        asked = (request.item_id, *request.other_item_ids)
        for item_id in asked:
            if item_id not in self.item_vectors:
                raise e.ItemNotFoundError(
                    "no such item; upsert it and run `driftline refresh`",
                    code="NOT_FOUND",
                    reason="ITEM_NOT_FOUND",
                    metadata={"item_id": item_id},
                )
        here = mean([self.item_vectors[item_id] for item_id in asked])
        scored = [
            scored_item(self.items[item_id], cosine(here, vector))
            for item_id, vector in self.item_vectors.items()
            if item_id not in asked and is_in(self.items[item_id], request.categories)
        ]
        scored.sort(key=lambda one: -one.score)
        return rec.FindSimilarItemsResponse(
            items=scored[: request.page_size or 20], basis=self._basis()
        )

    def _GetProfile(self, request: Any) -> Message:
        stored = self.profiles.get(request.user_id)
        if stored is None:
            raise _user_not_found(request.user_id, "portrait")
        reply = profile_service_pb2.GetProfileResponse(basis=self._basis())
        reply.MergeFrom(stored)
        reply.corrections.extend(self._corrections(request.user_id))
        _correct(reply)
        del reply.interests[request.page_size or 10 :]
        del reply.topics[request.page_size or 10 :]
        return reply

    def _CorrectProfile(self, request: Any) -> Message:
        stored = self.profiles.get(request.user_id)
        if stored is None:
            raise _user_not_found(request.user_id, "portrait")
        held = self.corrections.setdefault(request.user_id, {})
        if request.wish == profile_service_pb2.TOPIC_WISH_NONE:
            held.pop(request.topic_id, None)
        else:
            names = {one.topic_id: one.name for one in stored.topics}
            if request.topic_id not in names:
                raise _invalid(
                    "topic_id",
                    f"{request.topic_id!r} is no topic; take one from GetProfile's `topics`",
                )
            held[request.topic_id] = profile_service_pb2.TopicCorrection(
                topic_id=request.topic_id,
                name=names[request.topic_id],
                wish=request.wish,
                wish_time=instant(self.now(), "now"),
            )
        return profile_service_pb2.CorrectProfileResponse(
            corrections=self._corrections(request.user_id)
        )

    def _corrections(self, user_id: str) -> list[profile_service_pb2.TopicCorrection]:
        held = self.corrections.get(user_id, {})
        return [held[topic_id] for topic_id in sorted(held)]

    def _ForecastTopicDemand(self, request: Any) -> Message:
        return self.demand.forecast(request, self.now(), self.space_id)

    def _DraftBrief(self, request: Any) -> Message:
        return self.demand.brief(request, self.now(), self.space_id)

    def _EraseUser(self, request: Any) -> Message:
        user_id = request.user_id
        self.interests = {key: v for key, v in self.interests.items() if key[0] != user_id}
        self.forecasts = {key: v for key, v in self.forecasts.items() if key[0] != user_id}
        self.events = {key: v for key, v in self.events.items() if v.user_id != user_id}
        self.profiles.pop(user_id, None)
        self.rejects = [one for one in self.rejects if one.user_id != user_id]
        self.corrections.pop(user_id, None)
        self.erasure_count += 1
        self.erasures[f"fake-erasure-{self.erasure_count}"] = self.now()
        return privacy_service_pb2.EraseUserResponse(
            erasure_id=f"fake-erasure-{self.erasure_count}",
            requested_time=instant(self.now(), "now"),
        )

    def _ListRejects(self, request: Any) -> Message:
        start = int(request.page_token or 0)
        end = start + (request.page_size or 100)
        return event_service_pb2.ListRejectsResponse(
            rejects=self.rejects[start:end],
            next_page_token=str(end) if end < len(self.rejects) else "",
        )

    def _GetErasure(self, request: Any) -> Message:
        return receipt_of(request.erasure_id, self.erasures)

    def _ExportUser(self, request: Any) -> Message:
        return copy_of(request.user_id, self.events.values())

    def _ListModels(self, request: Any) -> Message:
        start = int(request.page_token or 0)
        end = start + (request.page_size or 20)
        return model_service_pb2.ListModelsResponse(
            models=self.models[start:end],
            next_page_token=str(end) if end < len(self.models) else "",
        )

    def _PromoteModel(self, request: Any) -> Message:
        promoted = next((m for m in self.models if m.model_version == request.model_version), None)
        if promoted is None:
            problem = f"no model {request.model_version!r}; see ListModels"
            raise e.InvalidArgumentError(f"model_version: {problem}", field="model_version")
        live = next((m for m in self.models if m.stage == model_service_pb2.MODEL_STAGE_LIVE), None)
        if live is not None and live.space_id != promoted.space_id:
            raise e.SpaceMismatchError(
                f"{promoted.model_version} is of another space than the live model",
                expected_space_id=live.space_id,
                actual_space_id=promoted.space_id,
            )
        previous = "" if live is None or live is promoted else live.model_version
        if live is not None and previous:
            for model in self.models:
                if model.stage == model_service_pb2.MODEL_STAGE_PREVIOUS:
                    model.stage = model_service_pb2.MODEL_STAGE_UNSPECIFIED
            live.stage = model_service_pb2.MODEL_STAGE_PREVIOUS
        promoted.stage = model_service_pb2.MODEL_STAGE_LIVE
        return model_service_pb2.PromoteModelResponse(
            model=promoted, previous_model_version=previous
        )

    def _known(
        self, user_id: str, granularity: Granularity, as_of: Any = None
    ) -> list[vector_pb2.InterestVector]:
        """Return a user's vectors, oldest first, that an instant allows."""
        event_time, ingest_time = self._instants(as_of)
        stored = self.interests.get((user_id, granularity), {}).values()
        is_past = bool(as_of and as_of.HasField("event_time"))
        return sorted(
            (
                one
                for one in stored
                if _time(one.computed_time) <= ingest_time
                and (not is_past or _time(one.period_end_time) <= event_time)
            ),
            key=lambda one: one.period_start_time.seconds,
        )

    def _instants(self, as_of: Any) -> tuple[datetime, datetime]:
        given = as_of or vector_pb2.AsOf()
        return (
            _time(given.event_time) if given.HasField("event_time") else self.now(),
            _time(given.ingest_time) if given.HasField("ingest_time") else self.now(),
        )

    def _basis(
        self,
        newest: "vector_pb2.InterestVector | None" = None,
        as_of: Any = None,
        *,
        personal: bool = True,
    ) -> vector_pb2.AnswerBasis:
        event_time, ingest_time = self._instants(as_of)
        basis = vector_pb2.AnswerBasis(
            as_of_event_time=instant(event_time, "as_of"),
            as_of_ingest_time=instant(ingest_time, "as_of"),
            model_version=self.model_version,
            space_id=self.space_id,
            kind=vector_pb2.BASIS_KIND_PERSONAL if personal else vector_pb2.BASIS_KIND_FALLBACK,
        )
        if newest is not None:
            age = event_time - _time(newest.period_end_time)
            basis.input_age.FromTimedelta(max(timedelta(), age))
        return basis

    def _scored(
        self, item: event_pb2.Item, taste: "Vector | None", had: list[event_pb2.Event]
    ) -> rec.ScoredItem:
        vector = self.item_vectors.get(item.item_id)
        own = [one for one in had if one.item_id == item.item_id]
        parts = rec.ScoreParts(
            interest=cosine(taste, vector) if taste and vector else 0.0,
            popularity=share(item.item_id, [one.item_id for one in self.events.values()]),
            repeat=share(item.item_id, [one.item_id for one in had]),
            novelty=0.0 if own else self._novelty(vector, had),
        )
        scored = scored_item(item, parts.interest + parts.popularity + parts.repeat)
        scored.parts.CopyFrom(parts)
        if own:
            scored.reason.cited_items.append(cited(item, own, parts.repeat))
        return scored

    def _novelty(self, vector: "Vector | None", had: list[event_pb2.Event]) -> float:
        near = [
            cosine(vector, self.item_vectors[one.item_id])
            for one in had
            if vector and one.item_id in self.item_vectors
        ]
        return min(1.0, max(0.0, 1.0 - max(near))) if near else 1.0


def _granularity(request: Any) -> Granularity:
    return _GRANULARITIES.get(request.granularity, Granularity.WEEK)


def _vector(message: vector_pb2.Vector) -> Vector:
    return Vector.from_bytes(message.space_id, message.values)


def _time(stamp: Any) -> datetime:
    found: datetime = stamp.ToDatetime(tzinfo=timezone.utc)
    return found


def _correct(reply: profile_service_pb2.GetProfileResponse) -> None:
    """Leave out what the user is not interested in, and triple the odds of what is wanted."""
    wish_of = {one.topic_id: one.wish for one in reply.corrections}
    total = sum(one.weight for one in reply.topics)
    kept = []
    for one in reply.topics:
        wish = wish_of.get(one.topic_id, profile_service_pb2.TOPIC_WISH_UNSPECIFIED)
        if wish != profile_service_pb2.TOPIC_WISH_NOT_INTERESTED:
            one.wish = wish
            one.weight *= 3 if wish == profile_service_pb2.TOPIC_WISH_MORE else 1
            kept.append(one)
    left = sum(one.weight for one in kept)
    for one in kept:
        one.weight *= total / left if left else 0.0
    del reply.topics[:]
    reply.topics.extend(sorted(kept, key=lambda one: -one.weight))


def _invalid(field_path: str, problem: str) -> e.InvalidArgumentError:
    return e.InvalidArgumentError(
        f"{field_path}: {problem}",
        field=field_path,
        reason="INVALID_ARGUMENT",
        metadata={"field": field_path},
    )


def _user_not_found(user_id: str, what: str) -> e.UserNotFoundError:
    return e.UserNotFoundError(
        f"no {what} for this user; record events and run `driftline refresh`",
        code="NOT_FOUND",
        reason="USER_NOT_FOUND",
        metadata={"user_id": user_id},
    )
