"""Refreshes interests, store to store, bucket by bucket: events -> vectors -> Feast.

Only users whom something concerns are read and made anew, each from their whole history, and only
rows that differ from what is published are published. Few users of many buckets are made together.
Online rows go first and offline rows last: offline rows are what a retry compares with, so a call
that was cut anywhere is simply made again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from services.core.chunks import Share, chunks
from services.core.errors import Cancelled
from services.core.interests import make_interests
from services.core.item_versions import ItemVersions
from services.core.lateness import NOTHING_LATE, late_arrivals
from services.core.model import Model
from services.core.schema import (
    EVENT_COUNT,
    KNOWN_TIME,
    PERIOD_START,
    USER_ID,
    VEC,
    Granularity,
    by_period_view,
    profile_view,
)
from services.core.spaces import require_space
from services.encoder.positions import (
    NO_VERSION_YET,
    Items,
    Position,
    are_others_still,
    items_of,
    items_to_state,
    position_after,
    position_of,
    recipe_of,
    users_to_make,
)
from services.encoder.publish import Publication, publish
from services.encoder.rows import (
    period_rows,
    restated_rows,
    rows_that_differ,
    users_with_gone_rows,
)
from services.encoder.stores import EncoderStores
from services.store.shares import BucketUsers

PROFILES = "profiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterestsConfig:
    """What decides results, beside the model."""

    bucket_count: int
    granularities: tuple[Granularity, ...]
    # More events of a user on a UTC day than this are a machine's.
    bulk_day_events: int
    # From a period's close to when a backfilled vector could have been known.
    publish_lag: timedelta
    # Under a replayed clock everything is history: nothing comes late.
    is_replay: bool = False
    # Users made and published at once; a cancelled call stops after at most this many.
    users_a_chunk: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class InterestsSummary:
    """What a refresh of interests did."""

    # Users whose vectors changed.
    user_count: int
    # Rows of vectors published, all granularities together.
    vector_count: int
    # Buckets that had something to look at.
    bucket_count: int
    space_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bucket:
    """What is read once for all users of a bucket."""

    bucket: int
    # Whom to make, ascending; at least their events.
    users: list[str]
    events: pl.DataFrame
    # From when on the bucket is live (see core.lateness); None where nothing of it was published.
    live_since: datetime | None
    # When it was looked at.
    looked: datetime
    # What is published of them: by granularity, and PROFILES.
    held: dict[str, pl.DataFrame]
    # Once all of them are published.
    after: Position


@dataclass(slots=True, kw_only=True)
class InterestsRefresh:
    """One refresh of one tenant's interests."""

    stores: EncoderStores
    model: Model
    config: InterestsConfig
    tenant: str
    # Event-time now.
    now: datetime
    # Item versions with vectors, fingerprints of them, and every version's row (ITEM_COLUMNS).
    versions: ItemVersions
    items: Items
    item_rows: pl.DataFrame

    def run(
        self, buckets: Sequence[int], *, is_full: bool, cancelled: Callable[[], bool]
    ) -> InterestsSummary:
        """Make and publish what changed in the buckets; none named means all.

        Raises:
            Cancelled: `cancelled` said so between chunks. A retry goes on with what is left.
            SpaceMismatch: the item versions are of another space than the model.
        """
        require_space(self.model.space_id, self.versions.space_id)
        users = vectors = done = 0
        wanted = sorted(set(buckets)) or range(self.config.bucket_count)
        looked = (self._look(bucket, is_full=is_full) for bucket in wanted)
        found = (each for each in looked if each is not None)
        # Whoever is erased is not published from what was read before.
        with self.stores.tables.publishing(self.tenant, cancelled):
            for chunk in chunks(found, lambda work: len(work.users), self.config.users_a_chunk):
                counts = self._chunk(chunk, cancelled)
                users, vectors = users + counts[0], vectors + counts[1]
                for share in chunk:
                    if share.is_last:
                        self._done(share.of)
                        done += 1
        return InterestsSummary(
            user_count=users, vector_count=vectors, bucket_count=done, space_id=self.model.space_id
        )

    def _look(self, bucket: int, *, is_full: bool) -> _Bucket | None:
        """Return whom to make of a bucket, with their events; None where nothing could differ."""
        tables, tenant = self.stores.tables, self.tenant
        recipe = recipe_of(self.model, self.config.granularities, self.config.bulk_day_events)
        position = position_of(tables.read_state(tenant, self._name(bucket)))
        if position is not None and (is_full or position.recipe != recipe):
            position = None
        since = position.version if position else NO_VERSION_YET
        changed, version = tables.changed_users(tenant, bucket, since)
        live_since, looked = self._live_since(bucket), self.stores.tables.tick()
        before = None
        if position is not None and are_others_still(position, self.items, self.now):
            if not changed:
                return None
            users, before = changed, position
            events = tables.read_events(tenant, bucket, users)
        else:
            events = tables.read_events(tenant, bucket)
            users = self._concerned(bucket, events, changed, position)
        after = position_after(
            events, version=version, items=self.items, recipe=recipe, now=self.now, before=before
        )
        held = self._held(bucket, users)
        return _Bucket(
            bucket=bucket,
            users=users,
            events=events,
            live_since=live_since,
            looked=looked,
            held=held,
            after=after,
        )

    def _live_since(self, bucket: int) -> datetime | None:
        """Return from when on the bucket is live, in whichever space it was published first."""
        if self.config.is_replay:
            return None
        since = self.stores.tables.read_state(self.tenant, _live_name(bucket)).get("since")
        return datetime.fromisoformat(since) if since else None

    def _concerned(
        self, bucket: int, events: pl.DataFrame, changed: list[str], position: Position | None
    ) -> list[str]:
        held_items: dict[str, str] | None = None
        if position is not None:
            state = self.stores.tables.read_state(self.tenant, f"{self._name(bucket)}_items")
            held_items = items_of(state, position.items)
        return users_to_make(
            events,
            changed,
            position if held_items is not None else None,
            held_items=held_items or {},
            items=self.items,
            now=self.now,
        )

    def _done(self, work: _Bucket) -> None:
        """Write down where a bucket stands."""
        tables, name = self.stores.tables, self._name(work.bucket)
        position = position_of(tables.read_state(self.tenant, name))
        if position is None or position.items != work.after.items:
            tables.write_state(self.tenant, f"{name}_items", items_to_state(self.items))
        tables.write_state(self.tenant, name, work.after.to_state())
        if work.live_since is None and not self.config.is_replay:
            since = {"since": work.looked.isoformat()}
            tables.write_state(self.tenant, _live_name(work.bucket), since)

    def _name(self, bucket: int) -> str:
        return f"interests_{self.model.space_id}_{bucket:04}"

    def _held(self, bucket: int, users: list[str]) -> dict[str, pl.DataFrame]:
        """Return what is published of users of a bucket: vectors by granularity, and profiles."""
        read, space_id = self.stores.features.read_offline, self.model.space_id
        columns = (VEC, EVENT_COUNT, PERIOD_START, KNOWN_TIME)
        held: dict[str, pl.DataFrame] = {
            granularity: read(
                self.tenant, by_period_view(granularity, space_id), bucket, users, columns
            )
            for granularity in self.config.granularities
        }
        return held | {PROFILES: read(self.tenant, profile_view(space_id), bucket, users)}

    def _chunk(self, chunk: list[Share[_Bucket]], cancelled: Callable[[], bool]) -> tuple[int, int]:
        """Make and publish some users; returns users and vectors that changed."""
        if not any(share.stop for share in chunk):
            return 0, 0
        if cancelled():
            raise Cancelled("refresh of interests")
        events = [_of_users(share.of.events, _users(share)) for share in chunk]
        made = make_interests(
            pl.concat(events),
            self.versions,
            pooling=self.model.pooling,
            granularities=self.config.granularities,
            now=self.now,
            bulk_day_events=self.config.bulk_day_events,
        )
        computed_time = self.stores.tables.tick()
        fresh = {
            granularity: period_rows(
                made,
                granularity,
                model_version=self.model.model_version,
                now=self.now,
                computed_time=computed_time,
                publish_lag=self.config.publish_lag,
                late=pl.concat(
                    self._late(rows, granularity, share.of.live_since)
                    for rows, share in zip(events, chunk, strict=True)
                ),
            )
            for granularity in self.config.granularities
        }
        held = {
            view: pl.concat(_of_users(share.of.held[view], _users(share)) for share in chunk)
            for view in chunk[0].of.held
        }
        gone = self._take_back(fresh, held)
        different = {
            granularity: rows_that_differ(rows, held[granularity], is_replay=self.config.is_replay)
            for granularity, rows in fresh.items()
        }
        publication = Publication(
            shares=tuple(
                BucketUsers(
                    bucket=share.of.bucket,
                    users=_users(share),
                    # Of the event table.
                    prefix=f"v{share.of.after.version:010}",
                )
                for share in chunk
            ),
            made=made,
            fresh=fresh,
            different=different,
            restated={g: restated_rows(different[g], fresh[g], held[g]) for g in fresh},
            held_profiles=held[PROFILES],
            item_ids=self.versions.item_ids,
            computed_time=computed_time,
        )
        publish(self.stores.features, self.model, self.tenant, publication)
        changed = [rows[USER_ID].to_list() for rows in publication.different.values()]
        return len(gone.union(*changed)), sum(map(len, changed))

    def _late(
        self, events: pl.DataFrame, granularity: Granularity, since: datetime | None
    ) -> pl.DataFrame:
        if since is None:
            return NOTHING_LATE
        return late_arrivals(events, self.item_rows, granularity, since)

    def _take_back(
        self, fresh: dict[Granularity, pl.DataFrame], held: dict[str, pl.DataFrame]
    ) -> set[str]:
        """Erase users of whom a published period is no more; they count as never published.

        The history is append-only: to take one row back is to take all, and publish the rest anew.
        """
        gone = {
            user
            for granularity, rows in fresh.items()
            for user in users_with_gone_rows(rows, held[granularity])
        }
        if gone:
            self.stores.features.erase(self.tenant, self.model.space_id, sorted(gone))
            for view, rows in held.items():
                held[view] = rows.filter(~pl.col(USER_ID).is_in(list(gone)))
        return gone


def _live_name(bucket: int) -> str:
    return f"live_{bucket:04}"


def _users(share: Share[_Bucket]) -> list[str]:
    return share.of.users[share.start : share.stop]


def _of_users(rows: pl.DataFrame, users: list[str]) -> pl.DataFrame:
    return rows.filter(pl.col(USER_ID).is_in(users))
