"""Measures how well a store is, after a refresh: what is covered, what drifts, what online and offline say.

Shape suffixes: U = users of a period, N = items, D = width, T = periods.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from services.core.classify import IS_BULK_DAY, with_bulk_days
from services.core.drift import DRIFT_PERIODS, Drift, drift_of
from services.core.periods import closed_before
from services.core.pooling import F64
from services.core.records import F32, InterestVector
from services.core.schema import (
    DEFAULT_TENANT,
    EVENT_COUNT,
    EVENT_TIME,
    ITEM_ID,
    PERIOD_START,
    UPDATED_TIME,
    USER_ID,
    VEC,
    Granularity,
    by_period_view,
)
from services.pipeline.refresh import Stores
from services.runtime.settings import Settings
from services.store.health import HEALTH, Health, health_to_state
from services.store.ports import Catalogue, CatalogueStore, InterestReader

# A look reads every bucket: not after each refresh.
LOOK_EVERY = timedelta(hours=1)
# Vectors of a period that drift is measured on at most, and scores: bucket after bucket.
DRIFT_USERS, SCORED_USERS = 20_000, 500
# Users whose online vectors are compared with the offline ones.
COMPARED_USERS = 200
# Online and offline vectors nearer than this in every component are the same.
SAME = 1e-6


class StoreCheck:
    """One look at one tenant's live space."""

    def __init__(
        self,
        stores: Stores,
        catalogues: CatalogueStore,
        open_reader: Callable[[], AbstractAsyncContextManager[InterestReader]],
        settings: Settings,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        """Look at nothing yet.

        Args:
            stores: events, items, offline history, registry.
            catalogues: the index of the live space.
            open_reader: opens the online store, as gateways read it.
            settings: buckets, granularities, clock.
            tenant: whose.

        Raises:
            NotReady: no model is live, or no index was published.
        """
        self._tables, self._features = stores.tables, stores.features
        self._open_reader, self._settings, self._tenant = open_reader, settings, tenant
        self._space_id = stores.models.live(tenant).space_id
        self._catalogue = catalogues.current(tenant, self._space_id)
        self._now = settings.clock()
        has_weeks = Granularity.WEEK in settings.granularities
        self._granularity = Granularity.WEEK if has_weeks else settings.granularities[0]

    def look(self, seed: int = 0) -> Health:
        """Measure everything.

        Raises:
            DependencyUnavailable: a store does not answer.
        """
        drift = self._drift()
        name = str(self._granularity)
        return Health(
            measured_time=datetime.now(UTC),
            space_id=self._space_id,
            users_covered=self._users_covered(),
            items_covered=self._items_covered(),
            divergence=asyncio.run(self._divergence(np.random.default_rng(seed))),
            vector_drift={} if drift.vectors is None else {name: drift.vectors},
            score_drift={} if drift.scores is None else {name: drift.scores},
        )

    def _offline(self, bucket: int, columns: Sequence[str]) -> pl.DataFrame:
        view = by_period_view(self._granularity, self._space_id)
        return self._features.read_offline(self._tenant, view, bucket, columns=columns)

    def _users_covered(self) -> float:
        """Return the share of users with events of indexed items who have a vector."""
        items = list(self._catalogue.item_ids)
        usable = (pl.col(EVENT_TIME) <= self._now) & pl.col(ITEM_ID).is_in(items)
        wanted = covered = 0
        for bucket in range(self._settings.bucket_count):
            events = with_bulk_days(self._tables.read_events(self._tenant, bucket).filter(usable))
            users = set(events.filter(~pl.col(IS_BULK_DAY))[USER_ID].unique())
            wanted += len(users)
            covered += len(users & set(self._offline(bucket, (EVENT_COUNT,))[USER_ID]))
        return covered / wanted if wanted else 1.0

    def _items_covered(self) -> float:
        """Return the share of items in force that are in the index."""
        items = self._tables.read_items(self._tenant).filter(pl.col(UPDATED_TIME) <= self._now)
        wanted = set(items[ITEM_ID].unique())
        return len(wanted & set(self._catalogue.item_ids)) / len(wanted) if wanted else 1.0

    async def _divergence(self, rng: np.random.Generator) -> float:
        """Return the share of sampled users whose online vector is not the newest offline one."""
        sampled = COMPARED_USERS // self._settings.bucket_count + 1
        compared = diverged = 0
        async with self._open_reader() as reader:
            for bucket in range(self._settings.bucket_count):
                users = self._offline(bucket, (EVENT_COUNT,))[USER_ID].unique().sort()
                drawn = rng.choice(len(users), size=min(sampled, len(users)), replace=False)
                asked = [users[int(row)] for row in np.sort(drawn)]
                different = await self._different(reader, bucket, asked)
                # What was published between the two reads is no divergence.
                different = await self._different(reader, bucket, different)
                compared, diverged = compared + len(asked), diverged + len(different)
        return diverged / compared if compared else 0.0

    async def _different(self, reader: InterestReader, bucket: int, users: list[str]) -> list[str]:
        """Return the users whose online vector is another one than offline, or none."""
        if not users:
            return []
        view = by_period_view(self._granularity, self._space_id)
        rows = self._features.read_offline(
            self._tenant, view, bucket, users, columns=(VEC, EVENT_COUNT, PERIOD_START)
        )
        newest = rows.sort(USER_ID, PERIOD_START).unique(USER_ID, keep="last")
        offline = {row[USER_ID]: row for row in newest.iter_rows(named=True)}
        online = await reader.interests(self._tenant, self._space_id, users, self._granularity)
        pairs = zip(users, online, strict=True)
        return [user for user, vector in pairs if not _is_same(vector, offline.get(user))]

    def _drift(self) -> Drift:
        """Compare the last closed period with those before it."""
        last = closed_before(self._granularity, self._now)
        starts = [(last + -back).start for back in range(DRIFT_PERIODS - 1, -1, -1)]
        rows = self._recent(starts[0], last.start)
        vec_TUD = [_vectors(rows.filter(pl.col(PERIOD_START) == start)) for start in starts]
        # A store that is younger than the stretch: its first, empty periods say nothing.
        while vec_TUD and not len(vec_TUD[0]):
            vec_TUD.pop(0)
        if any(not len(vec_UD) for vec_UD in vec_TUD) or not len(self._catalogue.item_ids):
            return Drift(vectors=None, scores=None)
        return drift_of(vec_TUD, [_scores(vec_UD, self._catalogue) for vec_UD in vec_TUD])

    def _recent(self, first: datetime, last: datetime) -> pl.DataFrame:
        """Return vectors of closed periods, of as many buckets as are needed."""
        parts, users = [], 0
        for bucket in range(self._settings.bucket_count):
            rows = self._offline(bucket, (VEC, PERIOD_START))
            parts.append(rows.filter(pl.col(PERIOD_START).is_between(first, last)))
            users += parts[-1][USER_ID].n_unique()
            if users >= DRIFT_USERS:
                break
        return pl.concat(parts)


def is_due(stores: Stores, tenant: str) -> bool:
    """Tell whether the last look is older than `LOOK_EVERY`, or there was none."""
    said = stores.tables.read_state(tenant, HEALTH).get("measured_time")
    # One that says it is of the future was made by a clock that has been set back.
    return said is None or abs(datetime.now(UTC) - datetime.fromisoformat(said)) > LOOK_EVERY


def keep_health(stores: Stores, check: StoreCheck, tenant: str) -> Health:
    """Look, and keep what was seen where gateways read it."""
    health = check.look()
    stores.tables.write_state(tenant, HEALTH, health_to_state(health))
    return health


def _is_same(online: InterestVector | None, offline: dict[str, object] | None) -> bool:
    if online is None or offline is None:
        return online is None and offline is None
    vec_D = np.asarray(offline[VEC], np.float32)
    return (
        online.period.start == offline[PERIOD_START]
        and online.event_count == offline[EVENT_COUNT]
        and vec_D.shape == online.vec_D.shape
        and bool(np.abs(online.vec_D - vec_D).max() <= SAME)
    )


def _vectors(rows: pl.DataFrame) -> F32:
    if rows.is_empty():
        return np.zeros((0, 0), np.float32)
    vec_UD: F32 = rows[VEC].explode().to_numpy().reshape(len(rows), -1)
    return vec_UD


def _scores(vec_UD: F32, catalogue: Catalogue) -> F64:
    """Return how near each of some users is to the nearest item: what a ranking by interest starts from."""
    score_UN = vec_UD[:SCORED_USERS] @ np.asarray(catalogue.items_ND).T
    best_U: F64 = score_UN.max(axis=1).astype(np.float64)
    return best_U
