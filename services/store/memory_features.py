"""Features in memory: the tests' default for FeatureWriter, InterestReader and HistoryReader."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
import polars as pl

from services.core import schema as names
from services.core.activity import Activity
from services.core.burst_everyone import PopulationBursts, UserBursts
from services.core.errors import NotReady
from services.core.periods import Period
from services.core.records import Forecast, InterestVector, Profile, RankState
from services.core.schema import DEFAULT_TENANT, Granularity, bucket_of
from services.core.views import FeatureType, View, view_named, views_of
from services.store.erasing import Left, Removed
from services.store.frames import (
    by_period_frame,
    columns_of,
    conform,
    kept_columns,
    newest_rows,
    rows_frame,
)
from services.store.history_reader import newest_forecast, trajectory_of
from services.store.interest_reads import InterestReads, StoredRow
from services.store.rows import (
    features_of_activity,
    features_of_bursts,
    features_of_forecast,
    features_of_history,
    features_of_interest,
    features_of_population,
    features_of_profile,
    features_of_rank_state,
)

_Key = tuple[str, str]
Held = TypeVar("Held")


class MemoryFeatures(InterestReads):
    """Keeps what is written, and reads it back as the real stores do. Not safe between threads."""

    def __init__(self, bucket_count: int = 8) -> None:
        self._bucket_count = bucket_count
        # Rows by id, by (tenant, view); parts by (bucket, part), by (tenant, view).
        self._online: dict[_Key, dict[str, StoredRow]] = {}
        self._offline: dict[_Key, dict[tuple[int, str], pl.DataFrame]] = {}
        # When each (tenant, space) was first applied.
        self._declared: dict[_Key, datetime] = {}
        # The space that feature services answer from, by tenant.
        self.served: dict[str, str] = {}

    def apply(self, tenant: str, space_id: str) -> None:
        """Declare every view of a space."""
        self._declared.setdefault((tenant, space_id), datetime.now(UTC))
        for name in views_of(space_id):
            self._online.setdefault((tenant, name), {})
            self._offline.setdefault((tenant, name), {})
        self.served.setdefault(tenant, space_id)

    def point_services(self, tenant: str, space_id: str) -> None:
        """Make the feature services answer from a space."""
        self._applied(self._online, tenant, view_named(names.rank_state_view(space_id)))
        self.served[tenant] = space_id

    def mark_filled(self, tenant: str) -> None:
        """Nothing is lost while it lives."""

    def write_online(self, tenant: str, view: str, rows: pl.DataFrame) -> None:
        """Write rows; an older computed time than the stored one is ignored, as Redis does."""
        spec = view_named(view)
        stored = self._applied(self._online, tenant, spec)
        for row in conform(spec, rows, has_known_time=False).iter_rows(named=True):
            key, computed_time = row[spec.join_keys[0]], row[names.COMPUTED_TIME]
            if key in stored and stored[key].computed_time >= computed_time:
                continue
            features = {
                name: np.asarray(row[name], np.float32) if kind is FeatureType.VECTOR else row[name]
                for name, kind in spec.features.items()
            }
            stored[key] = StoredRow(features, computed_time)

    def write_online_views(self, tenant: str, rows_of: Mapping[str, pl.DataFrame]) -> None:
        """Write rows of several views."""
        for view, rows in rows_of.items():
            self.write_online(tenant, view, rows)

    def append_offline(
        self, tenant: str, view: str, bucket: int, part: str, rows: pl.DataFrame
    ) -> None:
        """Keep one part; the same name again replaces it."""
        spec = view_named(view)
        self._applied(self._offline, tenant, spec)[bucket, part] = conform(spec, rows)

    def read_offline(
        self,
        tenant: str,
        view: str,
        bucket: int,
        users: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        parts: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Return the newest row of each user (and period, where the view has one) of a bucket."""
        spec = view_named(view)
        rows = self._rows(tenant, spec, bucket, parts)
        if users is not None:
            rows = rows.filter(pl.col(names.USER_ID).is_in(users))
        kept = kept_columns(spec, columns)
        return newest_rows(spec, rows if kept is None else rows.select(kept))

    def offline_parts(self, tenant: str, view: str, bucket: int) -> list[str]:
        """Return the names of a bucket's parts, ascending."""
        held = self._applied(self._offline, tenant, view_named(view))
        return sorted(part for of, part in held if of == bucket)

    def erase(self, tenant: str, space_id: str, user_ids: list[str]) -> None:
        """Remove users from every view of a space."""
        for name, spec in views_of(space_id).items():
            if names.USER_ID not in spec.join_keys:
                continue
            for user_id in user_ids:
                self._online.get((tenant, name), {}).pop(user_id, None)
            parts = self._offline.get((tenant, name), {})
            for key, rows in parts.items():
                parts[key] = rows.filter(~pl.col(names.USER_ID).is_in(user_ids))

    def forget_online(self, tenant: str, view: str, ids: Sequence[str]) -> None:
        """Remove rows of one view from what is served."""
        for id_ in ids:
            self._online.get((tenant, view), {}).pop(id_, None)

    def erase_everywhere(
        self, tenant: str, bucket: int, user_ids: Sequence[str]
    ) -> dict[str, Removed]:
        """Remove users from every view of every space; returns rows by place."""
        online: Counter[str] = Counter()
        offline: Counter[str] = Counter()
        for (owner, _), rows in self._online.items():
            if owner == tenant:
                online.update(user for user in user_ids if rows.pop(user, None))
        for (owner, _), parts in self._offline.items():
            for key, frame in parts.items() if owner == tenant else ():
                if names.USER_ID in frame.columns:
                    is_theirs = pl.col(names.USER_ID).is_in(user_ids)
                    offline.update(frame.filter(is_theirs)[names.USER_ID].to_list())
                    parts[key] = frame.filter(~is_theirs)
        return {"online features": dict(online), "offline features": dict(offline)}

    def scrub(self, tenant: str, since: datetime) -> Left:
        """Nothing stays behind in memory."""
        return {}

    async def fetch(self, tenant: str, view: str, user_ids: list[str]) -> list[StoredRow | None]:
        """Return each user's row in the order asked."""
        stored = self._applied(self._online, tenant, view_named(view))
        return [stored.get(user_id) for user_id in user_ids]

    async def trajectory(
        self,
        tenant: str,
        space_id: str,
        user_id: str,
        granularity: Granularity,
        *,
        event_time: datetime,
        ingest_time: datetime,
        limit: int,
        before: int | None = None,
    ) -> list[InterestVector]:
        """Return what was known at an instant; see the port HistoryReader."""
        spec = view_named(names.by_period_view(granularity, space_id))
        rows = self._rows(tenant, spec, bucket_of(user_id, self._bucket_count))
        return trajectory_of(
            rows.filter(pl.col(names.USER_ID) == user_id),
            granularity,
            space_id=space_id,
            event_time=event_time,
            ingest_time=ingest_time,
            limit=limit,
            declared=self._declared.get((tenant, space_id)),
            before=before,
        )

    async def forecast_at(
        self,
        tenant: str,
        space_id: str,
        user_id: str,
        granularity: Granularity,
        *,
        event_time: datetime,
        ingest_time: datetime,
    ) -> Forecast | None:
        """Return the newest forecast that had been made by an instant; see the port HistoryReader."""
        spec = view_named(names.forecast_view(granularity, space_id))
        rows = self._rows(tenant, spec, bucket_of(user_id, self._bucket_count))
        return newest_forecast(
            rows.filter(pl.col(names.USER_ID) == user_id),
            granularity,
            space_id=space_id,
            event_time=event_time,
            ingest_time=ingest_time,
            declared=self._declared.get((tenant, space_id)),
        )

    def put_interest(
        self, user_id: str, *vectors: InterestVector, space_id: str, tenant: str = DEFAULT_TENANT
    ) -> None:
        """Publish a user's vectors of one granularity, oldest first, as the encoder does."""
        self.apply(tenant, space_id)
        granularity, newest = vectors[-1].period.granularity, vectors[-1]
        bucket = bucket_of(user_id, self._bucket_count)
        by_period = names.by_period_view(granularity, space_id)
        for vector in vectors:
            rows = by_period_frame(
                granularity,
                [user_id],
                np.asarray([vector.period.ordinal]),
                vector.vec_D[None],
                np.asarray([vector.event_count]),
                model_version=vector.model_version,
                known_times=[vector.known_time],
                computed_time=vector.computed_time,
            )
            part = f"put-{len(self._offline[tenant, by_period])}"
            self.append_offline(tenant, by_period, bucket, part, rows)
        for view, features in (
            (names.interest_view(granularity, space_id), features_of_interest(newest)),
            (names.history_view(granularity, space_id), features_of_history(vectors)),
        ):
            self._put(tenant, view, user_id, features, newest.computed_time)

    def put_forecast(
        self, user_id: str, forecast: Forecast, *, space_id: str, tenant: str = DEFAULT_TENANT
    ) -> None:
        """Publish a forecast."""
        self.apply(tenant, space_id)
        view = names.forecast_view(forecast.made_at.granularity, space_id)
        features = features_of_forecast(forecast)
        rows = rows_frame(view, [user_id], [features], computed_time=forecast.computed_time)
        self.write_online(tenant, view, rows)
        part = f"put-{len(self._offline[tenant, view])}"
        self.append_offline(tenant, view, bucket_of(user_id, self._bucket_count), part, rows)

    def put_rank_state(
        self,
        user_id: str,
        state: RankState,
        *,
        space_id: str,
        computed_time: datetime,
        model_version: str = "test",
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        """Publish a rank state."""
        self.apply(tenant, space_id)
        features = features_of_rank_state(state, model_version)
        self._put(tenant, names.rank_state_view(space_id), user_id, features, computed_time)

    def put_profile(
        self,
        user_id: str,
        profile: Profile,
        *,
        space_id: str,
        computed_time: datetime,
        model_version: str = "test",
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        """Publish a portrait."""
        self.apply(tenant, space_id)
        features = features_of_profile(profile, model_version)
        self._put(tenant, names.profile_view(space_id), user_id, features, computed_time)

    def put_activity(
        self,
        user_id: str,
        activity: Activity,
        *,
        space_id: str,
        computed_time: datetime,
        model_version: str = "test",
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        """Publish what a user did."""
        self.apply(tenant, space_id)
        features = features_of_activity(activity, model_version)
        self._put(tenant, names.activity_view(space_id), user_id, features, computed_time)

    def put_bursts(
        self,
        user_id: str,
        known: UserBursts,
        *,
        space_id: str,
        computed_time: datetime,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        """Publish a user's bursts."""
        self.apply(tenant, space_id)
        view = names.bursts_view(known.known_at.granularity, space_id)
        self._put(tenant, view, user_id, features_of_bursts(known), computed_time)

    def put_population_bursts(
        self,
        known: PopulationBursts,
        names_of_topics: Sequence[str],
        *,
        known_at: Period,
        space_id: str,
        computed_time: datetime,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        """Publish what rose for everyone."""
        self.apply(tenant, space_id)
        view = names.population_bursts_view(known_at.granularity, space_id)
        features = features_of_population(known, names_of_topics, known_at)
        self._put(tenant, view, names.EVERYONE, features, computed_time)

    def _put(
        self, tenant: str, view: str, user_id: str, features: dict[str, object], time: datetime
    ) -> None:
        rows = rows_frame(view, [user_id], [features], computed_time=time)
        self.write_online(tenant, view, rows)

    def _rows(
        self, tenant: str, view: View, bucket: int, parts: Sequence[str] | None = None
    ) -> pl.DataFrame:
        held: Sequence[pl.DataFrame] = [
            rows
            for (of, part), rows in sorted(
                self._applied(self._offline, tenant, view).items(), key=lambda item: item[0]
            )
            if of == bucket and (parts is None or part in parts)
        ]
        return pl.concat([pl.DataFrame(schema=columns_of(view)), *held])

    @staticmethod
    def _applied(of: dict[_Key, Held], tenant: str, view: View) -> Held:
        if (tenant, view.name) not in of:
            raise NotReady(f"view {view.name}", "run `driftline refresh`")
        return of[tenant, view.name]
