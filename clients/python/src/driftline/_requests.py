"""From arguments to request messages: the only place that builds them.

What the wire cannot even hold is refused here, with the field's name; ranges are the server's to
check, so that client and server never disagree about them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from .errors import InvalidArgumentError
from .types import AsOf, ConsumedPolicy, Event, EventKind, Granularity, Item, TopicWish
from .v1 import (
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

# The server's limits on one call; longer lists are split.
MAX_WRITE = 1000
MAX_USERS = 500
MAX_RECOMMENDED_USERS = 100
MAX_EXPORTED_USERS = 10_000
MAX_PERIODS = 366
MAX_MODELS = 100
MAX_REJECTS = 1000
# A write is also split here, bytes: gRPC servers refuse messages above 4 MiB by default.
MAX_WRITE_BYTES = 3 << 20

AsOfLike = AsOf | datetime | None
_M = TypeVar("_M", bound=Message)
_E = TypeVar("_E", bound=Enum)

_GRANULARITY = {
    Granularity.DAY: vector_pb2.GRANULARITY_DAY,
    Granularity.WEEK: vector_pb2.GRANULARITY_WEEK,
    Granularity.MONTH: vector_pb2.GRANULARITY_MONTH,
}
_POLICY = {
    ConsumedPolicy.KEEP: recommendation_service_pb2.CONSUMED_POLICY_KEEP,
    ConsumedPolicy.DROP: recommendation_service_pb2.CONSUMED_POLICY_DROP,
    ConsumedPolicy.ONLY: recommendation_service_pb2.CONSUMED_POLICY_ONLY,
}


def record_events(events: Iterable[Event]) -> Iterator[event_service_pb2.RecordEventsRequest]:
    """Return one request per part of the list, each within the server's limits."""
    messages = [_event(event, f"events[{i}]") for i, event in enumerate(events)]
    return (
        event_service_pb2.RecordEventsRequest(events=part)
        for part in split(messages, MAX_WRITE, MAX_WRITE_BYTES)
    )


def upsert_items(items: Iterable[Item]) -> Iterator[event_service_pb2.UpsertItemsRequest]:
    """Return one request per part of the list, each within the server's limits."""
    messages = [_item(item, f"items[{i}]") for i, item in enumerate(items)]
    return (
        event_service_pb2.UpsertItemsRequest(items=part)
        for part in split(messages, MAX_WRITE, MAX_WRITE_BYTES)
    )


def get_interest(
    user_id: str, granularity: Granularity | str, period: str, as_of: AsOfLike
) -> interest_service_pb2.GetInterestRequest:
    return _made(
        interest_service_pb2.GetInterestRequest,
        user_id=user_id,
        granularity=_granularity(granularity),
        period=period,
        as_of=_as_of(as_of),
    )


def get_interests(
    user_ids: Iterable[str], granularity: Granularity | str
) -> Iterator[interest_service_pb2.BatchGetInterestsRequest]:
    """Return one request per part of the list; an id that comes twice is asked once."""
    if isinstance(user_ids, str):
        raise InvalidArgumentError("user_ids: give a list of ids, not one", field="user_ids")
    number = _granularity(granularity)
    distinct = list(dict.fromkeys(user_ids))
    return (
        _made(
            interest_service_pb2.BatchGetInterestsRequest,
            user_ids=distinct[start : start + MAX_USERS],
            granularity=number,
        )
        for start in range(0, len(distinct), MAX_USERS)
    )


def get_trajectory(
    user_id: str, granularity: Granularity | str, page_size: int, token: str, as_of: AsOfLike
) -> interest_service_pb2.GetTrajectoryRequest:
    return _made(
        interest_service_pb2.GetTrajectoryRequest,
        user_id=user_id,
        granularity=_granularity(granularity),
        page_size=page_size,
        page_token=token,
        as_of=_as_of(as_of),
    )


def get_forecast(
    user_id: str, granularity: Granularity | str, period: str, as_of: AsOfLike
) -> interest_service_pb2.GetForecastRequest:
    return _made(
        interest_service_pb2.GetForecastRequest,
        user_id=user_id,
        granularity=_granularity(granularity),
        period=period,
        as_of=_as_of(as_of),
    )


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How to recommend, as a caller said it; see `Client.recommend`."""

    page_size: int
    consumed: ConsumedPolicy | str
    categories: Iterable[str]
    allowed_item_ids: Iterable[str]
    excluded_item_ids: Iterable[str]
    diversity: float
    exploration_share: float
    exploration_seed: int
    declared_categories: Iterable[str]
    omit_reasons: bool

    def fields(self) -> dict[str, Any]:
        """Return the fields of a request or of its options."""
        policy = member(ConsumedPolicy, self.consumed, "consumed_policy")
        return {
            "page_size": self.page_size,
            "consumed_policy": _POLICY[policy],
            "categories": _texts(self.categories, "categories"),
            "allowed_item_ids": _texts(self.allowed_item_ids, "allowed_item_ids"),
            "excluded_item_ids": _texts(self.excluded_item_ids, "excluded_item_ids"),
            "diversity": self.diversity,
            "exploration_share": self.exploration_share,
            "exploration_seed": self.exploration_seed,
            "declared_categories": _texts(self.declared_categories, "declared_categories"),
            "omit_reasons": self.omit_reasons,
        }


def recommend(
    user_id: str, wishes: Wishes, as_of: AsOfLike
) -> recommendation_service_pb2.RecommendItemsRequest:
    return _made(
        recommendation_service_pb2.RecommendItemsRequest,
        user_id=user_id,
        as_of=_as_of(as_of),
        **wishes.fields(),
    )


def recommend_many(
    user_ids: Iterable[str], wishes: Wishes
) -> Iterator[recommendation_service_pb2.BatchRecommendItemsRequest]:
    """Return one request per part of the list; an id that comes twice is asked once."""
    kind = recommendation_service_pb2.BatchRecommendItemsRequest
    return _of_many(kind, user_ids, wishes, MAX_RECOMMENDED_USERS)


def export_recommendations(
    user_ids: Iterable[str], wishes: Wishes
) -> Iterator[recommendation_service_pb2.ExportRecommendationsRequest]:
    """Return one request per part of the list; an id that comes twice is asked once."""
    kind = recommendation_service_pb2.ExportRecommendationsRequest
    return _of_many(kind, user_ids, wishes, MAX_EXPORTED_USERS)


def similar_items(
    item_id: str, page_size: int, other_item_ids: Iterable[str], categories: Iterable[str]
) -> recommendation_service_pb2.FindSimilarItemsRequest:
    return _made(
        recommendation_service_pb2.FindSimilarItemsRequest,
        item_id=item_id,
        page_size=page_size,
        other_item_ids=_texts(other_item_ids, "other_item_ids"),
        categories=_texts(categories, "categories"),
    )


def get_profile(
    user_id: str, page_size: int, as_of: AsOfLike
) -> profile_service_pb2.GetProfileRequest:
    return _made(
        profile_service_pb2.GetProfileRequest,
        user_id=user_id,
        page_size=page_size,
        as_of=_as_of(as_of),
    )


def correct_profile(
    user_id: str, topic_id: str, wish: TopicWish | str
) -> profile_service_pb2.CorrectProfileRequest:
    name = f"TOPIC_WISH_{member(TopicWish, wish, 'wish').name}"
    return _made(
        profile_service_pb2.CorrectProfileRequest,
        user_id=user_id,
        topic_id=topic_id,
        wish=profile_service_pb2.TopicWish.Value(name),
    )


def forecast_demand(
    cohort: str, topic_ids: Iterable[str], horizon_count: int, history_count: int, page_size: int
) -> content_service_pb2.ForecastTopicDemandRequest:
    return _made(
        content_service_pb2.ForecastTopicDemandRequest,
        cohort=cohort,
        topic_ids=_texts(topic_ids, "topic_ids"),
        horizon_count=horizon_count,
        history_count=history_count,
        page_size=page_size,
    )


def draft_brief(topic_id: str, cohort: str) -> content_service_pb2.DraftBriefRequest:
    if bool(topic_id) == bool(cohort):
        raise InvalidArgumentError("subject: give a topic_id or a cohort, one", field="subject")
    return _made(
        content_service_pb2.DraftBriefRequest, topic_id=topic_id or None, cohort=cohort or None
    )


def erase_user(user_id: str) -> privacy_service_pb2.EraseUserRequest:
    return _made(privacy_service_pb2.EraseUserRequest, user_id=user_id)


def list_rejects(page_size: int, token: str) -> event_service_pb2.ListRejectsRequest:
    return _made(event_service_pb2.ListRejectsRequest, page_size=page_size, page_token=token)


def get_erasure(erasure_id: str) -> privacy_service_pb2.GetErasureRequest:
    return _made(privacy_service_pb2.GetErasureRequest, erasure_id=erasure_id)


def export_user(user_id: str) -> privacy_service_pb2.ExportUserRequest:
    return _made(privacy_service_pb2.ExportUserRequest, user_id=user_id)


def list_models(page_size: int, token: str) -> model_service_pb2.ListModelsRequest:
    return _made(model_service_pb2.ListModelsRequest, page_size=page_size, page_token=token)


def promote_model(model_version: str, accepts_worse: bool) -> model_service_pb2.PromoteModelRequest:
    return _made(
        model_service_pb2.PromoteModelRequest,
        model_version=model_version,
        accepts_worse=accepts_worse,
    )


def next_page_size(limit: int | None, received: int, most: int) -> int:
    """Return how many entries to ask for next, where `limit` in all are wanted (None: all)."""
    return most if limit is None else min(most, limit - received)


def split(messages: list[_M], most: int, most_bytes: int) -> Iterator[list[_M]]:
    """Yield runs of messages, in order, of at most `most` each and about `most_bytes` together."""
    part: list[_M] = []
    size = 0
    for message in messages:
        length = message.ByteSize() + 8  # and its tag and length
        if part and (len(part) == most or size + length > most_bytes):
            yield part
            part, size = [], 0
        part.append(message)
        size += length
    if part:
        yield part


def member(kind: type[_E], value: _E | str, field: str) -> _E:
    """Return a member of an enum by itself or by its value.

    Raises:
        InvalidArgumentError: there is none; the message lists them.
    """
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(str(one.value) for one in kind)
        raise InvalidArgumentError(
            f"{field}: {value!r} is not one of {allowed}", field=field
        ) from None


def instant(value: datetime | None, field: str) -> Timestamp | None:
    """Return an aware datetime as a timestamp.

    Raises:
        InvalidArgumentError: it is naive, or no datetime.
    """
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidArgumentError(f"{field}: {value!r} is not a datetime", field=field)
    if value.utcoffset() is None:
        raise InvalidArgumentError(
            f"{field}: {value.isoformat()} has no time zone; "
            "write datetime(..., tzinfo=timezone.utc), or .astimezone() for local time",
            field=field,
        )
    made = Timestamp()
    made.FromDatetime(value.astimezone(timezone.utc))
    return made


def as_of_instants(as_of: AsOfLike) -> AsOf:
    """Return `as_of=` in its long form."""
    if as_of is None:
        return AsOf()
    return as_of if isinstance(as_of, AsOf) else AsOf(event_time=as_of)


def _event(event: Event, field: str) -> event_pb2.Event:
    kind = member(EventKind, event.kind, f"{field}.kind")
    return _made(
        event_pb2.Event,
        field,
        event_id=event.event_id,
        user_id=event.user_id,
        item_id=event.item_id,
        kind=event_pb2.EventKind.Value(f"EVENT_KIND_{kind.value.upper()}"),
        value=event.value,
        event_time=instant(event.event_time, f"{field}.event_time"),
    )


def _item(item: Item, field: str) -> event_pb2.Item:
    return _made(
        event_pb2.Item,
        field,
        item_id=item.item_id,
        title=item.title,
        text=item.text,
        categories=_texts(item.categories, f"{field}.categories"),
        updated_time=instant(item.updated_time, f"{field}.updated_time"),
    )


def _of_many(kind: type[_M], user_ids: Iterable[str], wishes: Wishes, most: int) -> Iterator[_M]:
    distinct = list(dict.fromkeys(_texts(user_ids, "user_ids")))
    options = _made(recommendation_service_pb2.RecommendationOptions, "options", **wishes.fields())
    return (
        _made(kind, user_ids=distinct[start : start + most], options=options)
        for start in range(0, len(distinct), most)
    )


def _granularity(value: Granularity | str) -> vector_pb2.Granularity.ValueType:
    return _GRANULARITY[member(Granularity, value, "granularity")]


def _as_of(as_of: AsOfLike) -> vector_pb2.AsOf | None:
    if as_of is None:
        return None
    given = as_of_instants(as_of)
    return vector_pb2.AsOf(
        event_time=instant(given.event_time, "as_of.event_time"),
        ingest_time=instant(given.ingest_time, "as_of.ingest_time"),
    )


def _texts(values: Iterable[str], field: str) -> list[str]:
    if isinstance(values, str):  # a string is an iterable of letters: never what was meant
        raise InvalidArgumentError(f"{field}: give a list, not one string", field=field)
    return list(values)


def _made(kind: type[_M], within: str = "", /, **fields: Any) -> _M:
    """Make a message; what a field cannot hold is an error that names it."""
    given: Mapping[str, Any] = {name: value for name, value in fields.items() if value is not None}
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise _refused(kind, within, given) or error from None


def _refused(kind: type[Message], within: str, fields: Mapping[str, Any]) -> Exception | None:
    for name, value in fields.items():
        try:
            kind(**{name: value})
        except (TypeError, ValueError):
            path = f"{within}.{name}" if within else name
            return InvalidArgumentError(
                f"{path}: {type(value).__name__} {value!r:.80} does not fit", field=path
            )
    return None
