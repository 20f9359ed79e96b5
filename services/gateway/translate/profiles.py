"""ProfileService's messages <-> core types."""

from collections.abc import Mapping

from driftline.v1 import profile_service_pb2 as pb

from services.core.burst_everyone import PastBurst
from services.core.burst_state import BurstType
from services.core.corrections import Wish
from services.core.errors import InvalidArgument
from services.core.periods import Period
from services.core.portrait import Change, Evidence, Pattern, Standing, TopicInterest, Trend
from services.core.schema import Granularity
from services.gateway.answers import (
    CorrectAnswer,
    CorrectQuery,
    Instants,
    NamedCorrection,
    ProfileAnswer,
    ProfileQuery,
)
from services.gateway.translate.instants import as_of_from_pb, basis_to_pb, instant_to_pb

DEFAULT_PAGE_SIZE = 10
_TRENDS = {
    Trend.UNKNOWN: pb.TOPIC_TREND_UNSPECIFIED,
    Trend.RISING: pb.TOPIC_TREND_RISING,
    Trend.STEADY: pb.TOPIC_TREND_STEADY,
    Trend.FADING: pb.TOPIC_TREND_FADING,
}
_STANDINGS = {
    Standing.NEITHER: pb.TOPIC_STANDING_UNSPECIFIED,
    Standing.CORE: pb.TOPIC_STANDING_CORE,
    Standing.FLING: pb.TOPIC_STANDING_FLING,
}
_BURST_KINDS = {
    BurstType.NONE: pb.BURST_KIND_UNSPECIFIED,
    BurstType.PERSONAL: pb.BURST_KIND_PERSONAL,
    BurstType.POPULATION: pb.BURST_KIND_POPULATION,
    BurstType.SEASONAL: pb.BURST_KIND_SEASONAL,
    BurstType.AUTOMATED: pb.BURST_KIND_AUTOMATED,
}

_WISHES = {Wish.NOT_INTERESTED: pb.TOPIC_WISH_NOT_INTERESTED, Wish.MORE: pb.TOPIC_WISH_MORE}
_WISH_OF = {number: wish for wish, number in _WISHES.items()} | {pb.TOPIC_WISH_NONE: None}


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
        topics=[_topic_to_pb(one, answer.titles) for one in answer.portrait.interests],
        pattern=_pattern_to_pb(answer.portrait.pattern, answer.titles),
        summary=answer.summary,
        corrections=[_correction_to_pb(one) for one in answer.corrections],
        bursts=[_burst_to_pb(one) for one in answer.bursts],
    )


def correct_query_from_pb(request: pb.CorrectProfileRequest, now: Instants) -> CorrectQuery:
    """Return the query. Raises InvalidArgument where no wish is given."""
    if request.wish not in _WISH_OF:
        raise InvalidArgument("wish", "say what the user wants: MORE, NOT_INTERESTED or NONE")
    return CorrectQuery(
        user_id=request.user_id,
        topic_id=request.topic_id,
        wish=_WISH_OF[request.wish],
        made_time=now.ingest_time,
    )


def corrected_to_pb(answer: CorrectAnswer) -> pb.CorrectProfileResponse:
    """Return the response."""
    return pb.CorrectProfileResponse(
        corrections=[_correction_to_pb(one) for one in answer.corrections]
    )


def _correction_to_pb(one: NamedCorrection) -> pb.TopicCorrection:
    return pb.TopicCorrection(
        topic_id=one.correction.topic_id,
        name=one.name,
        wish=_WISHES[one.correction.wish],
        wish_time=instant_to_pb(one.correction.made_time),
    )


def _burst_to_pb(one: PastBurst) -> pb.InterestBurst:
    return pb.InterestBurst(
        first_week=one.first.name,
        last_week=one.last.name,
        kind=_BURST_KINDS[one.kind],
        topic_name=one.name,
        peak_share=one.share,
        is_lasting=one.is_lasting,
    )


def _topic_to_pb(one: TopicInterest, titles: Mapping[str, str]) -> pb.TopicInterest:
    return pb.TopicInterest(
        topic_id=one.topic_id,
        name=one.name,
        terms=one.terms,
        categories=one.categories,
        weight=one.weight,
        weight_low=one.weight_low,
        weight_high=one.weight_high,
        evidence=_evidence_to_pb(one.evidence, titles),
        trend=_TRENDS[one.trend],
        trend_evidence=_evidence_to_pb(one.trend_evidence, titles),
        standing=_STANDINGS[one.standing],
        standing_evidence=_evidence_to_pb(one.standing_evidence, titles),
        change=_change_to_pb(one.change, titles),
        wish=pb.TOPIC_WISH_MORE if one.is_wanted else pb.TOPIC_WISH_UNSPECIFIED,
    )


def _evidence_to_pb(evidence: Evidence | None, titles: Mapping[str, str]) -> pb.Evidence | None:
    if evidence is None:
        return None
    return pb.Evidence(
        items=[
            pb.EvidenceItem(item_id=item_id, title=titles.get(item_id, ""))
            for item_id in evidence.item_ids
        ],
        first_week=_week(evidence.first_week),
        last_week=_week(evidence.last_week),
        event_count=evidence.event_count,
    )


def _change_to_pb(change: Change | None, titles: Mapping[str, str]) -> pb.ChangePoint | None:
    if change is None:
        return None
    return pb.ChangePoint(
        week=_week(change.week),
        share_before=change.share_before,
        share_after=change.share_after,
        evidence=_evidence_to_pb(change.evidence, titles),
    )


def _pattern_to_pb(pattern: Pattern | None, titles: Mapping[str, str]) -> pb.ActivityPattern | None:
    if pattern is None:
        return None
    return pb.ActivityPattern(
        active_week_count=pattern.active_weeks,
        week_count=pattern.weeks,
        events_per_active_week=pattern.events_per_active_week,
        busiest_iso_weekday=0 if pattern.weekday is None else pattern.weekday + 1,
        busiest_hour=pattern.day_part_hour,
        evidence=_evidence_to_pb(pattern.evidence, titles),
    )


def _week(ordinal: int) -> str:
    return Period(Granularity.WEEK, ordinal).name
