"""EventService's messages <-> rows of the inbox, and rejects."""

import polars as pl
from driftline.v1 import event_pb2
from driftline.v1 import event_service_pb2 as pb

from services.core import schema as names
from services.core.errors import EventConflict, InvalidArgument
from services.core.instants import TIME
from services.gateway.answers import Instants, RejectsQuery
from services.gateway.translate.instants import instant_to_pb, micros_from_pb, micros_of
from services.store.ports import Commit
from services.store.reject_port import RejectPage

# How far a client's clock may run ahead of ours.
CLOCK_SKEW_US = 5 * 60 * 1_000_000
# Rejects in a page where the caller names no size.
DEFAULT_REJECTS = 100

_KINDS = {
    value: kind
    for kind in names.Kind
    if (value := event_pb2.EventKind.Value(f"EVENT_KIND_{kind.upper()}"))
}
_EVENT_TYPES = {
    names.EVENT_ID: pl.String(),
    names.USER_ID: pl.String(),
    names.ITEM_ID: pl.String(),
    names.KIND: pl.String(),
    names.VALUE: pl.Float64(),
    names.EVENT_TIME: TIME,
}
_ITEM_TYPES = {
    names.ITEM_ID: pl.String(),
    names.TITLE: pl.String(),
    names.TEXT: pl.String(),
    names.CATEGORIES: pl.List(pl.String()),
    names.UPDATED_TIME: TIME,
}


def events_from_pb(request: pb.RecordEventsRequest, now: Instants) -> pl.DataFrame:
    """Return one row an event id; an unset value is 1.

    Raises:
        InvalidArgument: a kind is unknown, or an event lies in the future.
        EventConflict: an id comes twice with different content.
    """
    rows: dict[str, tuple[object, ...]] = {}
    latest = micros_of(now.event_time) + CLOCK_SKEW_US
    for index, event in enumerate(request.events):
        row = _event_row(event, f"events[{index}]", latest)
        if rows.setdefault(event.event_id, row) != row:
            raise EventConflict(event.event_id, f"events[{index}].event_id")
    return pl.DataFrame(list(rows.values()), schema=_EVENT_TYPES, orient="row")


def events_to_pb(
    commit: Commit, request: pb.RecordEventsRequest, refused: pl.DataFrame
) -> pb.RecordEventsResponse:
    """Return the answer: committed, and which events of the request were refused."""
    ids = set(refused[names.EVENT_ID])
    return pb.RecordEventsResponse(
        event_count=commit.row_count,
        ingest_time=instant_to_pb(commit.ingest_time),
        refused_positions=(
            [place for place, event in enumerate(request.events) if event.event_id in ids]
            if ids
            else ()
        ),
    )


def items_from_pb(request: pb.UpsertItemsRequest, now: Instants) -> pl.DataFrame:
    """Return one row an item; an unset time is the server's now, the replayed one in a replay.

    Raises:
        InvalidArgument: an id comes twice, an item has no words, or a time lies in the future.
    """
    rows: list[tuple[object, ...]] = []
    seen: set[str] = set()
    latest = micros_of(now.event_time) + CLOCK_SKEW_US
    for index, item in enumerate(request.items):
        field = f"items[{index}]"
        if item.item_id in seen:
            raise InvalidArgument(f"{field}.item_id", "comes twice; send each item once a call")
        seen.add(item.item_id)
        if not (item.title.strip() or item.text.strip()):
            raise InvalidArgument(f"{field}.title", "title and text are both blank; write one")
        rows.append(_item_row(item, field, latest))
    return pl.DataFrame(rows, schema=_ITEM_TYPES, orient="row")


def items_to_pb(commit: Commit) -> pb.UpsertItemsResponse:
    """Return the answer: committed."""
    return pb.UpsertItemsResponse(
        item_count=commit.row_count, ingest_time=instant_to_pb(commit.ingest_time)
    )


def rejects_query_from_pb(request: pb.ListRejectsRequest) -> RejectsQuery:
    """Return the query."""
    return RejectsQuery(limit=request.page_size or DEFAULT_REJECTS, after=request.page_token)


def rejects_to_pb(page: RejectPage) -> pb.ListRejectsResponse:
    """Return the response."""
    rejects = [
        pb.Reject(
            source=reject.source,
            line=reject.line or 0,
            reason=reject.reason,
            event_id=reject.event_id or "",
            user_id=reject.user_id or "",
            excerpt=reject.excerpt,
            ingest_time=instant_to_pb(reject.ingest_time),
        )
        for reject in page.rejects
    ]
    return pb.ListRejectsResponse(rejects=rejects, next_page_token=page.next)


def _event_row(event: event_pb2.Event, field: str, latest: int) -> tuple[object, ...]:
    kind = _KINDS.get(event.kind)
    if kind is None:
        raise InvalidArgument(f"{field}.kind", "must be a kind of this version of the contract")
    micros = micros_from_pb(event.event_time, f"{field}.event_time")
    if micros > latest:
        raise InvalidArgument(
            f"{field}.event_time", "lies more than 5 minutes ahead of the server's clock"
        )
    value = event.value if event.HasField("value") else 1.0
    return (event.event_id, event.user_id, event.item_id, str(kind), value, micros)


def _item_row(item: event_pb2.Item, field: str, latest: int) -> tuple[object, ...]:
    micros = latest - CLOCK_SKEW_US
    if item.HasField("updated_time"):
        micros = micros_from_pb(item.updated_time, f"{field}.updated_time")
        if micros > latest:
            raise InvalidArgument(f"{field}.updated_time", "lies in the future; leave it unset")
    return (item.item_id, item.title, item.text, list(item.categories), micros)
