"""Fills the report's parts from what the processes answered: one household, and the proof of the path."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.request import urlopen

import numpy as np
import polars as pl
from driftline import Client, Forecast, Interest, Profile, RankedItems, Trajectory

from services.core.periods import period_from_name
from services.core.records import F32
from services.core.schema import (
    CATEGORIES,
    DEFAULT_TENANT,
    EVENT_TIME,
    HORIZONS,
    ITEM_ID,
    TEXT,
    USER_ID,
    Granularity,
    by_period_view,
    forecast_view,
)
from services.demo.report import (
    Bought,
    PathProof,
    Recommended,
    ServeCalls,
    UserStory,
    gateway_calls,
)
from services.local import LocalStack
from services.pipeline.refresh import Stores
from services.runtime.settings import Settings
from services.store.ports import Catalogue

HORIZON = timedelta(days=7)
# Categories that the trajectory's plane shows.
LANDMARKS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the SDK said of one user."""

    interest: Interest
    trajectory: Trajectory
    forecast: Forecast
    recommendations: RankedItems
    profile: Profile


def ask(client: Client, user_id: str) -> Answers:
    """Ask every question that an application would."""
    return Answers(
        interest=client.get_interest(user_id),
        trajectory=client.get_trajectory(user_id, limit=None),
        forecast=client.get_forecast(user_id),
        recommendations=client.recommend(user_id, page_size=10),
        profile=client.get_profile(user_id),
    )


def compare_with_evaluation(
    client: Client, expected: pl.DataFrame, users: Sequence[str]
) -> dict[str, float]:
    """Ask for each user's ten best items and hold them against the evaluation's.

    Args:
        client: of the gateway.
        expected: user_id, rank, item_id, score.
        users: whom to compare.

    Returns:
        users, same_top_10 (users whose ten are the same in the same order), largest_score_gap.
    """
    lists = {str(key[0]): rows for key, rows in expected.sort("rank").group_by(USER_ID)}
    same, gap = 0, 0.0
    for user in users:
        served = client.recommend(user, page_size=10).items
        rows = lists[user].head(10)
        score_of = dict(zip(rows[ITEM_ID], rows["score"], strict=True))
        same += [item.item_id for item in served] == rows[ITEM_ID].to_list()
        gap = max(
            [gap, *(abs(s.score - score_of[s.item_id]) for s in served if s.item_id in score_of)]
        )
    return {"users": len(users), "same_top_10": same, "largest_score_gap": gap}


def typical_user(events: pl.DataFrame, candidates: Sequence[str], now: datetime) -> str:
    """Return the candidate of median activity among those who shop in the week after `now`.

    By activity, not by how well they are predicted: the demo shows no lucky one.
    """
    is_next = pl.col(EVENT_TIME).is_between(now, now + HORIZON, closed="left")
    active = events.filter(is_next & pl.col(USER_ID).is_in(list(candidates)))[USER_ID].unique()
    counts = (
        events.filter((pl.col(EVENT_TIME) < now) & pl.col(USER_ID).is_in(active.implode()))
        .group_by(USER_ID)
        .len()
        .sort("len", USER_ID)
    )
    return str(counts[USER_ID][len(counts) // 2])


def tell(answers: Answers, events: pl.DataFrame, catalogue: Catalogue, now: datetime) -> UserStory:
    """Return one user's story: the SDK's answers beside the data."""
    user_id = answers.interest.user_id
    theirs = events.filter(pl.col(USER_ID) == user_id)
    past = theirs.filter(pl.col(EVENT_TIME) < now)
    months, counts = _months(past)
    weeks = answers.trajectory.interests
    steps = answers.forecast.steps
    return UserStory(
        user_id=user_id,
        periods=tuple(week.period for week in weeks),
        period_starts=tuple(_week_start(week.period) for week in weeks),
        vectors_PD=np.stack([np.asarray(week.vector.values, np.float32) for week in weeks]),
        event_counts=tuple(week.event_count for week in weeks),
        forecast_periods=tuple(step.period for step in steps),
        forecast_starts=tuple(_week_start(step.period) for step in steps),
        forecast_means_HD=np.stack([np.asarray(s.mean.values, np.float32) for s in steps]),
        forecast_scales_HD=np.stack([np.asarray(s.scale, np.float32) for s in steps]),
        forecaster=answers.forecast.forecaster,
        category_vectors=_landmarks(past, catalogue),
        months=months,
        category_counts=counts,
        portrait=tuple((n.label, n.share, n.recent_share) for n in answers.profile.interests),
        portrait_event_count=answers.profile.event_count,
        is_suspected_bot=answers.profile.is_suspected_bot,
        recommendations=_recommended(answers.recommendations),
        bought_next=_bought(theirs, now),
        bought_window=f"in the week from {now.date()}",
    )


def prove(stack: LocalStack) -> PathProof:
    """Return which processes answered how many calls, by their own counts."""
    pids, requests = stack.cluster.replica_pids(), stack.cluster.request_counts()
    with urlopen(stack.gateway.metrics_url) as page:  # nosec B310  # noqa: S310 - our own loopback endpoint
        metrics = page.read().decode()
    return PathProof(
        demo_pid=os.getpid(),
        gateway_pids=(stack.gateway.process.pid,),
        serve=tuple(
            ServeCalls(application=name, requests=count, replica_pids=tuple(pids[name]))
            for name, count in requests.items()
        ),
        gateway=gateway_calls(metrics),
    )


def published(
    stores: Stores, settings: Settings, space_id: str
) -> tuple[dict[str, int], dict[str, int]]:
    """Count what Feast's offline history holds now: vectors, and forecasts of all horizons.

    By granularity; the same after a run that changes nothing.
    """
    vectors: dict[str, int] = {}
    forecasts: dict[str, int] = {}
    for granularity in settings.granularities:
        for bucket in range(settings.bucket_count):
            rows = stores.features.read_offline(
                DEFAULT_TENANT, by_period_view(granularity, space_id), bucket
            )
            ahead = stores.features.read_offline(
                DEFAULT_TENANT, forecast_view(granularity, space_id), bucket
            )
            vectors[granularity] = vectors.get(granularity, 0) + rows.height
            horizons = int(ahead[HORIZONS].list.len().sum())
            forecasts[granularity] = forecasts.get(granularity, 0) + horizons
    return vectors, forecasts


def _recommended(items: RankedItems) -> tuple[Recommended, ...]:
    return tuple(
        Recommended(
            item_id=item.item_id,
            title=item.title,
            categories=item.categories,
            score=item.score,
            interest=item.parts.interest if item.parts else 0.0,
            popularity=item.parts.popularity if item.parts else 0.0,
            repeat=item.parts.repeat if item.parts else 0.0,
        )
        for item in items.items
    )


def _bought(theirs: pl.DataFrame, now: datetime) -> tuple[Bought, ...]:
    window = theirs.filter(
        pl.col(EVENT_TIME).is_between(now, now + HORIZON, closed="left")
    ).drop_nulls(ITEM_ID)
    counted = window.group_by(ITEM_ID, TEXT).len().sort(["len", ITEM_ID], descending=[True, False])
    return tuple(
        Bought(item_id=item, title=text or item, count=count)
        for item, text, count in counted.iter_rows()
    )


def _months(past: pl.DataFrame) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Return the months of the user's span, and events per category in each."""
    months = past.select(pl.col(EVENT_TIME).dt.strftime("%Y-%m")).to_series()
    span = tuple(sorted(set(months)))
    labels = past[CATEGORIES].list.first().fill_null("other")
    counted = Counter(zip(labels, months, strict=True))
    names = sorted({label for label, _ in counted})
    return span, {name: tuple(counted[name, month] for month in span) for name in names}


def _landmarks(past: pl.DataFrame, catalogue: Catalogue) -> dict[str, F32]:
    """Return the mean item vector of the user's most frequent categories, unit norm."""
    frequent = Counter(past[CATEGORIES].list.first().drop_nulls()).most_common(LANDMARKS)
    rows: dict[str, list[int]] = {}
    for row, names in enumerate(catalogue.categories):
        if names:
            rows.setdefault(names[0], []).append(row)
    found = {
        name: catalogue.items_ND[rows[name]].mean(axis=0) for name, _ in frequent if name in rows
    }
    return {
        name: (mean / np.linalg.norm(mean)).astype(np.float32)
        for name, mean in found.items()
        if np.any(mean)
    }


def _week_start(name: str) -> datetime:
    return period_from_name(Granularity.WEEK, name).start
