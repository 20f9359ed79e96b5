"""RecommendationService's, ProfileService's and ModelService's messages <-> core types."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from driftline.v1 import model_service_pb2, profile_service_pb2
from driftline.v1 import recommendation_service_pb2 as pb

from services.core.errors import InvalidArgument
from services.core.recommend import Consumed, Filters, SimilarItems
from services.core.records import ModelInfo, Profile
from services.gateway.interest_translate import as_of_from_pb, basis_to_pb, timestamp
from services.gateway.reads import AsOf, Basis, Recommended
from services.store.ports import Catalogue

DEFAULT_COUNT = 20
_CONSUMED = {
    pb.CONSUMED_POLICY_UNSPECIFIED: Consumed.KEEP,
    pb.CONSUMED_POLICY_KEEP: Consumed.KEEP,
    pb.CONSUMED_POLICY_DROP: Consumed.DROP,
    pb.CONSUMED_POLICY_ONLY: Consumed.ONLY,
}
_STAGES = {
    "candidate": model_service_pb2.MODEL_STAGE_CANDIDATE,
    "live": model_service_pb2.MODEL_STAGE_LIVE,
    "previous": model_service_pb2.MODEL_STAGE_PREVIOUS,
    "": model_service_pb2.MODEL_STAGE_UNSPECIFIED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendQuery:
    """For whom, how many, which."""

    user_id: str
    count: int
    filters: Filters
    as_of: AsOf


def recommend_from_pb(request: pb.RecommendItemsRequest, now: datetime) -> RecommendQuery:
    """Read the request. Raises InvalidArgument where an instant is in the future."""
    return RecommendQuery(
        user_id=request.user_id,
        count=count_from_pb(request),
        filters=Filters(
            consumed=_CONSUMED[request.consumed_policy],
            categories=tuple(request.categories),
            excluded_item_ids=tuple(request.excluded_item_ids),
        ),
        as_of=as_of_from_pb(request, now),
    )


def count_from_pb(request: Any) -> int:
    """Return how many items are asked for."""
    return int(request.page_size) or DEFAULT_COUNT


def recommend_response_to_pb(found: Recommended) -> pb.RecommendItemsResponse:
    """Return the response. An item the user never had has a repeat part of 0."""
    items, catalogue = found.items, found.catalogue
    repeat_K = np.where(np.isfinite(items.repeat_K), items.repeat_K, 0.0)
    return pb.RecommendItemsResponse(
        items=[
            pb.ScoredItem(
                item_id=catalogue.item_ids[row],
                title=catalogue.titles[row],
                categories=catalogue.categories[row],
                score=score,
                parts=pb.ScoreParts(interest=interest, popularity=popularity, repeat=repeat),
            )
            for row, score, interest, popularity, repeat in zip(
                items.row_K.tolist(),
                items.score_K.tolist(),
                items.interest_K.tolist(),
                items.popularity_K.tolist(),
                repeat_K.tolist(),
                strict=True,
            )
        ],
        basis=basis_to_pb(found.basis),
    )


def similar_response_to_pb(
    catalogue: Catalogue, found: SimilarItems, basis: Basis
) -> pb.FindSimilarItemsResponse:
    """Return the response."""
    return pb.FindSimilarItemsResponse(
        items=[
            pb.ScoredItem(
                item_id=catalogue.item_ids[row],
                title=catalogue.titles[row],
                categories=catalogue.categories[row],
                score=cosine,
            )
            for row, cosine in zip(found.row_K.tolist(), found.cosine_K.tolist(), strict=True)
        ],
        basis=basis_to_pb(basis),
    )


def profile_response_to_pb(
    profile: Profile, basis: Basis, count: int
) -> profile_service_pb2.GetProfileResponse:
    """Return the response with the strongest interests."""
    named = list(zip(profile.labels, profile.shares, profile.recent_shares, strict=True))
    return profile_service_pb2.GetProfileResponse(
        interests=[
            profile_service_pb2.NamedInterest(label=label, share=share, recent_share=recent)
            for label, share, recent in named[:count]
        ],
        event_count=profile.event_count,
        first_event_time=timestamp(profile.first_event_time),
        last_event_time=timestamp(profile.last_event_time),
        is_suspected_bot=profile.is_suspected_bot,
        basis=basis_to_pb(basis),
    )


def models_response_to_pb(
    models: Sequence[ModelInfo], request: model_service_pb2.ListModelsRequest
) -> model_service_pb2.ListModelsResponse:
    """Return one page; the token is the last model's version.

    Raises:
        InvalidArgument: `page_token` is not one of ours.
    """
    start = 0
    if request.page_token:
        versions = [model.model_version for model in models]
        if request.page_token not in versions:
            raise InvalidArgument("page_token", "is not one that ListModels returned")
        start = versions.index(request.page_token) + 1
    page = models[start : start + (request.page_size or DEFAULT_COUNT)]
    has_more = start + len(page) < len(models)
    return model_service_pb2.ListModelsResponse(
        models=[_model(model) for model in page],
        next_page_token=page[-1].model_version if page and has_more else "",
    )


def _model(model: ModelInfo) -> model_service_pb2.Model:
    return model_service_pb2.Model(
        model_version=model.model_version,
        space_id=model.space_id,
        stage=_STAGES[model.stage],
        trained_time=timestamp(model.trained_time),
        data_sha256=model.data_sha256,
        trained_until_time=timestamp(model.trained_until),
        metrics=[
            model_service_pb2.Metric(name=name, value=value)
            for name, value in sorted(model.metrics.items())
        ],
    )
