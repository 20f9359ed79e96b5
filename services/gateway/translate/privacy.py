"""PrivacyService's messages <-> core types."""

from driftline.v1 import privacy_service_pb2 as pb

from services.gateway.answers import ErasureAnswer
from services.gateway.translate.instants import instant_to_pb


def user_from_pb(request: pb.EraseUserRequest) -> str:
    """Return whom to erase."""
    return request.user_id


def erasure_to_pb(answer: ErasureAnswer) -> pb.EraseUserResponse:
    """Return the answer: committed."""
    return pb.EraseUserResponse(
        erasure_id=answer.erasure_id, requested_time=instant_to_pb(answer.requested_time)
    )
