"""Rows of features from what the pure step made: what is new, and what must be published.

Shape suffixes: P = (user, period) pairs, U = users, R = repeat items.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from services.core.interests import BucketInterests
from services.core.lateness import ARRIVED_TIME
from services.core.periods import Period
from services.core.pooling import RankStates
from services.core.records import RankState
from services.core.schema import (
    COMPUTED_TIME,
    EVENT_COUNT,
    KNOWN_TIME,
    PERIOD,
    PERIOD_START,
    USER_ID,
    VEC,
    Granularity,
)
from services.store.frames import TIME, by_period_frame

# Vectors nearer than this in every component are the same vector.
SAME = 1e-6


def period_rows(
    made: BucketInterests,
    granularity: Granularity,
    *,
    model_version: str,
    now: datetime,
    computed_time: datetime,
    publish_lag: timedelta,
    late: pl.DataFrame,
) -> pl.DataFrame:
    """Return rows of interest_{g}_by_period of everything that was made.

    A period that had closed is known a publish lag after its close, or after the last of what came
    late for it (`late`, see core.lateness), but never later than it was computed; an open one is
    known when it is computed.
    """
    pooled = made.periods[granularity]
    ordinals, row_P = np.unique(pooled.period_P, return_inverse=True)
    ends = [Period(granularity, ordinal).end for ordinal in ordinals.tolist()]
    known = [min(end + publish_lag, computed_time) if end <= now else computed_time for end in ends]
    rows = by_period_frame(
        granularity,
        pl.Series(made.user_ids, dtype=pl.String)[pooled.user_ix_P],
        pooled.period_P,
        pooled.vec_PD,
        pooled.event_count_P,
        model_version=model_version,
        known_times=pl.Series(known, dtype=TIME)[row_P],
        computed_time=computed_time,
    )
    arrived = pl.when(pl.col(ARRIVED_TIME).is_not_null()).then(
        pl.min_horizontal(pl.col(ARRIVED_TIME) + publish_lag, COMPUTED_TIME)
    )
    return rows.join(late, on=[USER_ID, PERIOD_START], how="left", maintain_order="left").select(
        pl.exclude(KNOWN_TIME, COMPUTED_TIME, ARRIVED_TIME),
        pl.max_horizontal(KNOWN_TIME, arrived).alias(KNOWN_TIME),
        COMPUTED_TIME,
    )


def rows_that_differ(
    fresh: pl.DataFrame, published: pl.DataFrame, *, is_replay: bool = False
) -> pl.DataFrame:
    """Return the fresh rows that are not published, or published otherwise.

    Under a replayed clock a row that is now known to have been knowable earlier counts too: a
    period is open at first, and is backfilled once it has closed.
    """
    held = published.select(
        USER_ID, PERIOD, pl.col(VEC).alias("_vec"), pl.col(EVENT_COUNT).alias("_count"),
        pl.col(KNOWN_TIME).alias("_known"),
    )  # fmt: skip
    joined = fresh.join(held, on=[USER_ID, PERIOD], how="left", maintain_order="left")
    is_held_P = joined["_vec"].is_not_null().to_numpy()
    is_same_P = is_held_P.copy()
    both = joined.filter(pl.Series(is_held_P))
    if len(both):
        width = len(both[VEC][0])
        mine, theirs = (
            both[name].explode().to_numpy().reshape(len(both), width) for name in (VEC, "_vec")
        )
        is_same_P[is_held_P] = (
            (np.abs(mine - theirs).max(axis=1) <= SAME)
            & (both[EVENT_COUNT] == both["_count"]).to_numpy()
            & (not is_replay or (both["_known"] <= both[KNOWN_TIME]).to_numpy())
        )
    return fresh.filter(pl.Series(~is_same_P))


def restated_rows(
    different: pl.DataFrame, fresh: pl.DataFrame, published: pl.DataFrame
) -> pl.DataFrame:
    """Return the newest vectors of users of whom an older period is known later than the newest.

    A join on the user alone takes the row that was known last: after a late event that would be the
    old period's. The newest is stated once more, known when that is, computed just after it.
    """
    keys = [USER_ID, PERIOD_START]
    stated = pl.concat(
        [
            published.select(*keys, KNOWN_TIME).join(different, on=keys, how="anti"),
            different.select(*keys, KNOWN_TIME),
        ]
    )
    newest = stated.sort(keys).unique(USER_ID, keep="last", maintain_order=True)
    last = different.group_by(USER_ID).agg(pl.col(KNOWN_TIME).max().alias("_last"))
    overtaken = newest.join(last, on=USER_ID).filter(pl.col("_last") > pl.col(KNOWN_TIME))
    return (
        fresh.join(overtaken.select(*keys, "_last"), on=keys, maintain_order="left")
        .with_columns(
            pl.col("_last").alias(KNOWN_TIME),
            pl.col(COMPUTED_TIME) + timedelta(microseconds=1),
        )
        .drop("_last")
    )


def users_with_gone_rows(fresh: pl.DataFrame, published: pl.DataFrame) -> list[str]:
    """Return users of whom a published period is no more: it was erased, or became bulk."""
    gone = published.join(fresh, on=[USER_ID, PERIOD], how="anti")
    return sorted(gone[USER_ID].unique().to_list())


def rank_state_records(
    made: BucketInterests, item_ids: Sequence[str]
) -> tuple[list[str], list[RankState]]:
    """Return users, and their rank states, repeats by most recent first."""
    states = made.rank_states
    starts = np.searchsorted(states.repeat_user_ix_R, np.arange(states.user_count + 1))
    users = [made.user_ids[row] for row in made.rank_user_ix.tolist()]
    return users, [
        _rank_state(states, row, slice(starts[row], starts[row + 1]), item_ids)
        for row in range(states.user_count)
    ]


def _rank_state(states: RankStates, row: int, of: slice, item_ids: Sequence[str]) -> RankState:
    item_R, last_R = states.repeat_item_ix_R[of], states.repeat_last_times_R[of]
    order = np.lexsort((item_R, -last_R))
    return RankState(
        query_sums_HD=states.query_sums_UHD[row],
        query_weights_H=states.query_weights_UH[row],
        activity_H=states.activity_UH[row],
        repeat_item_ids=tuple(item_ids[item] for item in item_R[order].tolist()),
        repeat_counts_RH=states.repeat_counts_RH[of][order],
        repeat_last_times_R=last_R[order],
        state_time=float(states.state_time_U[row]),
    )
