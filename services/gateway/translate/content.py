"""ContentService's messages <-> core types."""

import math

from driftline.v1 import content_service_pb2 as pb

from services.core.brief import Figure, Measure, Part, Sentence
from services.core.demand import EVERYONE
from services.core.demand_forecast import SeriesForecast, shares
from services.core.periods import Period
from services.core.pooling import F64
from services.gateway.answers import (
    BriefAnswer,
    BriefQuery,
    DemandAnswer,
    DemandBasis,
    DemandQuery,
    Instants,
    NamedCohort,
)
from services.gateway.translate.instants import as_of_now, granularity_to_pb, instant_to_pb

_PARTS = {
    Part.WHO: pb.BRIEF_PART_WHO,
    Part.NEXT: pb.BRIEF_PART_NEXT,
    Part.OVER_SERVED: pb.BRIEF_PART_OVER_SERVED,
    Part.EXAMPLES: pb.BRIEF_PART_EXAMPLES,
    Part.GAP: pb.BRIEF_PART_GAP,
}
_MEASURES = {
    Measure.AUDIENCE: pb.BRIEF_MEASURE_AUDIENCE,
    Measure.VOLUME: pb.BRIEF_MEASURE_VOLUME,
    Measure.SHARE: pb.BRIEF_MEASURE_SHARE,
    Measure.ITEM_COUNT: pb.BRIEF_MEASURE_ITEM_COUNT,
    Measure.ITEM_SHARE: pb.BRIEF_MEASURE_ITEM_SHARE,
    Measure.TREND: pb.BRIEF_MEASURE_TREND,
    Measure.COHORT_USERS: pb.BRIEF_MEASURE_COHORT_USERS,
}


def demand_query_from_pb(request: pb.ForecastTopicDemandRequest, now: Instants) -> DemandQuery:
    """Return the query."""
    return DemandQuery(
        cohort=request.cohort or EVERYONE,
        topic_ids=tuple(request.topic_ids),
        horizons=request.horizon_count,
        history=request.history_count,
        limit=request.page_size,
        as_of=as_of_now(now),
    )


def demand_to_pb(answer: DemandAnswer) -> pb.ForecastTopicDemandResponse:
    """Return the response."""
    share_TP = shares(answer.seen.volume_TP)
    return pb.ForecastTopicDemandResponse(
        topics=[_topic_to_pb(answer, row, share_TP) for row in answer.rows],
        cohorts=[_cohort_to_pb(one) for one in answer.cohorts],
        basis=_basis_to_pb(answer.basis),
    )


def brief_query_from_pb(request: pb.DraftBriefRequest, now: Instants) -> BriefQuery:
    """Return the query."""
    return BriefQuery(topic_id=request.topic_id, cohort=request.cohort, as_of=as_of_now(now))


def brief_to_pb(answer: BriefAnswer) -> pb.DraftBriefResponse:
    """Return the response."""
    return pb.DraftBriefResponse(
        statements=[_sentence_to_pb(one) for one in answer.sentences],
        text=" ".join(one.text for one in answer.sentences),
        basis=_basis_to_pb(answer.basis),
    )


def _topic_to_pb(answer: DemandAnswer, row: int, share_TP: F64) -> pb.TopicDemand:
    newest = answer.basis.release.published.newest
    supply, forecast = answer.supply, answer.forecast
    return pb.TopicDemand(
        topic_id=supply.topic_ids[row],
        name=supply.names[row],
        terms=supply.terms[row],
        item_count=supply.item_counts[row],
        forecasts=[
            pb.DemandForecast(
                period=(newest + horizon).name,
                horizon=horizon,
                audience=_range_to_pb(forecast.audience, row, horizon),
                volume=_range_to_pb(forecast.volume, row, horizon),
                share=_range_to_pb(forecast.share, row, horizon),
            )
            for horizon in answer.horizons
            if not math.isnan(forecast.volume.mean_NH[row, horizon - 1])
        ],
        history=_history_to_pb(answer, row, share_TP, newest),
    )


def _history_to_pb(
    answer: DemandAnswer, row: int, share_TP: F64, newest: Period
) -> list[pb.DemandPeriod]:
    columns = answer.seen.volume_TP.shape[1]
    return [
        pb.DemandPeriod(
            period=(newest + (column + 1 - columns)).name,
            audience=max(int(answer.seen.audience_TP[row, column]), 0),
            volume=max(int(answer.seen.volume_TP[row, column]), 0),
            share=0.0 if math.isnan(share_TP[row, column]) else share_TP[row, column],
        )
        for column in range(max(columns - answer.history, 0), columns)
        if not math.isnan(answer.seen.volume_TP[row, column])
    ]


def _range_to_pb(series: SeriesForecast, row: int, horizon: int) -> pb.DemandRange:
    low_80, high_80, low_95, high_95 = series.bound_NHQ[row, horizon - 1].tolist()
    return pb.DemandRange(
        mean=series.mean_NH[row, horizon - 1],
        low_80=low_80,
        high_80=high_80,
        low_95=low_95,
        high_95=high_95,
        method=series.methods[horizon - 1],
    )


def _cohort_to_pb(one: NamedCohort) -> pb.Cohort:
    return pb.Cohort(
        name=one.name,
        description=one.description,
        least_user_count=one.users,
        is_served=one.users > 0,
    )


def _sentence_to_pb(one: Sentence) -> pb.BriefStatement:
    return pb.BriefStatement(
        part=_PARTS[one.part],
        text=one.text,
        figures=[_figure_to_pb(figure) for figure in one.figures],
        example_titles=one.titles,
    )


def _figure_to_pb(figure: Figure) -> pb.BriefFigure:
    return pb.BriefFigure(
        topic_id=figure.topic_id,
        cohort=figure.cohort,
        measure=_MEASURES[figure.measure],
        value=figure.value,
        low=figure.low,
        high=figure.high,
        first_period=figure.first.name if figure.first else "",
        last_period=figure.last.name if figure.last else "",
    )


def _basis_to_pb(basis: DemandBasis) -> pb.DemandBasis:
    release, terms = basis.release, basis.release.terms
    return pb.DemandBasis(
        granularity=granularity_to_pb(terms.granularity),
        newest_period=release.published.newest.name,
        published_time=instant_to_pb(release.published_time),
        is_stale=basis.is_stale,
        space_id=release.space_id,
        terms=pb.ReleaseTerms(
            epsilon=terms.epsilon,
            event_cap=terms.event_cap,
            least_cohort_users=terms.least_users,
            edition=release.published.edition,
        ),
        cohort=basis.cohort,
    )
