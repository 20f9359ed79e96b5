"""Which of two events of one id the fake keeps: as the server does, whichever came first."""

from datetime import timezone
from typing import Any

from .v1 import event_pb2, event_service_pb2

_CONFLICT = "event_id was used before with different content"


def keep_one(
    events: dict[str, event_pb2.Event],
    rejects: list[event_service_pb2.Reject],
    event: event_pb2.Event,
    now: Any,
) -> None:
    """Store an event, or the one that is stored under its id; the other is told once."""
    held = events.setdefault(event.event_id, event)
    if held == event:
        return
    kept, lost = sorted((held, event), key=_rank)
    events[event.event_id] = kept
    told = (lost.event_id, lost.user_id, _CONFLICT)
    if told not in [(one.event_id, one.user_id, one.reason) for one in rejects]:
        rejects.append(
            event_service_pb2.Reject(
                source="events" if lost is held else "fake/events",
                event_id=lost.event_id,
                user_id=lost.user_id,
                reason=_CONFLICT,
                ingest_time=now,
            )
        )


def _rank(event: event_pb2.Event) -> tuple[Any, ...]:
    value = event.value if event.HasField("value") else 1.0
    kind = event_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_").lower()
    time = event.event_time.ToDatetime(tzinfo=timezone.utc)
    return (time, event.user_id.encode(), event.item_id.encode(), kind, value)
