"""Refreshes forecasts, store to store: trajectories from Feast -> forecasts -> Feast.

Users are forecast whose closed periods were published since last time, and everyone where a period
has closed since; what differs is published. Few users of many buckets are made together. Online
rows go first and offline rows last, which a retry compares with.
Shape suffixes: U = users, P = (user, period) rows, H = horizons, D = width.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from services.core.burst_forecasts import KnownBursts, with_bursts
from services.core.burst_state import BurstModel
from services.core.chunks import Share, chunks
from services.core.errors import Cancelled
from services.core.forecasters import Auto
from services.core.model import Model
from services.core.periods import Period, closed_before
from services.core.records import F32
from services.core.schema import (
    EVENT_COUNT,
    KNOWN_TIME,
    PERIOD_START,
    USER_ID,
    VEC,
    Granularity,
    by_period_view,
    forecast_state_view,
    forecast_view,
)
from services.core.trajectories import TrajectoryBatch, grid
from services.forecaster.burst_rows import Stamp
from services.forecaster.bursts import BucketBursts
from services.forecaster.rows import (
    SAID,
    Made,
    forecast_rows,
    ordinals,
    rows_that_differ,
    state_rows,
)
from services.store.frames import TIME
from services.store.ports import EventTables, FeatureWriter
from services.store.shares import BucketUsers, append_shares

# Periods ahead that are stored, for every granularity.
HORIZONS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastsConfig:
    """What decides results, beside the model."""

    bucket_count: int
    granularities: tuple[Granularity, ...]
    publish_lag: timedelta
    # Users forecast and published at once; a cancelled call stops after at most this many.
    users_a_chunk: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastsSummary:
    """What a refresh of forecasts did."""

    # Users whose forecasts changed.
    user_count: int
    # Vectors published, all horizons and granularities together.
    forecast_count: int
    # Buckets that had something to look at.
    bucket_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bucket:
    """What is read once for all users of a bucket."""

    bucket: int
    # Whom to forecast, ascending.
    users: pl.Series
    # Their trajectories, and what is published of them.
    rows: pl.DataFrame
    held: pl.DataFrame
    # JSON values, once all of them are published.
    after: dict[str, Any]
    # None where the model tells no bursts.
    bursts: BucketBursts | None = None


@dataclass(slots=True, kw_only=True)
class ForecastsRefresh:
    """One refresh of one tenant's forecasts."""

    features: FeatureWriter
    # Keeps what a bucket was last forecast from: names of parts, never of users.
    tables: EventTables
    model: Model
    forecasters: dict[Granularity, Auto]
    # Where bursts are known of; a granularity without one is forecast as if there were none.
    burst_models: dict[Granularity, BurstModel]
    config: ForecastsConfig
    tenant: str
    # Event-time now.
    now: datetime
    _users: set[str] = field(default_factory=set, init=False)
    _count: int = field(default=0, init=False)

    def run(
        self, buckets: Sequence[int], *, is_full: bool, cancelled: Callable[[], bool]
    ) -> ForecastsSummary:
        """Forecast and publish what changed in the buckets; none named means all.

        Raises:
            Cancelled: `cancelled` said so between chunks. A retry goes on with what is left.
        """
        wanted = sorted(set(buckets)) or range(self.config.bucket_count)
        done: set[int] = set()
        # Whoever is erased is not published from what was read before.
        with self.tables.publishing(self.tenant, cancelled):
            self._refresh(wanted, done, is_full=is_full, cancelled=cancelled)
        return ForecastsSummary(
            user_count=len(self._users), forecast_count=self._count, bucket_count=len(done)
        )

    def _refresh(
        self,
        wanted: Sequence[int],
        done: set[int],
        *,
        is_full: bool,
        cancelled: Callable[[], bool],
    ) -> None:
        """Forecast and publish; names in `done` the buckets that had something to look at."""
        for granularity in self.config.granularities:
            made_at = closed_before(granularity, self.now)
            looked = (self._look(bucket, made_at, is_full=is_full) for bucket in wanted)
            found = (each for each in looked if each is not None)
            for chunk in chunks(found, lambda work: len(work.users), self.config.users_a_chunk):
                self._chunk(chunk, made_at, cancelled)
                for share in chunk:
                    if share.is_last:
                        if share.of.bursts is not None:
                            share.of.bursts.finish()
                        name = self._name(share.of.bucket, granularity)
                        self.tables.write_state(self.tenant, name, share.of.after)
                        done.add(share.of.bucket)

    def _look(self, bucket: int, made_at: Period, *, is_full: bool) -> _Bucket | None:
        """Return whom to forecast of a bucket; None where there is nothing to look at."""
        view = by_period_view(made_at.granularity, self.model.space_id)
        # Listed before they are read: what comes meanwhile is new to the next refresh.
        parts = self.features.offline_parts(self.tenant, view, bucket)
        after = {"recipe": _recipe(made_at, self.model), "parts": parts}
        before = self.tables.read_state(self.tenant, self._name(bucket, made_at.granularity))
        seen = set(before.get("parts", ()))
        users: list[str] | None = None
        if not is_full and before.get("recipe") == after["recipe"] and seen <= set(parts):
            if before == after:
                return None
            new = [part for part in parts if part not in seen]
            users = self._closed(bucket, made_at, columns=(PERIOD_START,), parts=new)[
                USER_ID
            ].unique(maintain_order=True).to_list()  # fmt: skip
        if users == []:
            # Rows of open periods alone: nothing to read.
            none = self._closed(bucket, made_at, parts=[])
            return _Bucket(bucket=bucket, users=none[USER_ID], rows=none, held=none, after=after)
        rows = self._closed(bucket, made_at, users, (VEC, EVENT_COUNT, PERIOD_START, KNOWN_TIME))
        published = forecast_view(made_at.granularity, self.model.space_id)
        held = self.features.read_offline(self.tenant, published, bucket, users, SAID)
        known = rows[USER_ID].unique().sort()
        return _Bucket(
            bucket=bucket, users=known, rows=rows, held=held, after=after,
            bursts=self._bursts(bucket, made_at, rows, is_full=is_full, is_all=users is None),
        )  # fmt: skip

    def _closed(
        self,
        bucket: int,
        made_at: Period,
        users: list[str] | None = None,
        columns: Sequence[str] | None = None,
        parts: list[str] | None = None,
    ) -> pl.DataFrame:
        """Return the published rows of closed periods: the trajectories."""
        view = by_period_view(made_at.granularity, self.model.space_id)
        rows = self.features.read_offline(self.tenant, view, bucket, users, columns, parts)
        # By user and period already: names of periods of one length sort as they begin.
        return rows.filter(pl.col(PERIOD_START) <= made_at.start)

    def _chunk(
        self, chunk: list[Share[_Bucket]], made_at: Period, cancelled: Callable[[], bool]
    ) -> None:
        users = pl.concat(map(_users, chunk)).sort()
        if users.is_empty():
            return
        if cancelled():
            raise Cancelled("refresh of forecasts")
        forecaster = self.forecasters[made_at.granularity]
        rows = pl.concat(share.of.rows for share in chunk if len(share.of.users))
        batch = trajectory_batch(rows, users, made_at)
        forecasts = forecaster.forecast(batch, HORIZONS)
        if (known := _followed(chunk, users, batch)) is not None:
            model = self.burst_models[made_at.granularity]
            forecasts = with_bursts(forecasts, forecaster, model, batch, known, HORIZONS)
        computed_time = self.tables.tick()
        made = Made(
            users=users.to_list(),
            batch=batch,
            forecasts=forecasts,
            horizons=HORIZONS,
            made_at=made_at,
            model=self.model,
            forecaster=forecaster,
            computed_time=computed_time,
            known=self._known(rows, users, made_at, computed_time),
        )
        held = pl.concat(share.of.held for share in chunk if len(share.of.users))
        different = rows_that_differ(forecast_rows(made), held)
        if different.is_empty():
            return
        states = state_rows(made).filter(pl.col(USER_ID).is_in(different[USER_ID].implode()))
        self._publish(chunk, made_at, different, states)
        self._users.update(different[USER_ID].to_list())
        self._count += len(different) * len(HORIZONS)

    def _bursts(
        self, bucket: int, made_at: Period, rows: pl.DataFrame, *, is_full: bool, is_all: bool
    ) -> BucketBursts | None:
        model = self.burst_models.get(made_at.granularity)
        if model is None:
            return None
        return BucketBursts(
            features=self.features, tables=self.tables, tenant=self.tenant, bucket=bucket,
            model=model, made_at=made_at,
            stamp=Stamp(
                granularity=made_at.granularity, space_id=self.model.space_id,
                model_version=self.model.model_version, computed_time=self.tables.tick(),
                publish_lag=self.config.publish_lag,
            ),
            rows=rows, is_full=is_full, is_all=is_all,
        )  # fmt: skip

    def _known(
        self, rows: pl.DataFrame, users: pl.Series, made_at: Period, computed_time: datetime
    ) -> pl.DataFrame:
        """Return when each user's forecast could have been made: once all it rests on was known."""
        close = made_at.end + self.config.publish_lag
        known = pl.max_horizontal(pl.col(KNOWN_TIME).max(), pl.lit(close, TIME))
        return (
            rows.filter(pl.col(USER_ID).is_in(users.implode()))
            .group_by(USER_ID)
            .agg(pl.min_horizontal(known, pl.lit(computed_time, TIME)).alias(KNOWN_TIME))
        )

    def _publish(
        self, chunk: list[Share[_Bucket]], made_at: Period, rows: pl.DataFrame, states: pl.DataFrame
    ) -> None:
        granularity, space_id = made_at.granularity, self.model.space_id
        # The forecasts go last: a retry judges by their offline rows.
        written = (
            (forecast_state_view(granularity, space_id), states),
            (forecast_view(granularity, space_id), rows),
        )
        self.features.write_online_views(self.tenant, dict(written))
        shares = [
            BucketUsers(bucket=share.of.bucket, users=_users(share).to_list(), prefix=made_at.name)
            for share in chunk
        ]
        for name, frame in written:
            append_shares(self.features, self.tenant, name, frame, shares)

    def _name(self, bucket: int, granularity: Granularity) -> str:
        return f"forecasts_{granularity}_{self.model.space_id}_{bucket:04}"


def _users(share: Share[_Bucket]) -> pl.Series:
    return share.of.users.slice(share.start, share.stop - share.start)


def _followed(
    chunk: list[Share[_Bucket]], users: pl.Series, batch: TrajectoryBatch
) -> KnownBursts | None:
    """Follow the bursts of a chunk's users, bucket by bucket; None where they are not known of."""
    row_of = {user: row for row, user in enumerate(users.to_list())}
    known: KnownBursts | None = None
    for share in chunk:
        theirs = _users(share).to_list()
        if share.of.bursts is None or not theirs:
            continue
        rows = np.array([row_of[user] for user in theirs], np.int64)
        part = share.of.bursts.take(theirs, batch.users(rows))
        if known is None:
            known = KnownBursts(
                is_burst_UT=np.zeros_like(batch.mask_UT), topic_U=np.full(len(users), -1),
                share_U=np.zeros(len(users)),
            )  # fmt: skip
        known.is_burst_UT[rows] = part.is_burst_UT
        known.topic_U[rows], known.share_U[rows] = part.topic_U, part.share_U
    return known


def trajectory_batch(rows: pl.DataFrame, users: pl.Series, made_at: Period) -> TrajectoryBatch:
    """Return users' vectors on a grid that ends with `made_at`.

    Args:
        rows: of interest_{g}_by_period.
        users: ascending; each has a row.
        made_at: the last closed period.
    """
    index = pl.DataFrame({USER_ID: users}).with_row_index("user_ix")
    kept = rows.join(index, on=USER_ID)
    period_P = ordinals(kept, made_at.granularity)
    vec_PD: F32 = kept[VEC].explode().to_numpy().reshape(len(kept), -1)
    return grid(
        kept["user_ix"].cast(pl.Int64).to_numpy(),
        period_P,
        vec_PD,
        kept[EVENT_COUNT].to_numpy(),
        users=len(users),
        first=int(period_P.min(initial=made_at.ordinal)),
        last=made_at.ordinal,
    )


def _recipe(made_at: Period, model: Model) -> str:
    said = repr((made_at.name, model.model_version, HORIZONS))
    return hashlib.sha256(said.encode()).hexdigest()[:32]
