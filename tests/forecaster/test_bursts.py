"""Bursts beside forecasts, store to store: what is stored, when it was known, and that steps are one pass."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from services.core.burst_everyone import named_bursts
from services.core.burst_spec import with_burst_model
from services.core.burst_state import BurstModel, BurstType
from services.core.forecasters import untrained_spec
from services.core.local_level import LocalLevel
from services.core.periods import Period, period_from_name
from services.core.schema import (
    COMPUTED_TIME,
    DEFAULT_TENANT,
    KNOWN_TIME,
    Granularity,
    bucket_of,
    burst_state_view,
    bursts_by_period_view,
    bursts_view,
    by_period_view,
    population_bursts_view,
)
from services.forecaster.forecaster import ForecasterStores, InterestForecaster
from services.runtime.settings import Settings
from services.store.frames import by_period_frame
from services.store.memory_events import EventMemory, MemoryTables
from tests.encoder.world import BUCKETS, WIDTH, CountingFeatures, HeldModels, model

WEEK = Granularity.WEEK
FIRST = period_from_name(WEEK, "2025-W20").ordinal
PERIODS = 30
USERS = [f"u{n}" for n in range(9)]
NAMES = ("tea", "games", "garden", "travel")
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)
TOPICS = np.eye(WIDTH, dtype=np.float32)


def burst_model():
    level = LocalLevel(
        centre_D=np.full(WIDTH, 0.1, np.float32), basis_DK=np.eye(WIDTH, dtype=np.float32),
        inverse_KD=np.eye(WIDTH, dtype=np.float32), rho_K=np.full(WIDTH, 0.98, np.float32),
        variance_K=np.full(WIDTH, 0.1, np.float32), noise_K=np.full(WIDTH, 0.3, np.float32),
        count_power=1.0,
    )  # fmt: skip
    return BurstModel(level=level, topics_GD=TOPICS, names_G=NAMES, count_offset=1.0, threshold=6.0)


def live():
    made = model()
    made.forecasters[WEEK] = with_burst_model(untrained_spec(WIDTH), burst_model())
    return made


class World:
    """Users who drink tea; what bursts is planted on top."""

    def __init__(self):
        self.features, self.models = CountingFeatures(), HeldModels(live())
        self.tables = MemoryTables(EventMemory(), BUCKETS)
        self.space_id = self.models.live.space_id
        self.features.apply(DEFAULT_TENANT, self.space_id)
        rng = np.random.default_rng(3)
        noise = rng.normal(size=(len(USERS), PERIODS, WIDTH)) * np.sqrt(0.3 / 21)
        self.vec = TOPICS[0] + noise
        self.mask = rng.random((len(USERS), PERIODS)) < 0.9

    def plant(self, user, columns, topic, share=0.7):
        for t in columns:
            self.mask[user, t] = True
            self.vec[user, t] = (1 - share) * self.vec[user, t] + share * TOPICS[topic]

    def publish(self, columns, users=range(9), name="p"):
        view = by_period_view(WEEK, self.space_id)
        for user in users:
            at = [t for t in columns if self.mask[user, t]]
            if not at:
                continue
            vec = self.vec[user, at]
            frame = by_period_frame(
                WEEK, [USERS[user]] * len(at), FIRST + np.array(at),
                (vec / np.linalg.norm(vec, axis=1, keepdims=True)).astype(np.float32),
                np.full(len(at), 20), model_version="m1", known_times=[LONG_AGO] * len(at),
                computed_time=datetime.now(UTC),
            )  # fmt: skip
            bucket = bucket_of(USERS[user], BUCKETS)
            part = f"{name}-{user}-{columns[0]}"
            self.features.append_offline(DEFAULT_TENANT, view, bucket, part, frame)

    def refresh(self, last, *, is_full=False):
        """Refresh in the middle of the week after column `last`."""
        now = Period(WEEK, FIRST + last).end + timedelta(days=2)
        settings = Settings(bucket_count=BUCKETS, now=now, granularities="week")
        stores = ForecasterStores(models=self.models, tables=self.tables, features=self.features)
        forecaster = InterestForecaster(stores, settings)
        forecaster.refresh_forecasts(DEFAULT_TENANT, (), is_full=is_full, cancelled=lambda: False)
        return forecaster.refresh_population(DEFAULT_TENANT)

    async def bursts(self, user):
        known = await self.features.bursts(DEFAULT_TENANT, self.space_id, USERS[user], WEEK)
        everyone = await self.features.population_bursts(DEFAULT_TENANT, self.space_id, WEEK)
        return named_bursts(known, everyone) if known else ()

    async def forecast(self, user):
        return await self.features.forecast(DEFAULT_TENANT, self.space_id, USERS[user], WEEK)

    def offline(self, view):
        parts = [
            self.features.read_offline(DEFAULT_TENANT, view(WEEK, self.space_id), bucket)
            for bucket in range(BUCKETS)
        ]
        return pl.concat(parts)


def planted():
    w = World()
    w.plant(1, range(15, 18), topic=2)
    for user in range(3, 9):
        w.plant(user, [24], topic=3)
    return w


def whole():
    w = planted()
    w.publish(range(PERIODS))
    w.refresh(PERIODS - 1)
    return w


def week(column):
    return Period(WEEK, FIRST + column)


async def test_a_burst_is_stored_with_its_weeks_type_size_and_topic():
    (one,) = await whole().bursts(1)
    assert (one.first, one.last) == (week(15), week(17))
    assert (one.kind, one.name, one.topic) == (BurstType.PERSONAL, "garden", 2)
    assert 0.4 < one.share < 0.9
    assert not one.is_lasting


async def test_a_burst_of_everyone_is_called_so_from_the_sums_of_all_buckets():
    w = whole()
    assert len({bucket_of(user, BUCKETS) for user in USERS[3:]}) > 1
    for user in range(3, 9):
        (one,) = await w.bursts(user)
        assert (one.kind, one.name, one.first) == (BurstType.POPULATION, "travel", week(24))
    assert await w.bursts(0) == ()


async def test_week_by_week_stores_what_one_backfill_does():
    steps, once = planted(), whole()
    for column in range(PERIODS):
        steps.publish([column])
        if column >= 4:
            steps.refresh(column)
    for user in range(len(USERS)):
        assert await steps.bursts(user) == await once.bursts(user)
        mine, theirs = await steps.forecast(user), await once.forecast(user)
        np.testing.assert_allclose(mine.means_HD, theirs.means_HD, atol=1e-6)
        np.testing.assert_allclose(mine.scales_HD, theirs.scales_HD, atol=1e-6)
    for view in (bursts_by_period_view, burst_state_view, population_bursts_view):
        mine, theirs = (w.offline(view).drop(COMPUTED_TIME) for w in (steps, once))
        assert len(theirs)
        assert mine.equals(theirs), view


def test_a_state_is_kept_once_a_user_however_often_it_went_on():
    w = planted()
    for column in range(10, 20):
        w.publish(range(11) if column == 10 else [column])
        w.refresh(column)
    view = burst_state_view(WEEK, w.space_id)
    assert w.features.offline_rows(view) == len(USERS)


def test_what_was_known_at_a_close_holds_nothing_that_came_later():
    rows = whole().offline(bursts_by_period_view).filter(pl.col("user_id") == USERS[1])
    firsts = rows.sort("period").select("period", KNOWN_TIME, "burst_last_periods", "is_lasting")
    said = [(p, ends[0], lasting) for p, _, ends, lasting in firsts.iter_rows()]
    end = week(18) if w_active(18) else week(19)
    assert said == [
        (week(15).name, week(15).name, True),
        (week(16).name, week(16).name, True),
        (week(17).name, week(17).name, True),
        (end.name, week(17).name, False),
    ]
    known = rows.sort("period")[KNOWN_TIME].to_list()
    assert known[0] == week(15).end + timedelta(hours=1)
    assert known == sorted(known)


def w_active(column):
    return planted().mask[1, column]


async def test_a_forecast_is_wider_in_a_burst_and_as_before_after_it():
    w, calm = planted(), World()
    for world in (w, calm):
        world.publish(range(17))
        world.refresh(16)
    mine, theirs = await w.forecast(1), await calm.forecast(1)
    assert (mine.scales_HD[:, 2] > 1.15 * theirs.scales_HD[:, 2]).all()
    assert (mine.means_HD[:, 2] > theirs.means_HD[:, 2] + 0.1).all()
    same = await w.forecast(0)
    np.testing.assert_array_equal(same.scales_HD, (await calm.forecast(0)).scales_HD)
    for world in (w, calm):
        world.publish(range(17, PERIODS))
        world.refresh(PERIODS - 1)
    mine, theirs = await w.forecast(1), await calm.forecast(1)
    np.testing.assert_allclose(mine.scales_HD, theirs.scales_HD, rtol=0.05)
    np.testing.assert_allclose(mine.means_HD, theirs.means_HD, atol=0.1)


async def test_late_events_take_a_burst_back_everywhere():
    w = whole()
    calm = World()
    w.vec[1], w.mask[1] = calm.vec[1], calm.mask[1] | w.mask[1]
    w.publish(range(15, 18), users=[1], name="late")
    w.refresh(PERIODS - 1)
    assert await w.bursts(1) == ()
    rows = w.offline(bursts_by_period_view).filter(pl.col("user_id") == USERS[1])
    assert len(rows) == 4
    assert rows["burst_types"].list.len().to_list() == [0] * 4
    (other,) = await w.bursts(5)
    assert other.name == "travel"


async def test_nothing_is_left_of_an_erased_user():
    w = whole()
    w.features.erase(DEFAULT_TENANT, w.space_id, [USERS[1]])
    for view in (bursts_by_period_view, burst_state_view):
        assert USERS[1] not in set(w.offline(view)["user_id"])
    assert await w.bursts(1) == ()
    w.refresh(PERIODS - 1)
    assert USERS[1] not in w.features.user_ids(bursts_view(WEEK, w.space_id))
    assert len(w.offline(burst_state_view)) == len(USERS) - 1


def test_a_second_refresh_and_a_full_one_publish_nothing_twice():
    w = whole()
    view = bursts_by_period_view(WEEK, w.space_id)
    before = w.features.offline_rows(view)
    w.features.online.clear()
    w.refresh(PERIODS - 1)
    w.refresh(PERIODS - 1, is_full=True)
    assert w.features.offline_rows(view) == before
    assert [name for name, _ in w.features.online if "burst" in name] == []


async def test_a_refresh_that_was_cut_is_made_whole_by_the_next():
    w, once = planted(), whole()
    w.publish(range(PERIODS - 1))
    w.refresh(PERIODS - 2)
    w.publish([PERIODS - 1])
    w.features.fail_offline_after = len(w.features.parts) + 3
    with pytest.raises(ConnectionError):
        w.refresh(PERIODS - 1)
    w.features.fail_offline_after = None
    w.refresh(PERIODS - 1)
    mine, theirs = (each.offline(burst_state_view).drop(COMPUTED_TIME) for each in (w, once))
    assert mine.equals(theirs)


async def test_a_model_that_tells_no_bursts_stores_none():
    w = planted()
    w.models.live = model()
    w.publish(range(PERIODS))
    assert w.refresh(PERIODS - 1) == 0
    assert await w.bursts(1) == ()
    assert w.offline(burst_state_view).is_empty()
