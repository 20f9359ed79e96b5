"""From the events of a bucket's users to all that is stored of them: the encoder's pure step.

What a closed period's vector is made of was known at its close: its own events, less bulk days,
and the item versions that came into force before the close. Nothing later can change it.

Shape suffixes: E = events, V = item versions, U = users, P = (user, period) pairs, D = width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.core.activity import Activity, make_activities
from services.core.classify import (
    IS_BULK_DAY,
    session_counts,
    suspected_bots,
    with_bulk_days,
)
from services.core.item_versions import NO_VERSION, ItemVersions
from services.core.periods import first_days, ordinals_of_days
from services.core.pooling import (
    F64,
    I64,
    PooledPeriods,
    PoolingConfig,
    RankStates,
    event_weights,
    pool_periods,
    pool_rank_states,
)
from services.core.profiles import make_profiles
from services.core.records import Profile
from services.core.schema import (
    EVENT_TIME,
    ITEM_ID,
    KIND,
    SESSION_COUNT,
    USER_ID,
    VALUE,
    Granularity,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000
_US = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketInterests:
    """What was made of some users."""

    # Ascending; rows of U. Every user with an event up to now.
    user_ids: tuple[str, ...]
    # Vectors by granularity; a period without usable events is a gap.
    periods: dict[Granularity, PooledPeriods]
    # Users of `rank_states`, as rows of `user_ids`: those with an event of a known item.
    rank_user_ix: I64
    # Its user rows are positions in `rank_user_ix`; its items are rows of ItemVersions.item_ids.
    rank_states: RankStates
    # One per user.
    profiles: tuple[Profile, ...]
    # One per user; bulk days left out.
    activities: tuple[Activity, ...]
    # Events outside bulk days whose item is not known at all.
    unknown_item_event_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Events:
    """Events as arrays."""

    user_ix_E: I64
    # NO_VERSION where no version of the item is known.
    item_ix_E: I64
    # Microseconds since 1970.
    time_us_E: I64
    weight_E: F64

    def where(self, mask_E: NDArray[np.bool_]) -> "_Events":
        return _Events(
            user_ix_E=self.user_ix_E[mask_E],
            item_ix_E=self.item_ix_E[mask_E],
            time_us_E=self.time_us_E[mask_E],
            weight_E=self.weight_E[mask_E],
        )


def make_interests(
    events: pl.DataFrame,
    versions: ItemVersions,
    *,
    pooling: PoolingConfig,
    granularities: Sequence[Granularity],
    now: datetime,
    bulk_day_events: int,
) -> BucketInterests:
    """Make vectors, rank states and profiles of every user in `events`.

    A user's results depend on that user's events alone, not on their order nor on who shares the
    batch.

    Args:
        events: user_id, item_id, kind, value, event_time (UTC); whole histories of the users.
            Events after `now` are left out.
        versions: of the items; those that come into force after `now` are left out.
        pooling: of the live model.
        granularities: period lengths to make.
        now: the instant to make it for.
        bulk_day_events: a user's UTC day with more events than this is a bulk day; none of it is
            used.
    """
    now_us = (now - _EPOCH) // _US
    versions = versions.known_at(now_us)
    seen = events.filter(pl.col(EVENT_TIME).dt.timestamp("us") <= now_us)
    seen = with_bulk_days(seen, bulk_day_events)
    user_ids, found = _arrays(seen, versions, pooling)
    used = found.where(~seen[IS_BULK_DAY].to_numpy())
    row_E = held_versions(versions, used.item_ix_E, used.time_us_E)
    rank_user_ix, rank_states = _rank_states(used, row_E, versions, pooling)
    return BucketInterests(
        user_ids=user_ids,
        periods={
            granularity: _periods(used, versions, granularity, pooling)
            for granularity in granularities
        },
        rank_user_ix=rank_user_ix,
        rank_states=rank_states,
        profiles=make_profiles(
            user_ix_E=used.user_ix_E,
            time_us_E=used.time_us_E,
            version_E=row_E,
            categories_V=versions.categories_V,
            seen_us_U2=_first_and_last(found, len(user_ids)),
            session_count_U=_session_counts(seen.filter(~pl.col(IS_BULK_DAY)), user_ids),
            is_suspected_bot_U=np.isin(
                user_ids, list(suspected_bots(seen, now + _US, bulk_day_events))
            ),
        ),
        activities=make_activities(
            used.user_ix_E, used.time_us_E, used.item_ix_E, versions.item_ids, len(user_ids)
        ),
        unknown_item_event_count=int((row_E == NO_VERSION).sum()),
    )


def held_versions(versions: ItemVersions, item_ix_E: I64, time_us_E: I64) -> I64:
    """Return the version of each event's item at the event, or NO_VERSION.

    An item that was described only later counts as its first description: what is served now may
    know it.
    """
    row_E = versions.in_force_at(item_ix_E, time_us_E)
    return np.where(row_E == NO_VERSION, versions.first(item_ix_E), row_E)


def _session_counts(events: pl.DataFrame, user_ids: tuple[str, ...]) -> I64:
    counts = dict(session_counts(events).select(USER_ID, SESSION_COUNT).iter_rows())
    return np.array([counts.get(user, 0) for user in user_ids], np.int64)


def _arrays(
    events: pl.DataFrame, versions: ItemVersions, pooling: PoolingConfig
) -> tuple[tuple[str, ...], _Events]:
    time_us = pl.col(EVENT_TIME).dt.timestamp("us")
    users = events[USER_ID].unique().sort()
    items = pl.DataFrame({ITEM_ID: versions.item_ids}, schema={ITEM_ID: pl.String})
    rows = events.select(
        USER_ID, ITEM_ID, KIND, pl.col(VALUE).fill_null(1.0), time_us.alias("us")
    ).join(
        items.with_row_index("item_ix"), on=ITEM_ID, how="left", maintain_order="left"
    ).join(
        users.to_frame().with_row_index("user_ix"), on=USER_ID, how="left", maintain_order="left"
    )  # fmt: skip
    kinds = rows[KIND].cast(pl.String).to_numpy().astype(str)
    return tuple(users.to_list()), _Events(
        user_ix_E=rows["user_ix"].cast(pl.Int64).to_numpy(),
        item_ix_E=rows["item_ix"].cast(pl.Int64).fill_null(NO_VERSION).to_numpy(),
        time_us_E=rows["us"].to_numpy(),
        weight_E=event_weights(kinds, rows[VALUE].cast(pl.Float64).to_numpy(), pooling),
    )


def _periods(
    events: _Events, versions: ItemVersions, granularity: Granularity, pooling: PoolingConfig
) -> PooledPeriods:
    ordinal_E, end_us_E = _spans(events.time_us_E, granularity)
    row_E = versions.in_force_before(events.item_ix_E, end_us_E)
    known_E = row_E != NO_VERSION
    used, item_row_E = np.unique(row_E[known_E], return_inverse=True)
    return pool_periods(
        events.user_ix_E[known_E],
        ordinal_E[known_E],
        item_row_E.astype(np.int64),
        events.weight_E[known_E],
        versions.vec_VD[used],
        pooling,
    )


def _spans(time_us_E: I64, granularity: Granularity) -> tuple[I64, I64]:
    """Return each instant's period ordinal, and that period's end in microseconds since 1970."""
    ordinal_E = ordinals_of_days(granularity, time_us_E // _DAY_US)
    return ordinal_E, first_days(granularity, ordinal_E + 1) * _DAY_US


def _rank_states(
    events: _Events, row_E: I64, versions: ItemVersions, pooling: PoolingConfig
) -> tuple[I64, RankStates]:
    known_E = row_E != NO_VERSION
    users, user_ix_E = np.unique(events.user_ix_E[known_E], return_inverse=True)
    used, item_row_E = np.unique(row_E[known_E], return_inverse=True)
    if not len(users):
        return users, _no_rank_states(versions.width, len(pooling.half_lives_days))
    return users, pool_rank_states(
        user_ix_E.astype(np.int64),
        events.time_us_E[known_E] / 1e6,
        item_row_E.astype(np.int64),
        events.item_ix_E[known_E],
        events.weight_E[known_E],
        versions.vec_VD[used],
        len(users),
        pooling,
    )


def _no_rank_states(width: int, half_lives: int) -> RankStates:
    none = np.zeros(0, np.int64)
    return RankStates(
        query_sums_UHD=np.zeros((0, half_lives, width), np.float32),
        query_weights_UH=np.zeros((0, half_lives), np.float32),
        activity_UH=np.zeros((0, half_lives), np.float32),
        state_time_U=np.zeros(0),
        repeat_user_ix_R=none,
        repeat_item_ix_R=none,
        repeat_counts_RH=np.zeros((0, half_lives), np.float32),
        repeat_last_times_R=none,
    )


def _first_and_last(events: _Events, user_count: int) -> I64:
    seen_us_U2 = np.empty((user_count, 2), np.int64)
    seen_us_U2[:] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    np.minimum.at(seen_us_U2[:, 0], events.user_ix_E, events.time_us_E)
    np.maximum.at(seen_us_U2[:, 1], events.user_ix_E, events.time_us_E)
    return seen_us_U2
