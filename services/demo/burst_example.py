"""One user's burst of interest, week by week: what detection weighed, and how wide forecasts were.

The marks are what GetProfile says. The curves replay the live model over the user's stored weeks, as
the refresh followed them; for each week's close only the weeks up to it are read.

Shape suffixes: P = weeks on the grid (gaps included), D = vector width, G = topics.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from driftline import Client, InterestBurst, Trajectory

from services.core import schema as names
from services.core.burst_forecasts import BurstAware
from services.core.burst_spec import load_burst_model
from services.core.burst_state import Bools, BurstModel
from services.core.bursts import measure, new_state, noise_scale, update, weighed
from services.core.forecasters import load_forecaster
from services.core.forecasts import Forecaster
from services.core.model import Model
from services.core.periods import period_from_name
from services.core.pooling import F64, I64
from services.core.schema import DEFAULT_TENANT, Granularity
from services.core.trajectories import TrajectoryBatch, grid
from services.store.ports import FeatureWriter

# Weeks with events that a burst to be shown has before and after it, at least.
AROUND = 4
# Users who are looked through where nobody had a burst.
LOOKED_AT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What detection and forecaster made of a user's weeks; NaN where a week has no events."""

    week_starts: tuple[datetime, ...]
    # Events; 0 in a gap.
    count_P: I64
    # Share of the week's mass that moved to the topic, and the standard deviation of its noise.
    moved_P: F64
    noise_P: F64
    # Cumulative sum of the topic, nats, and where it alarms.
    evidence_P: F64
    threshold: float
    # Mean standard deviation of the next week's forecast made at each close, as served, and by a
    # forecaster that knows of no bursts.
    width_P: F64
    plain_width_P: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstExample:
    """A user's burst, or the nearest to one that was found."""

    user_id: str
    watched: Watched
    # As GetProfile says, newest first; empty: `nearest` is shown.
    bursts: tuple[InterestBurst, ...]
    # The burst that is shown; None: nobody had one, and `topic_name` came nearest.
    shown: InterestBurst | None
    topic_name: str
    # Weeks of the burst, or the one week that came nearest.
    first_week: str
    last_week: str
    # Users with a stored burst of a topic.
    user_count: int

    @property
    def peak_evidence(self) -> float:
        """The largest evidence, as a part of what raises an alarm."""
        return float(np.nanmax(self.watched.evidence_P)) / self.watched.threshold

    def widths(self) -> dict[str, tuple[float, float]]:
        """Return forecast widths before, in and after: as served, and without knowledge of bursts.

        The close before the first week, the widest in between, and the `AROUND`th active week after
        (or the last one).
        """
        first = period_from_name(Granularity.WEEK, self.first_week).start
        last = period_from_name(Granularity.WEEK, self.last_week).start
        active = [at for at, count in enumerate(self.watched.count_P) if count]
        starts = self.watched.week_starts
        before = [at for at in active if starts[at] < first]
        inside = [at for at in active if first <= starts[at] <= last]
        after = [at for at in active if starts[at] > last]
        picked = {
            "before": before[-1:],
            "in": [max(inside, key=lambda at: self.watched.width_P[at])] if inside else [],
            "after": after[:AROUND][-1:],
        }
        return {
            name: (float(self.watched.width_P[at[0]]), float(self.watched.plain_width_P[at[0]]))
            for name, at in picked.items()
            if at
        }


def burst_example(
    client: Client, features: FeatureWriter, model: Model, buckets: Iterable[int],
    users: Sequence[str],
) -> BurstExample | None:  # fmt: skip
    """Return the burst of median size among those that weeks before and after show; no lucky one.

    Args:
        client: of the gateway.
        features: where bursts are stored.
        model: the live one.
        buckets: of the store.
        users: some are looked through where nobody had such a burst.

    Returns:
        None where the model tells no bursts.
    """
    bursts = load_burst_model(model, Granularity.WEEK)
    if bursts is None:
        return None
    view = names.bursts_by_period_view(Granularity.WEEK, model.space_id)
    stored = pl.concat([features.read_offline(DEFAULT_TENANT, view, one) for one in buckets])
    known = newest_bursts(stored)
    forecaster = load_forecaster(model, Granularity.WEEK)
    for user_id in by_nearness_to_median(known):
        profile = client.get_profile(user_id)
        trajectory = client.get_trajectory(user_id, limit=None)
        if (shown := first_whole(profile.bursts, trajectory)) is not None:
            return example(
                trajectory, profile.bursts, shown, bursts, forecaster, known[names.USER_ID].n_unique()
            )  # fmt: skip
    tried = [client.get_trajectory(user, limit=None) for user in users[:LOOKED_AT]]
    if not tried:
        return None
    near = [nearest(one, bursts) for one in tried]
    best = max(range(len(tried)), key=lambda row: (near[row][0], -row))
    return example(tried[best], (), None, bursts, forecaster, known[names.USER_ID].n_unique())


def newest_bursts(stored: pl.DataFrame) -> pl.DataFrame:
    """Return every burst of a topic that was stored last: user_id, share; by user and share.

    Args:
        stored: rows of bursts_week_by_period.
    """
    newest = stored.sort(names.USER_ID, names.PERIOD).unique(
        names.USER_ID, keep="last", maintain_order=True
    )
    lists = [names.BURST_TOPICS, names.BURST_SHARES]
    rows = newest.select(names.USER_ID, *lists).explode(lists)
    return (
        rows.filter(pl.col(names.BURST_TOPICS).fill_null("") != "")
        .select(names.USER_ID, share=names.BURST_SHARES)
        .sort(names.USER_ID, "share")
    )


def by_nearness_to_median(known: pl.DataFrame) -> list[str]:
    """Return users, those first whose burst's share is nearest to the median of all."""
    if known.is_empty():
        return []
    off = (pl.col("share") - pl.col("share").median()).abs()
    return known.sort(off, names.USER_ID)[names.USER_ID].unique(maintain_order=True).to_list()


def first_whole(
    bursts: Iterable[InterestBurst], trajectory: Trajectory
) -> InterestBurst | None:  # fmt: skip
    """Return the first burst of a topic with `AROUND` active weeks before and after it."""
    weeks = trajectory.periods
    for one in bursts:
        before = sum(week < one.first_week for week in weeks)
        after = sum(week > one.last_week for week in weeks)
        if one.topic_name and not one.is_lasting and min(before, after) >= AROUND:
            return one
    return None


def nearest(trajectory: Trajectory, model: BurstModel) -> tuple[float, int, int]:
    """Return the largest evidence of a user's weeks as a part of an alarm, its column and topic."""
    evidence_PG = _followed(trajectory_batch(trajectory), model)[2]
    column, topic = np.unravel_index(int(np.nan_to_num(evidence_PG).argmax()), evidence_PG.shape)
    return float(evidence_PG[column, topic]) / model.threshold, int(column), int(topic)


def example(
    trajectory: Trajectory, bursts: tuple[InterestBurst, ...], shown: InterestBurst | None,
    model: BurstModel, forecaster: Forecaster, user_count: int,
) -> BurstExample:  # fmt: skip
    """Return the example of one user.

    Args:
        trajectory: all of their weeks.
        bursts: what their portrait says.
        shown: one of these; None shows the week nearest to an alarm.
        model: detection.
        forecaster: of the weeks, without knowledge of bursts.
        user_count: users with a burst.
    """
    batch = trajectory_batch(trajectory)
    first = period_from_name(Granularity.WEEK, trajectory.periods[0])
    moved_PG, noise_PG, evidence_PG = _followed(batch, model)
    if shown is None:
        _, column, topic = nearest(trajectory, model)
        first_week = last_week = (first + column).name
    else:
        first_week, last_week = shown.first_week, shown.last_week
        start = period_from_name(Granularity.WEEK, first_week) - first
        end = period_from_name(Granularity.WEEK, last_week) - first
        topic = _topic(model, shown.topic_name, evidence_PG[start : end + 1])
    named = model.names_G[topic] if model.names_G else ""
    width_P, plain_P = _widths(batch, model, forecaster)
    weeks = [first + at for at in range(batch.mask_UT.shape[1])]
    return BurstExample(
        user_id=trajectory.user_id,
        watched=Watched(
            week_starts=tuple(week.start for week in weeks), count_P=batch.count_UT[0],
            moved_P=moved_PG[:, topic], noise_P=noise_PG[:, topic],
            evidence_P=evidence_PG[:, topic], threshold=model.threshold,
            width_P=width_P, plain_width_P=plain_P,
        ),
        bursts=bursts, shown=shown, topic_name=shown.topic_name if shown else named,
        first_week=first_week, last_week=last_week, user_count=user_count,
    )  # fmt: skip


def trajectory_batch(trajectory: Trajectory) -> TrajectoryBatch:
    """Lay a user's weeks on a grid from the first to the last."""
    weeks = [period_from_name(Granularity.WEEK, name) for name in trajectory.periods]
    return grid(
        np.zeros(len(weeks), np.int64), np.array([week.ordinal for week in weeks]),
        np.asarray(trajectory.to_array(), np.float32),
        np.array([one.event_count for one in trajectory]),
        users=1, first=weeks[0].ordinal, last=weeks[-1].ordinal,
    )  # fmt: skip


def _topic(model: BurstModel, name: str, evidence_PG: F64) -> int:
    """Return a topic's row by its name; of topics without names, the one with the most evidence."""
    if name in model.names_G:
        return model.names_G.index(name)
    return int(np.nan_to_num(evidence_PG).max(axis=0).argmax())


def _followed(batch: TrajectoryBatch, model: BurstModel) -> tuple[F64, F64, F64]:
    """Return the moved share, its noise and the evidence of each topic [P, G]; NaN in gaps."""
    periods, topics = batch.mask_UT.shape[1], len(model.topics_GD)
    moved_PG, noise_PG, evidence_PG = (np.full((periods, topics), np.nan) for _ in range(3))
    state = new_state(model, 1)
    for t in range(periods):
        count_U = batch.count_UT[:, t]
        vec_UD, mask_U = batch.vec_UTD[:, t], batch.mask_UT[:, t]
        if mask_U[0]:
            found = measure(model, state, vec_UD, mask_U, count_U)
            moved_PG[t] = found.pull_UG[0] / found.precision_UG[0]
            noise_PG[t] = np.sqrt(noise_scale(state)[0] / found.precision_UG[0])
            evidence_PG[t] = weighed(model, state, found)[0]
        state, _ = update(model, state, vec_UD, mask_U, count_U)
    return moved_PG, noise_PG, evidence_PG


def _widths(batch: TrajectoryBatch, model: BurstModel, plain: Forecaster) -> tuple[F64, F64]:
    """Return widths of the forecasts made at each close, knowing of bursts and not."""
    periods = batch.mask_UT.shape[1]
    aware, found = BurstAware(inner=plain, model=model), np.full((2, periods), np.nan)
    active: Bools = batch.mask_UT[0]
    for t in np.flatnonzero(active).tolist():
        seen = batch.until(t + 1)
        for row, forecaster in enumerate((aware, plain)):
            found[row, t] = forecaster.forecast(seen, (1,)).scales_UHD.mean()
    return found[0], found[1]
