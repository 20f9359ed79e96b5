"""Records <-> stored features of one user: the one place that knows both, free of Polars and Feast.

Features are a mapping from the names of `core/schema.py` to numpy arrays, strings, numbers, tuples
or instants.
Shape suffixes: D = width, H = horizons or half-lives, R = repeat items, P = periods.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from services.core import schema as names
from services.core.activity import Activity
from services.core.burst_everyone import PastBurst, PopulationBursts, UserBursts
from services.core.burst_state import BurstType
from services.core.periods import Period, period_at, period_from_name
from services.core.records import Forecast, InterestVector, Profile, RankState
from services.core.schema import HISTORY_PERIODS, Granularity

Features = Mapping[str, Any]


def features_of_interest(vector: InterestVector) -> dict[str, Any]:
    """Return the features of interest_{g} and interest_{g}_by_period."""
    return {
        names.VEC: vector.vec_D,
        names.MODEL_VERSION: vector.model_version,
        names.EVENT_COUNT: vector.event_count,
        names.PERIOD_START: vector.period.start,
        names.PERIOD_END: vector.period.end,
    }


def interest_of(
    features: Features,
    granularity: Granularity,
    computed_time: datetime,
    known_time: datetime | None = None,
    space_id: str = "",
) -> InterestVector:
    """Return the vector in a row. An online row has no known time: its computed time stands in."""
    return InterestVector(
        vec_D=features[names.VEC],
        period=period_at(granularity, features[names.PERIOD_START]),
        event_count=features[names.EVENT_COUNT],
        model_version=features[names.MODEL_VERSION],
        known_time=known_time or computed_time,
        computed_time=computed_time,
        space_id=space_id,
    )


def features_of_history(vectors: Sequence[InterestVector]) -> dict[str, Any]:
    """Return the features of interest_{g}_history; at least one vector, oldest first."""
    kept = list(vectors)[-HISTORY_PERIODS[vectors[0].period.granularity] :]
    return {
        names.VECS: np.concatenate([vector.vec_D for vector in kept]),
        names.PERIODS: tuple(vector.period.name for vector in kept),
        names.EVENT_COUNTS: tuple(vector.event_count for vector in kept),
        names.MODEL_VERSION: kept[-1].model_version,
    }


def history_of(
    features: Features, granularity: Granularity, computed_time: datetime, space_id: str = ""
) -> list[InterestVector]:
    """Return the vectors in a history row, oldest first, each stamped with the row's times."""
    periods = features[names.PERIODS]
    vecs_PD = features[names.VECS].reshape(len(periods), -1)
    return [
        InterestVector(
            vec_D=vec_D,
            period=period_from_name(granularity, period),
            event_count=count,
            model_version=features[names.MODEL_VERSION],
            known_time=computed_time,
            computed_time=computed_time,
            space_id=space_id,
        )
        for vec_D, period, count in zip(vecs_PD, periods, features[names.EVENT_COUNTS], strict=True)
    ]


def features_of_forecast(forecast: Forecast) -> dict[str, Any]:
    """Return the features of forecast_{g}."""
    return {
        names.MEANS: forecast.means_HD.ravel(),
        names.SCALES: forecast.scales_HD.ravel(),
        names.HORIZONS: forecast.horizons,
        names.MADE_AT: forecast.made_at.name,
        names.FORECASTER: forecast.forecaster,
        names.MODEL_VERSION: forecast.model_version,
    }


def forecast_of(
    features: Features, granularity: Granularity, computed_time: datetime, space_id: str = ""
) -> Forecast:
    """Return the forecast in a row."""
    horizons = tuple(features[names.HORIZONS])
    made_at: Period = period_from_name(granularity, features[names.MADE_AT])
    return Forecast(
        means_HD=features[names.MEANS].reshape(len(horizons), -1),
        scales_HD=features[names.SCALES].reshape(len(horizons), -1),
        horizons=horizons,
        made_at=made_at,
        forecaster=features[names.FORECASTER],
        model_version=features[names.MODEL_VERSION],
        computed_time=computed_time,
        space_id=space_id,
    )


def features_of_rank_state(state: RankState, model_version: str) -> dict[str, Any]:
    """Return the features of rank_state."""
    return {
        names.QUERY_SUMS: state.query_sums_HD.ravel(),
        names.QUERY_WEIGHTS: state.query_weights_H,
        names.ACTIVITY: state.activity_H,
        names.REPEAT_ITEM_IDS: state.repeat_item_ids,
        names.REPEAT_COUNTS: state.repeat_counts_RH.ravel(),
        names.REPEAT_LAST_TIMES: tuple(state.repeat_last_times_R.tolist()),
        names.STATE_TIME: state.state_time,
        names.MODEL_VERSION: model_version,
    }


def rank_state_of(features: Features, space_id: str = "") -> RankState:
    """Return the rank state in a row."""
    half_lives = len(features[names.QUERY_WEIGHTS])
    return RankState(
        query_sums_HD=features[names.QUERY_SUMS].reshape(half_lives, -1),
        query_weights_H=features[names.QUERY_WEIGHTS],
        activity_H=features[names.ACTIVITY],
        repeat_item_ids=tuple(features[names.REPEAT_ITEM_IDS]),
        repeat_counts_RH=features[names.REPEAT_COUNTS].reshape(-1, half_lives),
        repeat_last_times_R=np.asarray(features[names.REPEAT_LAST_TIMES], np.int64),
        state_time=features[names.STATE_TIME],
        space_id=space_id,
    )


def features_of_profile(profile: Profile, model_version: str) -> dict[str, Any]:
    """Return the features of user_profile."""
    return {
        names.LABELS: profile.labels,
        names.SHARES: profile.shares,
        names.RECENT_SHARES: profile.recent_shares,
        names.EVENT_COUNT: profile.event_count,
        names.FIRST_EVENT_TIME: profile.first_event_time,
        names.LAST_EVENT_TIME: profile.last_event_time,
        names.SESSION_COUNT: profile.session_count,
        names.IS_SUSPECTED_BOT: profile.is_suspected_bot,
        names.MODEL_VERSION: model_version,
    }


def profile_of(features: Features) -> Profile:
    """Return the portrait in a row. Its instants are stored to the second."""
    return Profile(
        labels=tuple(features[names.LABELS]),
        shares=tuple(features[names.SHARES]),
        recent_shares=tuple(features[names.RECENT_SHARES]),
        event_count=features[names.EVENT_COUNT],
        first_event_time=features[names.FIRST_EVENT_TIME],
        last_event_time=features[names.LAST_EVENT_TIME],
        session_count=features[names.SESSION_COUNT],
        is_suspected_bot=features[names.IS_SUSPECTED_BOT],
    )


def features_of_activity(activity: Activity, model_version: str) -> dict[str, Any]:
    """Return the features of user_activity."""
    return {
        names.ACTIVITY_ITEM_IDS: activity.item_ids,
        names.ACTIVITY_ITEMS: tuple(activity.item_C.tolist()),
        names.ACTIVITY_WEEKS: tuple(activity.week_C.tolist()),
        names.ACTIVITY_COUNTS: tuple(activity.count_C.tolist()),
        names.WEEKDAY_DAYS: activity.weekday_days,
        names.HOUR_HOURS: activity.hour_hours,
        names.MODEL_VERSION: model_version,
    }


def activity_of(features: Features) -> Activity:
    """Return the activity in a row."""
    return Activity(
        item_ids=tuple(features[names.ACTIVITY_ITEM_IDS]),
        item_C=np.asarray(features[names.ACTIVITY_ITEMS], np.int64),
        week_C=np.asarray(features[names.ACTIVITY_WEEKS], np.int64),
        count_C=np.asarray(features[names.ACTIVITY_COUNTS], np.int64),
        weekday_days=tuple(features[names.WEEKDAY_DAYS]),
        hour_hours=tuple(features[names.HOUR_HOURS]),
    )


def features_of_bursts(known: UserBursts) -> dict[str, Any]:
    """Return the features of bursts_{g} and bursts_{g}_by_period."""
    bursts = known.bursts
    return {
        names.BURST_TYPES: tuple(one.kind.name.lower() for one in bursts),
        names.BURST_TOPICS: tuple(one.name for one in bursts),
        names.BURST_TOPIC_ROWS: tuple(one.topic for one in bursts),
        names.BURST_FIRST_PERIODS: tuple(one.first.name for one in bursts),
        names.BURST_LAST_PERIODS: tuple(one.last.name for one in bursts),
        names.BURST_SHARES: tuple(one.share for one in bursts),
        names.IS_LASTING: any(one.is_lasting for one in bursts),
        names.LAST_PERIOD: known.known_at.name,
        names.MODEL_VERSION: known.model_version,
    }


def bursts_of(features: Features, granularity: Granularity) -> UserBursts:
    """Return the bursts in a row; what lasts is the newest one that has a topic."""
    columns = zip(
        features[names.BURST_TYPES],
        features[names.BURST_TOPICS],
        features[names.BURST_TOPIC_ROWS],
        features[names.BURST_FIRST_PERIODS],
        features[names.BURST_LAST_PERIODS],
        features[names.BURST_SHARES],
        strict=True,
    )
    made: list[PastBurst] = []
    is_open = bool(features[names.IS_LASTING])
    for kind, name, topic, first, last, share in columns:
        burst = PastBurst(
            kind=BurstType[kind.upper()],
            first=period_from_name(granularity, first),
            last=period_from_name(granularity, last),
            topic=topic,
            name=name,
            share=share,
            is_lasting=is_open and topic >= 0,
        )
        is_open = is_open and not burst.is_lasting
        made.append(burst)
    return UserBursts(
        bursts=tuple(made),
        model_version=features[names.MODEL_VERSION],
        known_at=period_from_name(granularity, features[names.LAST_PERIOD]),
    )


def features_of_population(
    known: PopulationBursts, names_G: Sequence[str], known_at: Period
) -> dict[str, Any]:
    """Return the features of population_bursts_{g}: one entry a topic and period.

    Args:
        known: the rises.
        names_G: what topics are called; may be empty.
        known_at: the close at which they became known.
    """
    rises = [
        (period, topic)
        for period in sorted(known.risen, reverse=True)
        for topic in sorted(known.risen[period])
    ]
    return {
        names.RISEN_PERIODS: tuple(period.name for period, _ in rises),
        names.RISEN_TOPICS: tuple(names_G[topic] if names_G else "" for _, topic in rises),
        names.RISEN_TOPIC_ROWS: tuple(topic for _, topic in rises),
        names.LAST_PERIOD: known_at.name,
        names.MODEL_VERSION: known.model_version,
    }


def population_of(features: Features, granularity: Granularity) -> PopulationBursts:
    """Return the rises in a row."""
    risen: dict[Period, set[int]] = {}
    for name, topic in zip(
        features[names.RISEN_PERIODS], features[names.RISEN_TOPIC_ROWS], strict=True
    ):
        risen.setdefault(period_from_name(granularity, name), set()).add(topic)
    return PopulationBursts(risen=risen, model_version=features[names.MODEL_VERSION])
