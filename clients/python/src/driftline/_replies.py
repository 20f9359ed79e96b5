"""From reply messages to the dataclasses of `types.py`: the only place that reads replies."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from . import privacy_types as privacy
from . import types as t
from .errors import SpaceMismatchError
from .promotions import Comparison, Promotion
from .rejects import Reject
from .v1 import (
    event_service_pb2,
    interest_service_pb2,
    model_service_pb2,
    privacy_service_pb2,
    profile_service_pb2,
    recommendation_service_pb2,
    vector_pb2,
)
from .vectors import Vector, values_from_bytes

RankedReply: TypeAlias = (
    recommendation_service_pb2.RecommendItemsResponse
    | recommendation_service_pb2.FindSimilarItemsResponse
)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_GRANULARITY = {
    vector_pb2.GRANULARITY_DAY: t.Granularity.DAY,
    vector_pb2.GRANULARITY_MONTH: t.Granularity.MONTH,
}
_TREND = {
    profile_service_pb2.TOPIC_TREND_RISING: t.TopicTrend.RISING,
    profile_service_pb2.TOPIC_TREND_STEADY: t.TopicTrend.STEADY,
    profile_service_pb2.TOPIC_TREND_FADING: t.TopicTrend.FADING,
}
_STANDING = {
    profile_service_pb2.TOPIC_STANDING_CORE: t.TopicStanding.CORE,
    profile_service_pb2.TOPIC_STANDING_FLING: t.TopicStanding.FLING,
}
_BURST = {
    profile_service_pb2.BURST_KIND_PERSONAL: t.BurstKind.PERSONAL,
    profile_service_pb2.BURST_KIND_POPULATION: t.BurstKind.POPULATION,
    profile_service_pb2.BURST_KIND_SEASONAL: t.BurstKind.SEASONAL,
    profile_service_pb2.BURST_KIND_AUTOMATED: t.BurstKind.AUTOMATED,
}
_WISH = {
    profile_service_pb2.TOPIC_WISH_NOT_INTERESTED: t.TopicWish.NOT_INTERESTED,
    profile_service_pb2.TOPIC_WISH_MORE: t.TopicWish.MORE,
}
_FALLBACK = {
    recommendation_service_pb2.FALLBACK_KIND_DECLARED_CATEGORIES: (
        t.FallbackKind.DECLARED_CATEGORIES
    ),
    recommendation_service_pb2.FALLBACK_KIND_POPULAR: t.FallbackKind.POPULAR,
}
_STAGE = {
    model_service_pb2.MODEL_STAGE_CANDIDATE: t.ModelStage.CANDIDATE,
    model_service_pb2.MODEL_STAGE_LIVE: t.ModelStage.LIVE,
    model_service_pb2.MODEL_STAGE_PREVIOUS: t.ModelStage.PREVIOUS,
}


def written(
    reply: event_service_pb2.RecordEventsResponse | event_service_pb2.UpsertItemsResponse,
    before: t.WriteResult,
    sent: int,
) -> t.WriteResult:
    """Return what this part of a write and the parts before it stored; `sent` is how much they had."""
    refused: tuple[int, ...] = ()
    if isinstance(reply, event_service_pb2.RecordEventsResponse):
        count = reply.event_count
        refused = tuple(sent + place for place in reply.refused_positions)
    else:
        count = reply.item_count
    return t.WriteResult(
        count=before.count + count,
        ingest_time=instant(reply, "ingest_time"),
        refused_positions=before.refused_positions + refused,
    )


def interest(user_id: str, reply: interest_service_pb2.GetInterestResponse) -> t.Interest:
    return t.Interest(
        **_period_fields(reply.interest), user_id=user_id, basis=basis_from_pb(reply.basis)
    )


def interests(
    replies: Sequence[interest_service_pb2.BatchGetInterestsResponse],
) -> t.InterestBatch:
    """Join the parts of a batch.

    Raises:
        SpaceMismatchError: the live model changed between two calls.
    """
    return t.InterestBatch(
        interests={
            one.user_id: period_vector(one.interest) for part in replies for one in part.interests
        },
        missing_user_ids=tuple(u for part in replies for u in part.missing_user_ids),
        basis=merge([basis_from_pb(part.basis) for part in replies]) if replies else None,
    )


def trajectory(
    user_id: str,
    granularity: t.Granularity | str,
    replies: Sequence[interest_service_pb2.GetTrajectoryResponse],
    limit: int | None,
) -> t.Trajectory:
    """Join pages, newest page first, into one trajectory, oldest period first.

    Raises:
        SpaceMismatchError: the live model changed between two pages.
    """
    vectors = [period_vector(one) for page in reversed(replies) for one in page.interests]
    return t.Trajectory(
        user_id=user_id,
        granularity=t.Granularity(granularity),
        interests=tuple(vectors[-limit:] if limit else vectors),
        basis=merge([basis_from_pb(page.basis) for page in replies]),
    )


def forecast(
    user_id: str,
    granularity: t.Granularity | str,
    reply: interest_service_pb2.GetForecastResponse,
) -> t.Forecast:
    return t.Forecast(
        user_id=user_id,
        granularity=t.Granularity(granularity),
        steps=tuple(
            t.ForecastStep(
                period=one.period,
                horizon=one.horizon,
                mean=_vector(one.mean),
                scale=values_from_bytes(one.scale_values),
            )
            for one in reply.forecasts
        ),
        forecaster=reply.forecaster,
        made_time=instant(reply, "made_time"),
        basis=basis_from_pb(reply.basis),
    )


def ranked_items(
    reply: RankedReply,
) -> t.RankedItems:
    if isinstance(reply, recommendation_service_pb2.FindSimilarItemsResponse):
        return t.RankedItems(
            items=tuple(_scored_item(one) for one in reply.items), basis=basis_from_pb(reply.basis)
        )
    return _recommended(reply, tuple(reply.unmatched))


def many_ranked_items(
    replies: Iterable[recommendation_service_pb2.BatchRecommendItemsResponse],
) -> dict[str, t.RankedItems]:
    return {
        one.user_id: _recommended(one, tuple(reply.unmatched))
        for reply in replies
        for one in reply.users
    }


def exported(
    part: recommendation_service_pb2.ExportRecommendationsResponse,
) -> list[tuple[str, t.RankedItems]]:
    return [(one.user_id, _recommended(one, ())) for one in part.users]


def _recommended(
    reply: recommendation_service_pb2.RecommendItemsResponse
    | recommendation_service_pb2.UserRecommendations,
    unmatched: tuple[str, ...],
) -> t.RankedItems:
    return t.RankedItems(
        items=tuple(_scored_item(one) for one in reply.items),
        basis=basis_from_pb(reply.basis),
        fallback=_FALLBACK.get(reply.fallback, t.FallbackKind.NONE),
        unmatched=unmatched,
    )


def profile(user_id: str, reply: profile_service_pb2.GetProfileResponse) -> t.Profile:
    return t.Profile(
        user_id=user_id,
        interests=tuple(
            t.NamedInterest(label=one.label, share=one.share, recent_share=one.recent_share)
            for one in reply.interests
        ),
        event_count=reply.event_count,
        first_event_time=instant(reply, "first_event_time"),
        last_event_time=instant(reply, "last_event_time"),
        session_count=reply.session_count,
        is_suspected_bot=reply.is_suspected_bot,
        basis=basis_from_pb(reply.basis),
        topics=tuple(_topic(one) for one in reply.topics),
        pattern=_pattern(reply.pattern) if reply.HasField("pattern") else None,
        summary=reply.summary,
        corrections=corrections(reply),
        bursts=tuple(_burst(one) for one in reply.bursts),
    )


def corrections(
    reply: profile_service_pb2.GetProfileResponse | profile_service_pb2.CorrectProfileResponse,
) -> tuple[t.TopicCorrection, ...]:
    return tuple(
        t.TopicCorrection(
            topic_id=one.topic_id,
            name=one.name,
            wish=_WISH.get(one.wish, t.TopicWish.NONE),
            wish_time=instant(one, "wish_time"),
        )
        for one in reply.corrections
    )


def _burst(one: profile_service_pb2.InterestBurst) -> t.InterestBurst:
    return t.InterestBurst(
        first_week=one.first_week,
        last_week=one.last_week,
        kind=_BURST.get(one.kind, t.BurstKind.UNKNOWN),
        topic_name=one.topic_name,
        peak_share=one.peak_share,
        is_lasting=one.is_lasting,
    )


def _topic(one: profile_service_pb2.TopicInterest) -> t.TopicInterest:
    return t.TopicInterest(
        topic_id=one.topic_id,
        name=one.name,
        terms=tuple(one.terms),
        categories=tuple(one.categories),
        weight=one.weight,
        weight_low=one.weight_low,
        weight_high=one.weight_high,
        evidence=_evidence(one.evidence) if one.HasField("evidence") else None,
        trend=_TREND.get(one.trend, t.TopicTrend.UNKNOWN),
        trend_evidence=_evidence(one.trend_evidence) if one.HasField("trend_evidence") else None,
        standing=_STANDING.get(one.standing, t.TopicStanding.NEITHER),
        standing_evidence=(
            _evidence(one.standing_evidence) if one.HasField("standing_evidence") else None
        ),
        change=_change(one.change) if one.HasField("change") else None,
        wish=_WISH.get(one.wish, t.TopicWish.NONE),
    )


def _evidence(one: profile_service_pb2.Evidence) -> t.Evidence:
    return t.Evidence(
        items=tuple(t.EvidenceItem(item_id=item.item_id, title=item.title) for item in one.items),
        first_week=one.first_week,
        last_week=one.last_week,
        event_count=one.event_count,
    )


def _change(one: profile_service_pb2.ChangePoint) -> t.ChangePoint:
    return t.ChangePoint(
        week=one.week,
        share_before=one.share_before,
        share_after=one.share_after,
        evidence=_evidence(one.evidence),
    )


def _pattern(one: profile_service_pb2.ActivityPattern) -> t.ActivityPattern:
    return t.ActivityPattern(
        active_week_count=one.active_week_count,
        week_count=one.week_count,
        events_per_active_week=one.events_per_active_week,
        busiest_iso_weekday=one.busiest_iso_weekday or None,
        busiest_hour=one.busiest_hour if one.HasField("busiest_hour") else None,
        evidence=_evidence(one.evidence),
    )


def erasure(reply: privacy_service_pb2.EraseUserResponse) -> privacy.Erasure:
    return privacy.Erasure(
        erasure_id=reply.erasure_id, requested_time=instant(reply, "requested_time")
    )


def erasure_receipt(reply: privacy_service_pb2.GetErasureResponse) -> privacy.ErasureReceipt:
    made = reply.receipt
    return privacy.ErasureReceipt(
        erasure_id=made.erasure_id,
        state=_erasure_state(made.state),
        requested_time=instant(made, "requested_time"),
        removed_time=instant(made, "removed_time"),
        completed_time=instant(made, "completed_time"),
        places=tuple(
            privacy.ErasedPlace(
                name=place.name,
                removed_count=place.removed_count,
                state=_erasure_state(place.state),
                pending_reason=place.pending_reason,
                gone_by_time=instant(place, "gone_by_time"),
            )
            for place in made.places
        ),
        predated_model_count=made.predated_model_count,
        signed_json=made.signed_json,
        signature=made.signature,
        key_id=made.key_id,
    )


def user_records(reply: privacy_service_pb2.ExportUserResponse) -> list[privacy.UserRecord]:
    return [
        privacy.UserRecord(
            source=record.source,
            time=instant(record, "time"),
            content=json.loads(record.content_json),
        )
        for record in reply.records
    ]


def _erasure_state(state: int) -> privacy.ErasureState:
    is_done = state == privacy_service_pb2.ERASURE_STATE_DONE
    return privacy.ErasureState.DONE if is_done else privacy.ErasureState.PENDING


def rejects(pages: Iterable[event_service_pb2.ListRejectsResponse]) -> tuple[Reject, ...]:
    return tuple(
        Reject(
            source=one.source,
            line=one.line,
            reason=one.reason,
            event_id=one.event_id,
            user_id=one.user_id,
            excerpt=one.excerpt,
            ingest_time=instant(one, "ingest_time"),
        )
        for page in pages
        for one in page.rejects
    )


def models(pages: Iterable[model_service_pb2.ListModelsResponse]) -> tuple[t.Model, ...]:
    return tuple(_model(one) for page in pages for one in page.models)


def promotion(reply: model_service_pb2.PromoteModelResponse) -> Promotion:
    said = reply.comparison
    return Promotion(
        model=_model(reply.model),
        previous_model_version=reply.previous_model_version,
        comparison=Comparison(
            live_model_version=said.live_model_version,
            data_sha256=said.data_sha256,
            split=said.split,
            figure=said.figure,
            user_count=said.user_count,
            candidate_value=said.candidate_value,
            live_value=said.live_value,
            gain=said.gain,
            gain_low=said.gain_low,
            gain_high=said.gain_high,
            learned_from_answers=tuple(said.learned_from_answers),
        )
        if reply.HasField("comparison")
        else None,
    )


def basis_from_pb(basis: vector_pb2.AnswerBasis) -> t.Basis:
    personal = basis.kind == vector_pb2.BASIS_KIND_PERSONAL
    return t.Basis(
        kind=t.BasisKind.PERSONAL if personal else t.BasisKind.FALLBACK,
        as_of_event_time=instant(basis, "as_of_event_time"),
        as_of_ingest_time=instant(basis, "as_of_ingest_time"),
        model_version=basis.model_version,
        space_id=basis.space_id,
        is_stale=basis.is_stale,
        input_age=basis.input_age.ToTimedelta() if basis.HasField("input_age") else None,
    )


def merge(bases: Sequence[t.Basis]) -> t.Basis:
    """Return what an answer of several calls rests on: the weakest of each promise."""
    merged = bases[0]
    for other in bases[1:]:
        if merged.space_id and other.space_id and merged.space_id != other.space_id:
            raise SpaceMismatchError(
                "the live model changed between two parts of this call; call again",
                expected_space_id=merged.space_id,
                actual_space_id=other.space_id,
            )
        fallback = merged.is_fallback or other.is_fallback
        merged = replace(
            merged,
            kind=t.BasisKind.FALLBACK if fallback else t.BasisKind.PERSONAL,
            as_of_event_time=_least(merged.as_of_event_time, other.as_of_event_time),
            as_of_ingest_time=_least(merged.as_of_ingest_time, other.as_of_ingest_time),
            space_id=merged.space_id or other.space_id,
            model_version=merged.model_version or other.model_version,
            is_stale=merged.is_stale or other.is_stale,
        )
    return merged


def period_vector(message: vector_pb2.InterestVector) -> t.PeriodVector:
    return t.PeriodVector(**_period_fields(message))


def granularity(value: vector_pb2.Granularity.ValueType) -> t.Granularity:
    return _GRANULARITY.get(value, t.Granularity.WEEK)


def instant(message: Any, field: str) -> datetime | None:
    """Return a timestamp field as an aware UTC datetime; None where it is unset."""
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    return _instant_at(stamp.seconds, stamp.nanos)


# The periods of a trajectory have the same few bounds for every user; ToDatetime takes four times as long.
@lru_cache(maxsize=4096)
def _instant_at(seconds: int, nanos: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)


def _period_fields(message: vector_pb2.InterestVector) -> dict[str, Any]:
    return {
        "vector": _vector(message.vector),
        "granularity": granularity(message.granularity),
        "period": message.period,
        "period_start": instant(message, "period_start_time"),
        "period_end": instant(message, "period_end_time"),
        "event_count": message.event_count,
        "computed_time": instant(message, "computed_time"),
    }


def _vector(message: vector_pb2.Vector) -> Vector:
    return Vector.from_bytes(message.space_id, message.values)


def _scored_item(message: recommendation_service_pb2.ScoredItem) -> t.ScoredItem:
    parts = message.parts
    return t.ScoredItem(
        item_id=message.item_id,
        title=message.title,
        categories=tuple(message.categories),
        score=message.score,
        parts=t.ScoreParts(
            interest=parts.interest,
            popularity=parts.popularity,
            repeat=parts.repeat,
            novelty=parts.novelty,
        )
        if message.HasField("parts")
        else None,
        is_exploration=message.is_exploration,
        cited_items=tuple(
            t.CitedItem(
                item_id=one.item_id,
                title=one.title,
                effect=one.effect,
                week_count=one.week_count,
                last_time=instant(one, "last_time"),
            )
            for one in message.reason.cited_items
        ),
    )


def _model(message: model_service_pb2.Model) -> t.Model:
    return t.Model(
        model_version=message.model_version,
        space_id=message.space_id,
        stage=_STAGE.get(message.stage, t.ModelStage.UNUSED),
        trained_time=instant(message, "trained_time"),
        data_sha256=message.data_sha256,
        trained_until_time=instant(message, "trained_until_time"),
        metrics={one.name: one.value for one in message.metrics},
    )


def _least(a: datetime | None, b: datetime | None) -> datetime | None:
    return min(a, b) if a and b else a or b
