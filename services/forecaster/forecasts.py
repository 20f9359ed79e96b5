"""Refreshes forecasts, store to store: trajectories from Feast -> forecasts -> Feast.

A bucket is looked at when its trajectories differ from last time, or a period has closed since:
then every user's forecast is made from the last closed period, and those that differ are
published. Online rows go first and offline rows last, which a retry compares with.
Shape suffixes: U = users, P = (user, period) rows, H = horizons, D = width.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl

from services.core.errors import Cancelled
from services.core.forecasters import Auto
from services.core.model import Model
from services.core.periods import Period, closed_before
from services.core.records import F32
from services.core.schema import (
    COMPUTED_TIME,
    EVENT_COUNT,
    KNOWN_TIME,
    MADE_AT,
    PERIOD_START,
    USER_ID,
    VEC,
    Granularity,
    by_period_view,
    forecast_state_view,
    forecast_view,
)
from services.core.trajectories import TrajectoryBatch, grid
from services.forecaster.rows import Made, forecast_rows, ordinals, rows_that_differ, state_rows
from services.store.frames import TIME
from services.store.ports import EventTables, FeatureWriter, bucket_lock_name

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


@dataclass(slots=True, kw_only=True)
class ForecastsRefresh:
    """One refresh of one tenant's forecasts."""

    features: FeatureWriter
    # Keeps what a bucket was last forecast from.
    tables: EventTables
    model: Model
    forecasters: dict[Granularity, Auto]
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
        done = 0
        for bucket in sorted(set(buckets)) or range(self.config.bucket_count):
            # Whoever is erased meanwhile is not published from what was read before.
            with self.tables.job_lock(self.tenant, bucket_lock_name(bucket), cancelled):
                looked = [
                    self._bucket(bucket, granularity, is_full=is_full, cancelled=cancelled)
                    for granularity in self.config.granularities
                ]
            done += any(looked)
        return ForecastsSummary(
            user_count=len(self._users), forecast_count=self._count, bucket_count=done
        )

    def _bucket(
        self, bucket: int, granularity: Granularity, *, is_full: bool, cancelled: Callable[[], bool]
    ) -> bool:
        """Forecast one granularity of a bucket; tells whether there was something to look at."""
        made_at = closed_before(granularity, self.now)
        seen = self._closed(bucket, made_at, (PERIOD_START,))
        name = f"forecasts_{granularity}_{self.model.space_id}_{bucket:04}"
        position = {"digest": _digest(seen, made_at, self.model)}
        if not is_full and self.tables.read_state(self.tenant, name) == position:
            return False
        rows = self._closed(bucket, made_at)
        view = forecast_view(granularity, self.model.space_id)
        held = self.features.read_offline(self.tenant, view, bucket)
        users = rows[USER_ID].unique().sort()
        for start in range(0, len(users), self.config.users_a_chunk):
            if cancelled():
                raise Cancelled("refresh of forecasts")
            chunk = users.slice(start, self.config.users_a_chunk)
            self._chunk(bucket, made_at, chunk, rows, held)
        self.tables.write_state(self.tenant, name, position)
        return True

    def _closed(
        self, bucket: int, made_at: Period, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Return the published rows of closed periods: the trajectories."""
        view = by_period_view(made_at.granularity, self.model.space_id)
        rows = self.features.read_offline(self.tenant, view, bucket, columns=columns)
        return rows.filter(pl.col(PERIOD_START) <= made_at.start).sort(USER_ID, PERIOD_START)

    def _chunk(
        self,
        bucket: int,
        made_at: Period,
        users: pl.Series,
        rows: pl.DataFrame,
        held: pl.DataFrame,
    ) -> None:
        granularity = made_at.granularity
        batch = trajectory_batch(rows, users, made_at)
        forecaster = self.forecasters[granularity]
        computed_time = datetime.now(UTC)
        made = Made(
            users=users.to_list(),
            batch=batch,
            forecasts=forecaster.forecast(batch, HORIZONS),
            horizons=HORIZONS,
            made_at=made_at,
            model=self.model,
            forecaster=forecaster,
            computed_time=computed_time,
            known=self._known(rows, users, made_at, computed_time),
        )
        different = rows_that_differ(forecast_rows(made), held)
        if different.is_empty():
            return
        states = state_rows(made).filter(pl.col(USER_ID).is_in(different[USER_ID].implode()))
        self._publish(bucket, granularity, different, states)
        self._users.update(different[USER_ID].to_list())
        self._count += len(different) * len(HORIZONS)

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
        self, bucket: int, granularity: Granularity, rows: pl.DataFrame, states: pl.DataFrame
    ) -> None:
        state_view = forecast_state_view(granularity, self.model.space_id)
        view = forecast_view(granularity, self.model.space_id)
        # The forecasts go last: a retry judges by their offline rows.
        written = ((state_view, states), (view, rows))
        for name, frame in written:
            self.features.write_online(self.tenant, name, frame.drop(KNOWN_TIME))
        for name, frame in written:
            part = f"{rows[MADE_AT][0]}-{_content(frame)}"
            self.features.append_offline(self.tenant, name, bucket, part, frame)


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


def _digest(rows: pl.DataFrame, made_at: Period, model: Model) -> str:
    digest = hashlib.sha256(repr((made_at.name, model.model_version, HORIZONS)).encode())
    # A row that is published anew has another computed time; vectors need not be read to know.
    said = rows.select(USER_ID, PERIOD_START, COMPUTED_TIME)
    digest.update(said.hash_rows().to_numpy().tobytes())
    return digest.hexdigest()[:32]


def _content(rows: pl.DataFrame) -> str:
    said = rows.drop(COMPUTED_TIME, KNOWN_TIME)
    return hashlib.sha256(said.hash_rows().to_numpy().tobytes()).hexdigest()[:16]
