"""What each method does, without saying how bytes travel.

A plan is a generator: it yields calls, is sent replies (or thrown the call's error) and returns the
method's result. The blocking client, the asyncio client and the fakes run the same plans, so
splitting, paging and joining exist once.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from google.protobuf.message import Message

from . import _content_replies, _replies, _requests
from . import content_types as c
from . import privacy_types as privacy
from . import types as t
from ._requests import AsOfLike, Wishes
from .errors import DriftlineError
from .options import Deadlines
from .promotions import Promotion
from .rejects import Reject

_T = TypeVar("_T")
_Write: TypeAlias = "Generator[Call, Any, t.WriteResult]"


@dataclass(frozen=True)
class Call:
    """One call on the wire."""

    # Like `Interest` of `driftline.v1.InterestService`.
    service: str
    method: str
    request: Message
    # Which of `Deadlines` holds: read, write, history or export.
    deadline: str = "read"

    @property
    def name(self) -> str:
        """Full name, like driftline.v1.InterestService/GetInterest."""
        return f"driftline.v1.{self.service}Service/{self.method}"

    def seconds(self, deadlines: Deadlines) -> float:
        """Return how long this call may take by default."""
        return float(getattr(deadlines, f"{self.deadline}_s"))


# A protobuf reply goes in; its type depends on the call that was yielded.
Plan: TypeAlias = Generator[Call, Any, _T]


def record_events(events: Iterable[t.Event]) -> Plan[t.WriteResult]:
    return _write("RecordEvents", _requests.record_events(events))


def upsert_items(items: Iterable[t.Item]) -> Plan[t.WriteResult]:
    return _write("UpsertItems", _requests.upsert_items(items))


def _write(method: str, requests: Iterable[Message]) -> Plan[t.WriteResult]:
    done, sent = t.WriteResult(count=0, ingest_time=None), 0
    for request in requests:
        try:
            reply = yield Call("Event", method, request, "write")
        except DriftlineError as error:
            error.committed_count = done.count
            raise
        done = _replies.written(reply, done, sent)
        sent += len(getattr(request, "events", ()))
    return done


def get_interest(
    user_id: str, granularity: t.Granularity | str, period: str, as_of: AsOfLike
) -> Plan[t.Interest]:
    request = _requests.get_interest(user_id, granularity, period, as_of)
    reply = yield Call("Interest", "GetInterest", request, _read(as_of, bool(period)))
    return _replies.interest(user_id, reply)


def get_interests(
    user_ids: Iterable[str], granularity: t.Granularity | str
) -> Plan[t.InterestBatch]:
    replies = []
    for request in _requests.get_interests(user_ids, granularity):
        replies.append((yield Call("Interest", "BatchGetInterests", request)))
    return _replies.interests(replies)


def get_trajectory(
    user_id: str, granularity: t.Granularity | str, limit: int | None, as_of: AsOfLike
) -> Plan[t.Trajectory]:
    def request(size: int, token: str) -> Message:
        return _requests.get_trajectory(user_id, granularity, size, token, as_of)

    pages = yield from _pages(
        "Interest", "GetTrajectory", "interests", request, limit, _requests.MAX_PERIODS,
        _read(as_of, limit is None or limit > 0),
    )  # fmt: skip
    return _replies.trajectory(user_id, granularity, pages, limit)


def get_forecast(
    user_id: str, granularity: t.Granularity | str, period: str, as_of: AsOfLike
) -> Plan[t.Forecast]:
    request = _requests.get_forecast(user_id, granularity, period, as_of)
    reply = yield Call("Interest", "GetForecast", request, _read(as_of))
    return _replies.forecast(user_id, granularity, reply)


def recommend(user_id: str, wishes: Wishes, as_of: AsOfLike) -> Plan[t.RankedItems]:
    request = _requests.recommend(user_id, wishes, as_of)
    reply = yield Call("Recommendation", "RecommendItems", request, _read(as_of))
    return _replies.ranked_items(reply)


def recommend_many(user_ids: Iterable[str], wishes: Wishes) -> Plan[dict[str, t.RankedItems]]:
    replies = []
    for request in _requests.recommend_many(user_ids, wishes):
        replies.append((yield Call("Recommendation", "BatchRecommendItems", request)))
    return _replies.many_ranked_items(replies)


def export_recommendations(user_ids: Iterable[str], wishes: Wishes) -> Iterator[Call]:
    """Return the calls of an export; each answers with a stream."""
    return (
        Call("Recommendation", "ExportRecommendations", request, "export")
        for request in _requests.export_recommendations(user_ids, wishes)
    )


def similar_items(
    item_id: str, page_size: int, other_item_ids: Iterable[str], categories: Iterable[str]
) -> Plan[t.RankedItems]:
    request = _requests.similar_items(item_id, page_size, other_item_ids, categories)
    reply = yield Call("Recommendation", "FindSimilarItems", request)
    return _replies.ranked_items(reply)


def get_profile(user_id: str, page_size: int, as_of: AsOfLike) -> Plan[t.Profile]:
    request = _requests.get_profile(user_id, page_size, as_of)
    reply = yield Call("Profile", "GetProfile", request, _read(as_of))
    return _replies.profile(user_id, reply)


def correct_profile(
    user_id: str, topic_id: str, wish: t.TopicWish | str
) -> Plan[tuple[t.TopicCorrection, ...]]:
    request = _requests.correct_profile(user_id, topic_id, wish)
    reply = yield Call("Profile", "CorrectProfile", request, "write")
    return _replies.corrections(reply)


def forecast_demand(
    cohort: str, topic_ids: Iterable[str], horizon_count: int, history_count: int, page_size: int
) -> Plan[c.Demand]:
    request = _requests.forecast_demand(cohort, topic_ids, horizon_count, history_count, page_size)
    reply = yield Call("Content", "ForecastTopicDemand", request)
    return _content_replies.demand(reply)


def draft_brief(topic_id: str, cohort: str) -> Plan[c.Brief]:
    request = _requests.draft_brief(topic_id, cohort)
    reply = yield Call("Content", "DraftBrief", request)
    return _content_replies.brief(reply)


def erase_user(user_id: str) -> Plan[privacy.Erasure]:
    request = _requests.erase_user(user_id)
    reply = yield Call("Privacy", "EraseUser", request, "write")
    return _replies.erasure(reply)


def get_erasure(erasure_id: str) -> Plan[privacy.ErasureReceipt]:
    reply = yield Call("Privacy", "GetErasure", _requests.get_erasure(erasure_id))
    return _replies.erasure_receipt(reply)


def export_user(user_id: str) -> Call:
    """Return the call; it answers with a stream."""
    return Call("Privacy", "ExportUser", _requests.export_user(user_id), "export")


def list_models(limit: int | None) -> Plan[tuple[t.Model, ...]]:
    pages = yield from _pages(
        "Model", "ListModels", "models", _requests.list_models, limit, _requests.MAX_MODELS
    )
    found = _replies.models(pages)
    return found[:limit] if limit else found


def list_rejects(limit: int | None) -> Plan[tuple[Reject, ...]]:
    pages = yield from _pages(
        "Event", "ListRejects", "rejects", _requests.list_rejects, limit, _requests.MAX_REJECTS
    )
    found = _replies.rejects(pages)
    return found[:limit] if limit else found


def _pages(
    service: str,
    method: str,
    rows: str,
    request: Callable[[int, str], Message],
    limit: int | None,
    most: int,
    deadline: str = "read",
) -> Plan[list[Any]]:
    """Ask for pages until `limit` rows came; None means all, 0 means one page of the server's size.

    A negative limit goes to the server as it is, to be refused there.
    """
    pages: list[Any] = []
    received, token = 0, ""
    while not pages or (token and (limit is None or received < limit)):
        size = (
            limit
            if limit is not None and limit <= 0
            else _requests.next_page_size(limit, received, most)
        )
        page = yield Call(service, method, request(size, token), deadline)
        pages.append(page)
        received += len(getattr(page, rows))
        token = page.next_page_token
    return pages


def promote_model(model_version: str, accepts_worse: bool) -> Plan[Promotion]:
    reply = yield Call(
        "Model", "PromoteModel", _requests.promote_model(model_version, accepts_worse), "write"
    )
    return _replies.promotion(reply)


def _read(as_of: AsOfLike, reaches_back: bool = False) -> str:
    return "history" if as_of is not None or reaches_back else "read"
