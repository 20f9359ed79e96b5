"""The generated stubs of every public service on one channel."""

from typing import Any

from ._plans import Call
from .v1.content_service_pb2_grpc import ContentServiceStub
from .v1.event_service_pb2_grpc import EventServiceStub
from .v1.interest_service_pb2_grpc import InterestServiceStub
from .v1.model_service_pb2_grpc import ModelServiceStub
from .v1.privacy_service_pb2_grpc import PrivacyServiceStub
from .v1.profile_service_pb2_grpc import ProfileServiceStub
from .v1.recommendation_service_pb2_grpc import RecommendationServiceStub


class Stubs:
    """Finds the stub of a call. The channel is a `grpc.Channel` or a `grpc.aio.Channel`."""

    def __init__(self, channel: Any) -> None:
        self._of: dict[str, Any] = {
            "Content": ContentServiceStub(channel),
            "Event": EventServiceStub(channel),
            "Interest": InterestServiceStub(channel),
            "Model": ModelServiceStub(channel),
            "Privacy": PrivacyServiceStub(channel),
            "Profile": ProfileServiceStub(channel),
            "Recommendation": RecommendationServiceStub(channel),
        }

    def method(self, call: Call) -> Any:
        """Return what sends the call's request."""
        return getattr(self._of[call.service], call.method)
