"""From ContentService's replies to the dataclasses of `content_types.py`."""

from . import content_types as c
from ._replies import granularity, instant
from .v1 import content_service_pb2 as pb

_PART = {
    pb.BRIEF_PART_WHO: c.BriefPart.WHO,
    pb.BRIEF_PART_NEXT: c.BriefPart.NEXT,
    pb.BRIEF_PART_OVER_SERVED: c.BriefPart.OVER_SERVED,
    pb.BRIEF_PART_EXAMPLES: c.BriefPart.EXAMPLES,
    pb.BRIEF_PART_GAP: c.BriefPart.GAP,
}
_MEASURE = {
    pb.BRIEF_MEASURE_AUDIENCE: c.BriefMeasure.AUDIENCE,
    pb.BRIEF_MEASURE_VOLUME: c.BriefMeasure.VOLUME,
    pb.BRIEF_MEASURE_SHARE: c.BriefMeasure.SHARE,
    pb.BRIEF_MEASURE_ITEM_COUNT: c.BriefMeasure.ITEM_COUNT,
    pb.BRIEF_MEASURE_ITEM_SHARE: c.BriefMeasure.ITEM_SHARE,
    pb.BRIEF_MEASURE_TREND: c.BriefMeasure.TREND,
    pb.BRIEF_MEASURE_COHORT_USERS: c.BriefMeasure.COHORT_USERS,
}


def demand(reply: pb.ForecastTopicDemandResponse) -> c.Demand:
    return c.Demand(
        topics=tuple(_topic(one) for one in reply.topics),
        cohorts=tuple(
            c.Cohort(
                name=one.name,
                description=one.description,
                least_user_count=one.least_user_count,
                is_served=one.is_served,
            )
            for one in reply.cohorts
        ),
        basis=_basis(reply.basis),
    )


def brief(reply: pb.DraftBriefResponse) -> c.Brief:
    return c.Brief(
        statements=tuple(
            c.BriefStatement(
                part=_PART.get(one.part, c.BriefPart.UNKNOWN),
                text=one.text,
                figures=tuple(_figure(figure) for figure in one.figures),
                example_titles=tuple(one.example_titles),
            )
            for one in reply.statements
        ),
        text=reply.text,
        basis=_basis(reply.basis),
    )


def _topic(one: pb.TopicDemand) -> c.TopicDemand:
    return c.TopicDemand(
        topic_id=one.topic_id,
        name=one.name,
        terms=tuple(one.terms),
        item_count=one.item_count,
        forecasts=tuple(
            c.DemandStep(
                period=step.period,
                horizon=step.horizon,
                audience=_range(step.audience),
                volume=_range(step.volume),
                share=_range(step.share),
            )
            for step in one.forecasts
        ),
        history=tuple(
            c.DemandPeriod(
                period=past.period, audience=past.audience, volume=past.volume, share=past.share
            )
            for past in one.history
        ),
    )


def _range(one: pb.DemandRange) -> c.DemandRange:
    return c.DemandRange(
        mean=one.mean,
        low_80=one.low_80,
        high_80=one.high_80,
        low_95=one.low_95,
        high_95=one.high_95,
        method=one.method,
    )


def _figure(one: pb.BriefFigure) -> c.BriefFigure:
    return c.BriefFigure(
        topic_id=one.topic_id,
        cohort=one.cohort,
        measure=_MEASURE.get(one.measure, c.BriefMeasure.UNKNOWN),
        value=one.value,
        low=one.low if one.HasField("low") else None,
        high=one.high if one.HasField("high") else None,
        first_period=one.first_period,
        last_period=one.last_period,
    )


def _basis(basis: pb.DemandBasis) -> c.DemandBasis:
    return c.DemandBasis(
        granularity=granularity(basis.granularity),
        newest_period=basis.newest_period,
        published_time=instant(basis, "published_time"),
        is_stale=basis.is_stale,
        space_id=basis.space_id,
        terms=c.ReleaseTerms(
            epsilon=basis.terms.epsilon,
            event_cap=basis.terms.event_cap,
            least_cohort_users=basis.terms.least_cohort_users,
            edition=basis.terms.edition,
        ),
        cohort=basis.cohort,
    )
