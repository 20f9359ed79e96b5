"""The fake gateway's receipts and copies of what it holds."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from . import errors as e
from ._requests import instant
from .v1 import event_pb2
from .v1 import privacy_service_pb2 as pb


def receipt_of(erasure_id: str, asked: Mapping[str, datetime]) -> pb.GetErasureResponse:
    """Return that a request is done: the fake carries it out at once.

    Raises:
        ErasureNotFoundError: nobody made it.
    """
    if erasure_id not in asked:
        raise e.ErasureNotFoundError(
            "no such erasure; take the id from the answer of EraseUser",
            code="NOT_FOUND",
            reason="ERASURE_NOT_FOUND",
            metadata={"erasure_id": erasure_id},
        )
    at = instant(asked[erasure_id], "now")
    return pb.GetErasureResponse(
        receipt=pb.ErasureReceipt(
            erasure_id=erasure_id,
            state=pb.ERASURE_STATE_DONE,
            requested_time=at,
            removed_time=at,
            completed_time=at,
        )
    )


def copy_of(user_id: str, events: Iterable[event_pb2.Event]) -> pb.ExportUserResponse:
    """Return a user's events."""
    records = [
        pb.UserRecord(
            source="events",
            time=event.event_time,
            content_json=json.dumps({"event_id": event.event_id, "item_id": event.item_id}),
        )
        for event in events
        if event.user_id == user_id
    ]
    return pb.ExportUserResponse(records=records)
