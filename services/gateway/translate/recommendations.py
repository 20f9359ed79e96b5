"""RecommendationService's messages <-> core types. Shape suffixes: K = items kept."""

import math
from datetime import UTC, datetime

from driftline.v1 import recommendation_service_pb2 as pb

from services.core.errors import InvalidArgument
from services.core.reasons import Citation
from services.core.recommend import Consumed, Fallback, Filters
from services.gateway.answers import (
    Instants,
    RecommendAnswer,
    RecommendAnswers,
    RecommendManyQuery,
    RecommendQuery,
    SimilarAnswer,
    SimilarQuery,
    Wishes,
)
from services.gateway.translate.instants import (
    as_of_from_pb,
    as_of_now,
    basis_to_pb,
    instant_to_pb,
)
from services.store.ports import Catalogue

DEFAULT_PAGE_SIZE = 20

_POLICIES = {
    pb.CONSUMED_POLICY_UNSPECIFIED: Consumed.KEEP,
    pb.CONSUMED_POLICY_KEEP: Consumed.KEEP,
    pb.CONSUMED_POLICY_DROP: Consumed.DROP,
    pb.CONSUMED_POLICY_ONLY: Consumed.ONLY,
}
_FALLBACKS = {
    Fallback.NONE: pb.FALLBACK_KIND_UNSPECIFIED,
    Fallback.DECLARED_CATEGORIES: pb.FALLBACK_KIND_DECLARED_CATEGORIES,
    Fallback.POPULAR: pb.FALLBACK_KIND_POPULAR,
}


def recommend_query_from_pb(request: pb.RecommendItemsRequest, now: Instants) -> RecommendQuery:
    """Return the query.

    Raises:
        InvalidArgument: the policy is unknown, an item is both allowed and excluded, or an instant
            lies in the future.
    """
    return RecommendQuery(
        user_id=request.user_id,
        wishes=_wishes(request, ""),
        as_of=as_of_from_pb(request.as_of, now),
    )


def many_query_from_pb(
    request: pb.BatchRecommendItemsRequest | pb.ExportRecommendationsRequest, now: Instants
) -> RecommendManyQuery:
    """Return the query of a batch or an export. Raises as `recommend_query_from_pb`."""
    return RecommendManyQuery(
        user_ids=tuple(request.user_ids),
        wishes=_wishes(request.options, "options."),
        as_of=as_of_now(now),
    )


def recommendations_to_pb(answer: RecommendAnswers) -> pb.RecommendItemsResponse:
    """Return the response to one user; the repeat part of an item never had is 0."""
    (one,) = answer.answers
    return pb.RecommendItemsResponse(
        items=_scored_items(one),
        basis=basis_to_pb(one.basis),
        fallback=_FALLBACKS[one.items.fallback],
        unmatched=answer.unmatched,
    )


def many_to_pb(answer: RecommendAnswers) -> pb.BatchRecommendItemsResponse:
    """Return the response to a batch."""
    return pb.BatchRecommendItemsResponse(
        users=map(_user_to_pb, answer.answers), unmatched=answer.unmatched
    )


def export_to_pb(answer: RecommendAnswers) -> pb.ExportRecommendationsResponse:
    """Return one part of an export."""
    return pb.ExportRecommendationsResponse(users=map(_user_to_pb, answer.answers))


def similar_query_from_pb(request: pb.FindSimilarItemsRequest, now: Instants) -> SimilarQuery:
    """Return the query."""
    return SimilarQuery(
        item_ids=(request.item_id, *request.other_item_ids),
        limit=request.page_size or DEFAULT_PAGE_SIZE,
        filters=Filters(categories=tuple(request.categories)),
        as_of=as_of_now(now),
    )


def similar_to_pb(answer: SimilarAnswer) -> pb.FindSimilarItemsResponse:
    """Return the response."""
    found = zip(answer.items.row_K.tolist(), answer.items.cosine_K.tolist(), strict=True)
    return pb.FindSimilarItemsResponse(
        items=[_item(answer.catalogue, row, cosine) for row, cosine in found],
        basis=basis_to_pb(answer.basis),
    )


def _wishes(asked: pb.RecommendItemsRequest | pb.RecommendationOptions, within: str) -> Wishes:
    consumed = _POLICIES.get(asked.consumed_policy)
    if consumed is None:
        raise InvalidArgument(
            f"{within}consumed_policy",
            f"must be one of {', '.join(_names())}, is {asked.consumed_policy}",
        )
    both = sorted(set(asked.allowed_item_ids) & set(asked.excluded_item_ids))
    if both:
        raise InvalidArgument(
            f"{within}allowed_item_ids",
            f"{both[0]!r} is in excluded_item_ids too; take it out of one of them",
        )
    return Wishes(
        limit=asked.page_size or DEFAULT_PAGE_SIZE,
        filters=Filters(
            consumed=consumed,
            categories=tuple(asked.categories),
            allowed_item_ids=tuple(asked.allowed_item_ids),
            excluded_item_ids=tuple(asked.excluded_item_ids),
            declared_categories=tuple(asked.declared_categories),
        ),
        diversity=asked.diversity,
        exploration_share=asked.exploration_share,
        exploration_seed=asked.exploration_seed,
        has_reasons=not asked.omit_reasons,
    )


def _user_to_pb(answer: RecommendAnswer) -> pb.UserRecommendations:
    return pb.UserRecommendations(
        user_id=answer.user_id,
        items=_scored_items(answer),
        basis=basis_to_pb(answer.basis),
        fallback=_FALLBACKS[answer.items.fallback],
    )


def _scored_items(answer: RecommendAnswer) -> list[pb.ScoredItem]:
    items = answer.items
    columns = zip(
        items.row_K.tolist(),
        items.score_K.tolist(),
        items.interest_K.tolist(),
        items.popularity_K.tolist(),
        items.repeat_K.tolist(),
        items.novelty_K.tolist(),
        items.is_explored_K.tolist(),
        items.citations_K,
        strict=True,
    )
    made = []
    for row, score, interest, popularity, repeat, novelty, is_explored, citations in columns:
        item = _item(answer.catalogue, row, score)
        item.parts.interest, item.parts.popularity = interest, popularity
        item.parts.repeat = repeat if math.isfinite(repeat) else 0.0
        item.parts.novelty, item.is_exploration = novelty, is_explored
        if citations:
            cited = [_cited(answer.catalogue, citation) for citation in citations]
            item.reason.cited_items.extend(cited)
        made.append(item)
    return made


def _cited(catalogue: Catalogue, citation: Citation) -> pb.CitedItem:
    return pb.CitedItem(
        item_id=catalogue.item_ids[citation.row],
        title=catalogue.titles[citation.row],
        effect=citation.effect,
        week_count=citation.week_count,
        last_time=instant_to_pb(datetime.fromtimestamp(citation.last_time, UTC)),
    )


def _item(catalogue: Catalogue, row: int, score: float) -> pb.ScoredItem:
    return pb.ScoredItem(
        item_id=catalogue.item_ids[row],
        title=catalogue.titles[row],
        categories=catalogue.categories[row],
        score=score,
    )


def _names() -> list[str]:
    return [pb.ConsumedPolicy.Name(value) for value in _POLICIES if value]
