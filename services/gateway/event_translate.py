"""EventService's and PrivacyService's messages <-> rows of the inbox."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from driftline.v1 import event_pb2, event_service_pb2, privacy_service_pb2

from services.core import schema as names
from services.core.errors import EventConflict, InvalidArgument
from services.core.schema import Kind
from services.gateway.interest_translate import timestamp
from services.store.ports import Commit

# Clocks differ; an event further ahead than this is a mistake.
MAX_AHEAD = timedelta(minutes=5)
_KINDS = {
    number: Kind(name.removeprefix("EVENT_KIND_").lower())
    for name, number in event_pb2.EventKind.items()
    if number
}
_TIME = pl.Datetime("us", "UTC")
_EVENT_ROWS: dict[str, Any] = {
    names.EVENT_ID: pl.String,
    names.USER_ID: pl.String,
    names.ITEM_ID: pl.String,
    names.KIND: pl.String,
    names.VALUE: pl.Float64,
    names.EVENT_TIME: _TIME,
}
_ITEM_ROWS: dict[str, Any] = {
    names.ITEM_ID: pl.String,
    names.TITLE: pl.String,
    names.TEXT: pl.String,
    names.CATEGORIES: pl.List(pl.String),
    names.UPDATED_TIME: _TIME,
}


def events_from_pb(request: event_service_pb2.RecordEventsRequest, now: datetime) -> pl.DataFrame:
    """Return one inbox row per distinct event.

    Raises:
        InvalidArgument: an event is in the future; names its field.
        EventConflict: an id comes twice with different content.
    """
    rows: dict[str, tuple[object, ...]] = {}
    for number, event in enumerate(request.events):
        field = f"events[{number}].event_time"
        row = (
            event.event_id,
            event.user_id,
            event.item_id,
            str(_KINDS[event.kind]),
            event.value if event.HasField("value") else 1.0,
            _not_ahead(event.event_time.ToDatetime(UTC), field, now),
        )
        if rows.setdefault(event.event_id, row) != row:
            raise EventConflict(event.event_id)
    return pl.DataFrame(list(rows.values()), schema=_EVENT_ROWS, orient="row")


def items_from_pb(request: event_service_pb2.UpsertItemsRequest, now: datetime) -> pl.DataFrame:
    """Return one inbox row per item; an unset time is null and becomes the commit's.

    Raises:
        InvalidArgument: an item comes twice, says nothing, or is of the future; names its field.
    """
    rows, seen = [], set()
    for number, item in enumerate(request.items):
        if item.item_id in seen:
            raise InvalidArgument(
                f"items[{number}].item_id", "comes twice in the call; send it once"
            )
        if not (item.title.strip() or item.text.strip()):
            raise InvalidArgument(f"items[{number}].title", "title or text must say something")
        seen.add(item.item_id)
        updated = None
        if item.HasField("updated_time"):
            field = f"items[{number}].updated_time"
            updated = _not_ahead(item.updated_time.ToDatetime(UTC), field, now)
        rows.append((item.item_id, item.title, item.text, list(item.categories), updated))
    return pl.DataFrame(rows, schema=_ITEM_ROWS, orient="row")


def events_response_to_pb(commit: Commit) -> event_service_pb2.RecordEventsResponse:
    """Return the response."""
    return event_service_pb2.RecordEventsResponse(
        event_count=commit.row_count, ingest_time=timestamp(commit.ingest_time)
    )


def items_response_to_pb(commit: Commit) -> event_service_pb2.UpsertItemsResponse:
    """Return the response."""
    return event_service_pb2.UpsertItemsResponse(
        item_count=commit.row_count, ingest_time=timestamp(commit.ingest_time)
    )


def erasure_response_to_pb(
    erasure_id: str, commit: Commit
) -> privacy_service_pb2.EraseUserResponse:
    """Return the response."""
    return privacy_service_pb2.EraseUserResponse(
        erasure_id=erasure_id, requested_time=timestamp(commit.ingest_time)
    )


def _not_ahead(instant: datetime, field: str, now: datetime) -> datetime:
    if instant > now + MAX_AHEAD:
        raise InvalidArgument(
            field,
            f"{instant.isoformat()} is in the future; now is {now.isoformat()}: check the clock",
        )
    return instant
