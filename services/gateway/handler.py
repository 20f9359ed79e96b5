"""The public services: translate, ask a port or a small class over one, translate.

Errors, deadlines, checks and logs are runtime/interceptors.py's.
"""

from collections.abc import AsyncIterator
from typing import Any

from driftline.v1 import content_service_pb2 as content
from driftline.v1 import content_service_pb2_grpc as content_grpc
from driftline.v1 import event_service_pb2 as events
from driftline.v1 import event_service_pb2_grpc as events_grpc
from driftline.v1 import interest_service_pb2 as interests
from driftline.v1 import interest_service_pb2_grpc as interests_grpc
from driftline.v1 import model_service_pb2 as models
from driftline.v1 import model_service_pb2_grpc as models_grpc
from driftline.v1 import privacy_service_pb2 as privacy
from driftline.v1 import privacy_service_pb2_grpc as privacy_grpc
from driftline.v1 import profile_service_pb2 as profiles
from driftline.v1 import profile_service_pb2_grpc as profiles_grpc
from driftline.v1 import recommendation_service_pb2 as recommendations
from driftline.v1 import recommendation_service_pb2_grpc as recommendations_grpc

from services.gateway.answers import Now
from services.gateway.content import Content
from services.gateway.erasure import Eraser
from services.gateway.interests import Interests
from services.gateway.model_list import ModelList
from services.gateway.portraits import Portraits
from services.gateway.recommender import Recommender
from services.gateway.rejects import Rejects
from services.gateway.translate import content as content_messages
from services.gateway.translate import events as event_messages
from services.gateway.translate import interests as interest_messages
from services.gateway.translate import models as model_messages
from services.gateway.translate import privacy as privacy_messages
from services.gateway.translate import profiles as profile_messages
from services.gateway.translate import recommendations as recommendation_messages
from services.store.ports import Commit, Inbox


class EventHandler(events_grpc.EventServiceServicer):
    """EventService."""

    def __init__(
        self, tenant: str, inbox: Inbox, rejects: Rejects, now: Now, eraser: Eraser
    ) -> None:
        self._tenant, self._inbox, self._rejects, self._now = tenant, inbox, rejects, now
        self._eraser = eraser

    async def RecordEvents(
        self, request: events.RecordEventsRequest, context: Any
    ) -> events.RecordEventsResponse:
        now = self._now()
        rows = event_messages.events_from_pb(request, now)
        is_refused = await self._eraser.refused(rows)
        if is_refused.all():  # nothing to wait for
            commit = Commit(row_count=0, ingest_time=now.ingest_time)
        else:
            commit = await self._inbox.append_events(self._tenant, rows.filter(~is_refused))
        return event_messages.events_to_pb(commit, request, rows.filter(is_refused))

    async def UpsertItems(
        self, request: events.UpsertItemsRequest, context: Any
    ) -> events.UpsertItemsResponse:
        rows = event_messages.items_from_pb(request, self._now())
        commit = await self._inbox.append_items(self._tenant, rows)
        return event_messages.items_to_pb(commit)

    async def ListRejects(
        self, request: events.ListRejectsRequest, context: Any
    ) -> events.ListRejectsResponse:
        query = event_messages.rejects_query_from_pb(request)
        answer = await self._rejects.page(query)
        return event_messages.rejects_to_pb(answer)


class InterestHandler(interests_grpc.InterestServiceServicer):
    """InterestService.

    Where a method returns bytes, they are its response already serialized: not what the stubs say, but what
    `interceptors.py` takes too.
    """

    def __init__(self, reads: Interests, now: Now) -> None:
        self._reads, self._now = reads, now

    async def GetInterest(  # type: ignore[override]
        self, request: interests.GetInterestRequest, context: Any
    ) -> bytes:
        query = interest_messages.interest_query_from_pb(request, self._now())
        answer = await self._reads.interest(query)
        return interest_messages.interest_to_wire(answer)

    async def BatchGetInterests(  # type: ignore[override]
        self, request: interests.BatchGetInterestsRequest, context: Any
    ) -> bytes:
        query = interest_messages.batch_query_from_pb(request, self._now())
        answer = await self._reads.batch(query)
        return interest_messages.batch_to_wire(answer)

    async def GetTrajectory(  # type: ignore[override]
        self, request: interests.GetTrajectoryRequest, context: Any
    ) -> bytes:
        query = interest_messages.trajectory_query_from_pb(request, self._now())
        answer = await self._reads.trajectory(query)
        return interest_messages.trajectory_to_wire(answer)

    async def GetForecast(
        self, request: interests.GetForecastRequest, context: Any
    ) -> interests.GetForecastResponse:
        query = interest_messages.forecast_query_from_pb(request, self._now())
        answer = await self._reads.forecast(query)
        return interest_messages.forecast_to_pb(answer)


class RecommendationHandler(recommendations_grpc.RecommendationServiceServicer):
    """RecommendationService."""

    def __init__(self, recommender: Recommender, now: Now) -> None:
        self._recommender, self._now = recommender, now

    async def RecommendItems(
        self, request: recommendations.RecommendItemsRequest, context: Any
    ) -> recommendations.RecommendItemsResponse:
        query = recommendation_messages.recommend_query_from_pb(request, self._now())
        answer = await self._recommender.recommend(query)
        return recommendation_messages.recommendations_to_pb(answer)

    async def BatchRecommendItems(
        self, request: recommendations.BatchRecommendItemsRequest, context: Any
    ) -> recommendations.BatchRecommendItemsResponse:
        query = recommendation_messages.many_query_from_pb(request, self._now())
        answer = await self._recommender.recommend_many(query)
        return recommendation_messages.many_to_pb(answer)

    async def ExportRecommendations(
        self, request: recommendations.ExportRecommendationsRequest, context: Any
    ) -> AsyncIterator[recommendations.ExportRecommendationsResponse]:
        query = recommendation_messages.many_query_from_pb(request, self._now())
        async for answer in self._recommender.export(query):
            yield recommendation_messages.export_to_pb(answer)

    async def FindSimilarItems(
        self, request: recommendations.FindSimilarItemsRequest, context: Any
    ) -> recommendations.FindSimilarItemsResponse:
        query = recommendation_messages.similar_query_from_pb(request, self._now())
        answer = await self._recommender.similar(query)
        return recommendation_messages.similar_to_pb(answer)


class ProfileHandler(profiles_grpc.ProfileServiceServicer):
    """ProfileService."""

    def __init__(self, portraits: Portraits, now: Now) -> None:
        self._portraits, self._now = portraits, now

    async def GetProfile(
        self, request: profiles.GetProfileRequest, context: Any
    ) -> profiles.GetProfileResponse:
        query = profile_messages.profile_query_from_pb(request, self._now())
        answer = await self._portraits.profile(query)
        return profile_messages.profile_to_pb(answer)

    async def CorrectProfile(
        self, request: profiles.CorrectProfileRequest, context: Any
    ) -> profiles.CorrectProfileResponse:
        query = profile_messages.correct_query_from_pb(request, self._now())
        answer = await self._portraits.correct(query)
        return profile_messages.corrected_to_pb(answer)


class ContentHandler(content_grpc.ContentServiceServicer):
    """ContentService."""

    def __init__(self, demand: Content, now: Now) -> None:
        self._demand, self._now = demand, now

    async def ForecastTopicDemand(
        self, request: content.ForecastTopicDemandRequest, context: Any
    ) -> content.ForecastTopicDemandResponse:
        query = content_messages.demand_query_from_pb(request, self._now())
        answer = await self._demand.forecast(query)
        return content_messages.demand_to_pb(answer)

    async def DraftBrief(
        self, request: content.DraftBriefRequest, context: Any
    ) -> content.DraftBriefResponse:
        query = content_messages.brief_query_from_pb(request, self._now())
        answer = await self._demand.brief(query)
        return content_messages.brief_to_pb(answer)


class PrivacyHandler(privacy_grpc.PrivacyServiceServicer):
    """PrivacyService."""

    def __init__(self, eraser: Eraser) -> None:
        self._eraser = eraser

    async def EraseUser(
        self, request: privacy.EraseUserRequest, context: Any
    ) -> privacy.EraseUserResponse:
        user_id = privacy_messages.user_from_pb(request)
        answer = await self._eraser.erase(user_id)
        return privacy_messages.erasure_to_pb(answer)

    async def GetErasure(
        self, request: privacy.GetErasureRequest, context: Any
    ) -> privacy.GetErasureResponse:
        answer = await self._eraser.receipt(request.erasure_id)
        return privacy_messages.receipt_to_pb(answer)

    async def ExportUser(
        self, request: privacy.ExportUserRequest, context: Any
    ) -> AsyncIterator[privacy.ExportUserResponse]:
        user_id = privacy_messages.user_from_pb(request)
        async for records in self._eraser.export(user_id):
            yield privacy_messages.records_to_pb(records)


class ModelHandler(models_grpc.ModelServiceServicer):
    """ModelService."""

    def __init__(self, model_list: ModelList) -> None:
        self._list = model_list

    async def ListModels(
        self, request: models.ListModelsRequest, context: Any
    ) -> models.ListModelsResponse:
        query = model_messages.models_query_from_pb(request)
        answer = await self._list.page(query)
        return model_messages.models_to_pb(answer)

    async def PromoteModel(
        self, request: models.PromoteModelRequest, context: Any
    ) -> models.PromoteModelResponse:
        query = model_messages.promote_query_from_pb(request)
        answer = await self._list.promote(query)
        return model_messages.promotion_to_pb(answer)
