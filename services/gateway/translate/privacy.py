"""PrivacyService's messages <-> core types."""

from collections.abc import Sequence

from driftline.v1 import privacy_service_pb2 as pb

from services.core.receipts import DONE, ErasedPlace
from services.gateway.answers import ErasureAnswer, ReceiptAnswer
from services.gateway.translate.instants import instant_to_pb, write_instant
from services.store.user_records import UserRecord


def user_from_pb(request: pb.EraseUserRequest | pb.ExportUserRequest) -> str:
    """Return whom it is about."""
    return request.user_id


def erasure_to_pb(answer: ErasureAnswer) -> pb.EraseUserResponse:
    """Return the answer: committed."""
    return pb.EraseUserResponse(
        erasure_id=answer.erasure_id, requested_time=instant_to_pb(answer.requested_time)
    )


def receipt_to_pb(answer: ReceiptAnswer) -> pb.GetErasureResponse:
    """Return how far an erasure is; pending and without places before rows were removed."""
    made = pb.ErasureReceipt(erasure_id=answer.erasure_id, state=pb.ERASURE_STATE_PENDING)
    if answer.signed is None:
        if answer.requested_time:
            write_instant(made.requested_time, answer.requested_time)
        return pb.GetErasureResponse(receipt=made)
    receipt = answer.signed.receipt
    made.state = _state(receipt.state == DONE)
    write_instant(made.requested_time, receipt.requested_time)
    write_instant(made.removed_time, receipt.removed_time)
    if receipt.completed_time:
        write_instant(made.completed_time, receipt.completed_time)
    made.places.extend(map(_place, receipt.places))
    made.predated_model_count = len(receipt.predated_models)
    made.signed_json = answer.signed.content
    made.signature = answer.signed.signature
    made.key_id = answer.signed.key_id
    return pb.GetErasureResponse(receipt=made)


def records_to_pb(records: Sequence[UserRecord]) -> pb.ExportUserResponse:
    """Return one part of a copy of what is held."""
    return pb.ExportUserResponse(records=map(_record, records))


def _record(record: UserRecord) -> pb.UserRecord:
    made = pb.UserRecord(source=record.source, content_json=record.content_json)
    if record.time:
        write_instant(made.time, record.time)
    return made


def _place(place: ErasedPlace) -> pb.ErasedPlace:
    made = pb.ErasedPlace(
        name=place.name,
        removed_count=place.removed,
        state=_state(not place.pending),
        pending_reason=place.pending,
    )
    if place.gone_by:
        write_instant(made.gone_by_time, place.gone_by)
    return made


def _state(is_done: bool) -> "pb.ErasureState.ValueType":
    return pb.ERASURE_STATE_DONE if is_done else pb.ERASURE_STATE_PENDING
