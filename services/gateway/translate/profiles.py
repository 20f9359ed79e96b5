"""ProfileService's messages <-> core types."""

from driftline.v1 import profile_service_pb2 as pb

from services.gateway.answers import Instants, ProfileAnswer, ProfileQuery
from services.gateway.translate.instants import as_of_from_pb, basis_to_pb, instant_to_pb

DEFAULT_PAGE_SIZE = 10


def profile_query_from_pb(request: pb.GetProfileRequest, now: Instants) -> ProfileQuery:
    """Return the query. Raises InvalidArgument where an instant lies in the future."""
    return ProfileQuery(
        user_id=request.user_id,
        limit=request.page_size or DEFAULT_PAGE_SIZE,
        as_of=as_of_from_pb(request.as_of, now),
    )


def profile_to_pb(answer: ProfileAnswer) -> pb.GetProfileResponse:
    """Return the response."""
    profile = answer.profile
    interests = zip(profile.labels, profile.shares, profile.recent_shares, strict=True)
    return pb.GetProfileResponse(
        interests=[
            pb.NamedInterest(label=label, share=share, recent_share=recent)
            for label, share, recent in list(interests)[: answer.limit]
        ],
        event_count=profile.event_count,
        first_event_time=instant_to_pb(profile.first_event_time),
        last_event_time=instant_to_pb(profile.last_event_time),
        session_count=profile.session_count,
        is_suspected_bot=profile.is_suspected_bot,
        basis=basis_to_pb(answer.basis),
    )
