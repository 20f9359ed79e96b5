"""RecommendationService's messages <-> core types. Shape suffixes: K = items kept."""

import math

from driftline.v1 import recommendation_service_pb2 as pb

from services.core.errors import InvalidArgument
from services.core.recommend import Consumed, Filters
from services.gateway.answers import (
    Instants,
    RecommendAnswer,
    RecommendQuery,
    SimilarAnswer,
    SimilarQuery,
)
from services.gateway.translate.instants import as_of_from_pb, as_of_now, basis_to_pb
from services.store.ports import Catalogue

DEFAULT_PAGE_SIZE = 20

_POLICIES = {
    pb.CONSUMED_POLICY_UNSPECIFIED: Consumed.KEEP,
    pb.CONSUMED_POLICY_KEEP: Consumed.KEEP,
    pb.CONSUMED_POLICY_DROP: Consumed.DROP,
    pb.CONSUMED_POLICY_ONLY: Consumed.ONLY,
}


def recommend_query_from_pb(request: pb.RecommendItemsRequest, now: Instants) -> RecommendQuery:
    """Return the query.

    Raises:
        InvalidArgument: the policy is unknown, or an instant lies in the future.
    """
    consumed = _POLICIES.get(request.consumed_policy)
    if consumed is None:
        raise InvalidArgument("consumed_policy", f"must be one of {', '.join(_names())}")
    return RecommendQuery(
        user_id=request.user_id,
        limit=request.page_size or DEFAULT_PAGE_SIZE,
        filters=Filters(
            consumed=consumed,
            categories=tuple(request.categories),
            excluded_item_ids=tuple(request.excluded_item_ids),
        ),
        as_of=as_of_from_pb(request.as_of, now),
    )


def recommendations_to_pb(answer: RecommendAnswer) -> pb.RecommendItemsResponse:
    """Return the response; the repeat part of an item never had is 0."""
    items = answer.items
    columns = zip(
        items.row_K.tolist(),
        items.score_K.tolist(),
        items.interest_K.tolist(),
        items.popularity_K.tolist(),
        items.repeat_K.tolist(),
        strict=True,
    )
    return pb.RecommendItemsResponse(
        items=[
            _item(
                answer.catalogue,
                row,
                score,
                pb.ScoreParts(
                    interest=interest,
                    popularity=popularity,
                    repeat=repeat if math.isfinite(repeat) else 0.0,
                ),
            )
            for row, score, interest, popularity, repeat in columns
        ],
        basis=basis_to_pb(answer.basis),
    )


def similar_query_from_pb(request: pb.FindSimilarItemsRequest, now: Instants) -> SimilarQuery:
    """Return the query."""
    return SimilarQuery(
        item_id=request.item_id,
        limit=request.page_size or DEFAULT_PAGE_SIZE,
        as_of=as_of_now(now),
    )


def similar_to_pb(answer: SimilarAnswer) -> pb.FindSimilarItemsResponse:
    """Return the response."""
    found = zip(answer.items.row_K.tolist(), answer.items.cosine_K.tolist(), strict=True)
    return pb.FindSimilarItemsResponse(
        items=[_item(answer.catalogue, row, cosine, None) for row, cosine in found],
        basis=basis_to_pb(answer.basis),
    )


def _item(
    catalogue: Catalogue, row: int, score: float, parts: pb.ScoreParts | None
) -> pb.ScoredItem:
    return pb.ScoredItem(
        item_id=catalogue.item_ids[row],
        title=catalogue.titles[row],
        categories=catalogue.categories[row],
        score=score,
        parts=parts,
    )


def _names() -> list[str]:
    return [pb.ConsumedPolicy.Name(value) for value in _POLICIES if value]
