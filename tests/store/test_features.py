"""What Feast's own writer stores, our readers read, on SQLite and on a real Redis-protocol server."""

import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from services.core.errors import NotReady
from services.core.periods import period_from_name
from services.core.records import Forecast, InterestVector, Profile, RankState
from services.core.schema import DEFAULT_TENANT as TENANT
from services.core.schema import (
    Granularity,
    by_period_view,
    forecast_view,
    history_view,
    interest_view,
    profile_view,
    rank_state_view,
)
from services.store.feast_config import FeastConfig
from services.store.features import FeastFeatures
from services.store.frames import by_period_frame, rows_frame
from services.store.layout import Layout
from services.store.redis_reader import RedisInterestReader
from services.store.rows import (
    features_of_forecast,
    features_of_history,
    features_of_interest,
    features_of_profile,
    features_of_rank_state,
)
from services.store.sqlite_reader import SqliteInterestReader

SPACE = "tiny_00000001"
WEEK = Granularity.WEEK
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def vector(week="2026-W47", first=1.0) -> InterestVector:
    return InterestVector(
        vec_D=np.array([first, 0.5, -0.25, 0.0], np.float32),
        period=period_from_name(WEEK, week),
        event_count=3,
        model_version="m1",
        known_time=NOW,
        computed_time=NOW,
    )


@pytest.fixture(params=["sqlite", "redis"])
def stores(request, tmp_path):
    layout = Layout(tmp_path, 4)
    if request.param == "sqlite":
        config, reader = FeastConfig(), SqliteInterestReader(layout)
    else:
        server = request.getfixturevalue("valkey")
        config = FeastConfig(online_store="redis", redis_url=server)
        reader = RedisInterestReader(server)
    features = FeastFeatures(layout, config)
    features.apply(TENANT, SPACE)
    return features, reader


def write(features, view, user_ids, rows, time=NOW):
    features.write_online(TENANT, view, rows_frame(view, user_ids, rows, computed_time=time))


async def test_every_kind_of_row_reads_back_equal(stores):
    features, reader = stores
    users = ["1", "zoë 🦊", "u" * 256]
    write(features, interest_view(WEEK, SPACE), users, [features_of_interest(vector())] * 3)
    history = [vector("2026-W45", 0.5), vector("2026-W47")]
    write(features, history_view(WEEK, SPACE), users, [features_of_history(history)] * 3)
    forecast = Forecast(
        means_HD=np.ones((2, 4), np.float32),
        scales_HD=np.full((2, 4), 0.5, np.float32),
        horizons=(1, 2),
        made_at=period_from_name(WEEK, "2026-W47"),
        forecaster="gru",
        model_version="m1",
        computed_time=NOW,
    )
    write(features, forecast_view(WEEK, SPACE), ["1"], [features_of_forecast(forecast)])
    state = RankState(
        query_sums_HD=np.arange(8, dtype=np.float32).reshape(2, 4),
        query_weights_H=np.array([1, 2], np.float32),
        activity_H=np.array([3, 4], np.float32),
        repeat_item_ids=("b", "ä"),
        repeat_counts_RH=np.array([[1, 2], [3, 4]], np.float32),
        repeat_last_times_R=np.array([1_700_000_000, 5]),
        state_time=1_700_000_000.25,
    )
    write(features, rank_state_view(SPACE), ["1"], [features_of_rank_state(state, "m1")])
    profile = Profile(
        labels=("dairy", "beer"),
        shares=(0.75, 0.25),
        recent_shares=(1.0, 0.0),
        event_count=7,
        first_event_time=datetime(2017, 1, 1, tzinfo=UTC),
        last_event_time=datetime(2017, 12, 1, tzinfo=UTC),
        is_suspected_bot=False,
    )
    write(features, profile_view(SPACE), ["1"], [features_of_profile(profile, "m1")])

    found = await reader.interests(TENANT, SPACE, ["1", "nobody", *users[1:]], WEEK)
    assert [row is not None for row in found] == [True, False, True, True]
    assert found[2].vec_D.tolist() == [1.0, 0.5, -0.25, 0.0]
    assert found[2].period.name == "2026-W47"
    assert found[2].event_count == 3
    assert abs(found[2].computed_time - NOW) <= timedelta(seconds=1)
    read = await reader.history(TENANT, SPACE, users[1], WEEK)
    assert [(v.period.name, float(v.vec_D[0])) for v in read] == [
        ("2026-W45", 0.5),
        ("2026-W47", 1.0),
    ]
    made = await reader.forecast(TENANT, SPACE, "1", WEEK)
    assert made.scales_HD.tolist() == forecast.scales_HD.tolist()
    assert (made.horizons, made.made_at.name, made.forecaster) == ((1, 2), "2026-W47", "gru")
    held = await reader.rank_state(TENANT, SPACE, "1")
    assert held.query_sums_HD.tolist() == state.query_sums_HD.tolist()
    assert held.repeat_item_ids == ("b", "ä")
    assert held.repeat_last_times_R.tolist() == [1_700_000_000, 5]
    assert held.state_time == state.state_time
    assert await reader.profile(TENANT, SPACE, "1") == profile
    assert await reader.profile(TENANT, SPACE, "nobody") is None


async def test_a_later_computed_time_wins(stores):
    features, reader = stores
    view = interest_view(WEEK, SPACE)
    write(features, view, ["1"], [features_of_interest(vector(first=0.0))])
    later = NOW + timedelta(seconds=2)
    write(features, view, ["1"], [features_of_interest(vector(first=1.0))], later)
    assert (await reader.interest(TENANT, SPACE, "1", WEEK)).vec_D[0] == 1.0


async def test_erasing_a_user_leaves_the_others(stores):
    features, reader = stores
    view = interest_view(WEEK, SPACE)
    write(features, view, ["1", "2"], [features_of_interest(vector())] * 2)
    features.erase(TENANT, SPACE, ["1"])
    assert await reader.interest(TENANT, SPACE, "1", WEEK) is None
    assert await reader.interest(TENANT, SPACE, "2", WEEK) is not None


async def test_threads_that_publish_together_lose_no_row(stores):
    features, reader = stores
    view = interest_view(WEEK, SPACE)
    threads = [
        threading.Thread(
            target=write,
            args=(
                features,
                view,
                [f"{t}-{n}" for n in range(50)],
                [features_of_interest(vector())] * 50,
            ),
        )
        for t in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    users = [f"{t}-{n}" for t in range(4) for n in range(50)]
    assert None not in await reader.interests(TENANT, SPACE, users, WEEK)


def test_a_part_of_the_same_name_replaces_it_and_the_newest_row_wins(tmp_path):
    features = FeastFeatures(Layout(tmp_path, 4), FeastConfig())
    view = by_period_view(WEEK, SPACE)
    with pytest.raises(NotReady):
        features.read_offline(TENANT, view, 1)
    features.apply(TENANT, SPACE)

    def rows(first, time):
        return by_period_frame(
            WEEK, ["1"], np.array([period_from_name(WEEK, "2026-W47").ordinal]),
            np.array([[first, 0, 0, 0]], np.float32), np.array([2]),
            model_version="m1", known_times=[time], computed_time=time,
        )  # fmt: skip

    features.append_offline(TENANT, view, 1, "a", rows(0.5, NOW))
    features.append_offline(TENANT, view, 1, "a", rows(0.5, NOW))
    features.append_offline(TENANT, view, 1, "b", rows(1.0, NOW + timedelta(seconds=1)))
    read = features.read_offline(TENANT, view, 1)
    assert read["vec"].to_list() == [[1.0, 0.0, 0.0, 0.0]]
    features.erase(TENANT, SPACE, ["1"])
    assert isinstance(read, pl.DataFrame)
