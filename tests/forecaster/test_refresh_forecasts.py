from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from services.core.errors import Cancelled, InvalidArgument
from services.core.periods import Period, period_from_name
from services.core.schema import (
    DEFAULT_TENANT,
    Granularity,
    bucket_of,
    by_period_view,
    forecast_state_view,
    forecast_view,
)
from services.forecaster.forecaster import ForecasterStores, InterestForecaster
from services.runtime.settings import Settings
from services.store.frames import by_period_frame
from services.store.memory_events import EventMemory, MemoryTables
from tests.encoder.world import BUCKETS, NOW, WIDTH, CountingFeatures, HeldModels, model

WEEK = Granularity.WEEK
USERS = [f"u{n}" for n in range(8)]


class World:
    def __init__(self, **settings):
        self.features = CountingFeatures()
        self.tables = MemoryTables(EventMemory(), BUCKETS)
        self.models = HeldModels(model())
        self.settings = Settings(bucket_count=BUCKETS, now=NOW, granularities="week", **settings)
        self.space_id = self.models.live.space_id
        self.features.apply(DEFAULT_TENANT, self.space_id)
        self._parts = 0

    def put(self, user, known=None, **vectors):
        """Publish vectors of a user by the period's name, with the dashes left out."""
        self._parts += 1
        names = [f"{name[1:5]}-{name[5:]}" for name in vectors]
        frame = by_period_frame(
            WEEK,
            [user] * len(names),
            np.array([period_from_name(WEEK, name).ordinal for name in names]),
            np.array(list(vectors.values()), np.float32),
            np.ones(len(names), np.int64),
            model_version="m1",
            known_times=known or [period_from_name(WEEK, name).end for name in names],
            computed_time=datetime.now(UTC),
        )
        view = by_period_view(WEEK, self.space_id)
        bucket = bucket_of(user, BUCKETS)
        self.features.append_offline(DEFAULT_TENANT, view, bucket, f"p{self._parts}", frame)

    def refresh(self, buckets=(), *, is_full=False, cancelled=lambda: False, now=NOW):
        stores = ForecasterStores(models=self.models, tables=self.tables, features=self.features)
        settings = self.settings.model_copy(update={"now": now})
        forecaster = InterestForecaster(stores, settings)
        return forecaster.refresh_forecasts(
            DEFAULT_TENANT, buckets, is_full=is_full, cancelled=cancelled
        )

    async def forecast(self, user):
        return await self.features.forecast(DEFAULT_TENANT, self.space_id, user, WEEK)

    @property
    def copies(self):
        return self.features.offline_rows(forecast_view(WEEK, self.space_id))


EAST, NORTH = [1, 0, 0, 0], [0, 1, 0, 0]


def many(**settings):
    w = World(**settings)
    for n, user in enumerate(USERS):
        w.put(user, w2026W10=EAST, w2026W12=NORTH if n % 2 else EAST)
    return w


async def test_every_user_is_forecast_from_the_last_closed_period():
    w = many()
    made = w.refresh()
    assert (made.user_count, made.forecast_count) == (len(USERS), 4 * len(USERS))
    forecast = await w.forecast("u0")
    # NOW is Wednesday of week 14.
    assert forecast.made_at.name == "2026-W13"
    assert forecast.horizons == (1, 2, 3, 4)
    assert forecast.means_HD.shape == forecast.scales_HD.shape == (4, WIDTH)
    assert np.allclose(forecast.means_HD, EAST)
    assert (forecast.scales_HD > 0).all()
    assert forecast.forecaster == "ema"


async def test_an_open_period_is_not_used():
    w = World()
    w.put("u0", w2026W13=EAST, w2026W14=NORTH)
    w.refresh()
    assert np.allclose((await w.forecast("u0")).means_HD, EAST)


def test_a_user_with_open_periods_alone_has_no_forecast():
    w = World()
    w.put("u0", w2026W14=NORTH)
    assert w.refresh().user_count == 0


def test_a_second_refresh_finds_nothing_to_do():
    w = many()
    w.refresh()
    w.features.online.clear()
    again = w.refresh()
    assert (again.user_count, again.forecast_count, again.bucket_count) == (0, 0, 0)
    assert w.features.online == []


def test_a_full_refresh_of_the_same_publishes_nothing_twice():
    w = many()
    w.refresh()
    before = w.copies
    again = w.refresh(is_full=True)
    assert (again.user_count, again.bucket_count, w.copies) == (0, BUCKETS, before)


async def test_a_changed_trajectory_changes_its_users_forecast_alone():
    w = many()
    w.refresh()
    w.put("u0", w2026W13=NORTH)
    assert w.refresh().user_count == 1
    assert (await w.forecast("u0")).means_HD[0, 1] > 0


def test_only_the_users_of_new_rows_are_read():
    w = many()
    w.refresh()
    w.features.asked.clear()
    w.put("u0", w2026W13=NORTH)
    w.put("u1", w2026W14=NORTH)
    w.refresh()
    # The new parts' users; then trajectories and forecasts of u0 alone: u1's period is open.
    asked = [users for users in w.features.asked if users is not None]
    assert asked.count(["u0"]) == 2
    assert {tuple(users) for users in asked} <= {("u0",), ()}
    assert w.refresh().bucket_count == 0


def test_a_part_that_is_gone_makes_the_bucket_anew():
    w = many()
    w.refresh()
    view = by_period_view(WEEK, w.space_id)
    held = w.features._offline[DEFAULT_TENANT, view]
    del held[next(key for key in held if key[0] == bucket_of("u0", BUCKETS))]
    assert w.refresh().bucket_count == 1


async def test_time_alone_advances_every_forecast_at_the_close_of_a_period():
    w = many()
    w.refresh()
    same_week = NOW + timedelta(days=4)
    assert w.refresh(now=same_week).bucket_count == 0
    made = w.refresh(now=NOW + timedelta(days=7))
    assert made.user_count == len(USERS)
    advanced = await w.forecast("u0")
    assert advanced.made_at.name == "2026-W14"
    states = pl.concat(
        w.features.read_offline(DEFAULT_TENANT, forecast_state_view(WEEK, w.space_id), bucket)
        for bucket in range(BUCKETS)
    )
    assert set(states["last_period"]) == {"2026-W14"}
    assert len(states) == len(USERS)


def test_cut_between_chunks_its_retry_publishes_nothing_twice():
    w = many(refresh_chunk_users=2)
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        w.refresh(cancelled=lambda: next(asked))
    assert w.copies == 4
    assert w.refresh().user_count == len(USERS) - 4
    assert w.copies == len(USERS)


@pytest.mark.parametrize("cut", range(4))
def test_cut_anywhere_while_publishing_the_retry_makes_it_whole(cut):
    w = many()
    w.features.fail_offline_after = len(w.features.parts) + cut
    with pytest.raises(ConnectionError):
        w.refresh()
    w.features.fail_offline_after = None
    w.refresh()
    assert w.copies == len(USERS)
    assert w.features.user_ids(forecast_view(WEEK, w.space_id)) == set(USERS)


def test_a_forecast_is_known_a_lag_after_the_close_it_was_made_at():
    w = many(publish_lag_s=7200)
    w.refresh()
    rows = w.features.read_offline(DEFAULT_TENANT, forecast_view(WEEK, w.space_id), 0)
    close = Period(WEEK, period_from_name(WEEK, "2026-W13").ordinal).end
    assert set(rows["known_time"]) == {close + timedelta(hours=2)}


def test_a_forecast_from_a_late_vector_is_known_no_earlier_than_the_vector():
    w = World()
    w.put("ann", w2026W12=EAST)
    w.put("bob", w2026W12=EAST, known=[NOW])
    w.refresh()
    view = forecast_view(WEEK, w.space_id)
    rows = [w.features.read_offline(DEFAULT_TENANT, view, bucket) for bucket in range(BUCKETS)]
    known = dict(pl.concat(rows).select("user_id", "known_time").iter_rows())
    assert known == {
        "ann": period_from_name(WEEK, "2026-W13").end + timedelta(hours=1),
        "bob": NOW,
    }


def test_a_new_model_forecasts_everyone_again():
    w = many()
    w.refresh()
    w.models.live = model("m2")
    assert w.refresh().user_count == len(USERS)


def test_an_unknown_bucket_is_named():
    with pytest.raises(InvalidArgument, match=r"buckets\[0\]"):
        many().refresh([9])
