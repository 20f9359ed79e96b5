"""The public services: translate, ask, translate."""

import uuid
from typing import Any

from driftline.v1 import (
    event_service_pb2_grpc,
    interest_service_pb2_grpc,
    model_service_pb2_grpc,
    privacy_service_pb2_grpc,
    profile_service_pb2_grpc,
    recommendation_service_pb2_grpc,
)

from services.gateway import event_translate, interest_translate, item_translate
from services.gateway.reads import Reads
from services.gateway.state import GatewayState
from services.store.ports import Inbox, ModelRegistry


class EventHandler(event_service_pb2_grpc.EventServiceServicer):
    """Takes in events and items."""

    def __init__(self, inbox: Inbox, reads: Reads, tenant: str) -> None:
        self._inbox, self._reads, self._tenant = inbox, reads, tenant

    async def RecordEvents(self, request: Any, context: Any) -> Any:
        rows = event_translate.events_from_pb(request, self._reads.now())
        commit = await self._inbox.append_events(self._tenant, rows)
        return event_translate.events_response_to_pb(commit)

    async def UpsertItems(self, request: Any, context: Any) -> Any:
        rows = event_translate.items_from_pb(request, self._reads.now())
        commit = await self._inbox.append_items(self._tenant, rows)
        return event_translate.items_response_to_pb(commit)


class InterestHandler(interest_service_pb2_grpc.InterestServiceServicer):
    """Reads vectors, trajectories, forecasts."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def GetInterest(self, request: Any, context: Any) -> Any:
        query = interest_translate.query_from_pb(request, self._reads.now())
        vector, basis = await self._reads.interest(
            query.user_id, query.granularity, query.period, query.as_of
        )
        return interest_translate.interest_response_to_pb(vector, basis)

    async def BatchGetInterests(self, request: Any, context: Any) -> Any:
        query = interest_translate.batch_from_pb(request, self._reads.now())
        vectors, basis = await self._reads.interests(query.user_ids, query.granularity, query.as_of)
        return interest_translate.batch_response_to_pb(query.user_ids, vectors, basis)

    async def GetTrajectory(self, request: Any, context: Any) -> Any:
        query = interest_translate.trajectory_from_pb(request, self._reads.now())
        found = await self._reads.trajectory(
            query.user_id, query.granularity, query.page_size, query.before, query.as_of
        )
        return interest_translate.trajectory_response_to_pb(*found)

    async def GetForecast(self, request: Any, context: Any) -> Any:
        query = interest_translate.query_from_pb(request, self._reads.now())
        found = await self._reads.forecast(
            query.user_id, query.granularity, query.period, query.as_of
        )
        return interest_translate.forecast_response_to_pb(*found)


class RecommendationHandler(recommendation_service_pb2_grpc.RecommendationServiceServicer):
    """Ranks items."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def RecommendItems(self, request: Any, context: Any) -> Any:
        query = item_translate.recommend_from_pb(request, self._reads.now())
        found = await self._reads.recommend(query.user_id, query.count, query.filters, query.as_of)
        return item_translate.recommend_response_to_pb(found)

    async def FindSimilarItems(self, request: Any, context: Any) -> Any:
        found = self._reads.similar(request.item_id, item_translate.count_from_pb(request))
        return item_translate.similar_response_to_pb(*found)


class ProfileHandler(profile_service_pb2_grpc.ProfileServiceServicer):
    """Portraits."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def GetProfile(self, request: Any, context: Any) -> Any:
        as_of = interest_translate.as_of_from_pb(request, self._reads.now())
        profile, basis = await self._reads.profile(request.user_id, as_of)
        return item_translate.profile_response_to_pb(profile, basis, request.page_size or 10)


class PrivacyHandler(privacy_service_pb2_grpc.PrivacyServiceServicer):
    """Erasure."""

    def __init__(self, inbox: Inbox, state: GatewayState) -> None:
        self._inbox, self._state = inbox, state

    async def EraseUser(self, request: Any, context: Any) -> Any:
        erasure_id = uuid.uuid4().hex
        commit = await self._inbox.append_erasure(self._state.tenant, erasure_id, request.user_id)
        self._state.poll_erased()
        return event_translate.erasure_response_to_pb(erasure_id, commit)


class ModelHandler(model_service_pb2_grpc.ModelServiceServicer):
    """Lists models."""

    def __init__(self, models: ModelRegistry, tenant: str) -> None:
        self._models, self._tenant = models, tenant

    async def ListModels(self, request: Any, context: Any) -> Any:
        return item_translate.models_response_to_pb(self._models.list(self._tenant), request)
