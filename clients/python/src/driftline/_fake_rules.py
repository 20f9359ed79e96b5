"""The contract's rules on requests, as far as a caller can break them through the SDK."""

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from ._plans import Call
from .errors import InvalidArgumentError, UnsupportedError, Violation

_MAX_ID_BYTES = 256
_MAX_LENGTH = {"topic_id": 64, "topic_ids": 64}
_MAX_PAGE = {
    "GetTrajectory": 366,
    "RecommendItems": 200,
    "BatchRecommendItems": 200,
    "ExportRecommendations": 200,
    "FindSimilarItems": 200,
    "GetProfile": 50,
    "ForecastTopicDemand": 64,
    "ListModels": 100,
    "ListRejects": 1000,
}
_IDS = (
    "user_id",
    "item_id",
    "event_id",
    "allowed_item_ids",
    "excluded_item_ids",
    "other_item_ids",
    "user_ids",
    "topic_id",
    "topic_ids",
)
_MANY_CATEGORIES = (
    "RecommendItems",
    "BatchRecommendItems",
    "ExportRecommendations",
    "FindSimilarItems",
)
_SHARES = ("diversity", "exploration_share")
_MAX_BYTES = {"cohort": 128, "title": 1024, "text": 16384, "period": 16}
_MAX_COUNT = {
    "excluded_item_ids": 1000,
    "allowed_item_ids": 1000,
    "other_item_ids": 99,
    "topic_ids": 64,
}
_MAX_NUMBER = {"horizon_count": 28, "history_count": 182}


def check(call: Call, now: datetime) -> None:
    """Refuse what the server would.

    Raises:
        InvalidArgumentError: names every bad field.
        UnsupportedError: a past instant where only now is served.
    """
    request: Any = call.request
    found = tuple(_violations(call.method, request, ""))
    if hasattr(request, "as_of"):
        found += tuple(_future(request.as_of, now))
    if found:
        first = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InvalidArgumentError(
            f"{first.field}: {first.description}{more}",
            field=first.field,
            violations=found,
            reason="INVALID_ARGUMENT",
            metadata={"field": first.field},
        )
    if call.method in ("RecommendItems", "GetProfile") and request.HasField("as_of"):
        raise UnsupportedError(
            f"{call.method} of a past instant is not served yet",
            code="UNIMPLEMENTED",
            reason="UNIMPLEMENTED",
            metadata={"feature": f"{call.method} as_of"},
        )


def _violations(method: str, message: Any, within: str) -> Iterator[Violation]:
    for name in ("events", "items"):
        for i, part in enumerate(getattr(message, name, ())):
            yield from _violations(method, part, f"{within}{name}[{i}].")
    if within == "" and method in ("BatchRecommendItems", "ExportRecommendations"):
        yield from _violations(method, message.options, "options.")
    yield from _shares(message, within)
    most_categories = 64 if method in _MANY_CATEGORIES else 16
    for name in (*_IDS, "categories", "declared_categories"):
        yield from _texts(message, name, within, most_categories)
    for name, most in _MAX_BYTES.items():
        if len(getattr(message, name, "").encode()) > most:
            yield Violation(f"{within}{name}", f"must be at most {most} bytes")
    for name, most in _MAX_NUMBER.items():
        if not 0 <= getattr(message, name, 0) <= most:
            yield Violation(f"{within}{name}", f"must be in [0, {most}]")
    most_page = _MAX_PAGE.get(method, 0)
    if most_page and hasattr(message, "page_size") and not 0 <= message.page_size <= most_page:
        yield Violation(f"{within}page_size", f"must be in [0, {most_page}]")


def _texts(message: Any, name: str, within: str, most_categories: int) -> Iterator[Violation]:
    value = getattr(message, name, None)
    if value is None or _is_other_of_oneof(message, name):
        return
    is_list = not isinstance(value, str)
    is_category = name.endswith("categories")
    longest = 128 if is_category else _MAX_LENGTH.get(name, _MAX_ID_BYTES)
    most = most_categories if is_category else _MAX_COUNT.get(name)
    if is_list and most and len(value) > most:
        yield Violation(f"{within}{name}", f"must have at most {most} entries")
    for i, one in enumerate(value if is_list else (value,)):
        if not 1 <= len(one.encode()) <= longest:
            path = f"{within}{name}[{i}]" if is_list else f"{within}{name}"
            yield Violation(path, f"must be 1 to {longest} bytes")


def _is_other_of_oneof(message: Any, name: str) -> bool:
    of = message.DESCRIPTOR.fields_by_name[name].containing_oneof
    return of is not None and message.WhichOneof(of.name) not in (None, name)


def _shares(message: Any, within: str) -> Iterator[Violation]:
    for name in _SHARES:
        value = getattr(message, name, 0.0)
        if not 0.0 <= value <= 1.0:
            yield Violation(f"{within}{name}", f"must be in [0, 1], is {value:g}")
    if getattr(message, "exploration_seed", 0) < 0:
        yield Violation(f"{within}exploration_seed", "must be at least 0")
    excluded = set(getattr(message, "excluded_item_ids", ()))
    both = sorted(excluded & set(getattr(message, "allowed_item_ids", ())))
    if both:
        yield Violation(
            f"{within}allowed_item_ids",
            f"{both[0]!r} is in excluded_item_ids too; take it out of one of them",
        )


def _future(as_of: Any, now: datetime) -> Iterator[Violation]:
    for name in ("event_time", "ingest_time"):
        if getattr(as_of, name).ToDatetime(tzinfo=timezone.utc) > now:
            yield Violation(f"as_of.{name}", "lies in the future")
