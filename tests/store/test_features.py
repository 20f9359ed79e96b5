"""What Feast's own writer stores, our readers read, on SQLite and on a real Redis-protocol server."""

import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from services.core.activity import NO_ACTIVITY, Activity
from services.core.burst_everyone import PastBurst, PopulationBursts, UserBursts
from services.core.burst_state import BurstType
from services.core.errors import InvalidArgument, NotReady
from services.core.periods import period_from_name
from services.core.records import Forecast, InterestVector, Profile, RankState
from services.core.schema import DEFAULT_TENANT as TENANT
from services.core.schema import (
    EVERYONE,
    Granularity,
    activity_view,
    bucket_of,
    bursts_view,
    by_period_view,
    forecast_view,
    history_view,
    interest_view,
    population_bursts_view,
    profile_view,
    rank_state_view,
)
from services.store.feast_config import FeastConfig
from services.store.features import FeastFeatures
from services.store.frames import by_period_frame, rows_frame
from services.store.layout import Layout
from services.store.memory_features import MemoryFeatures
from services.store.redis_reader import RedisInterestReader
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
from services.store.sqlite_reader import SqliteInterestReader

SPACE = "tiny_00000001"
WEEK = Granularity.WEEK
BUCKETS = 4
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def week(name):
    return period_from_name(WEEK, name)


def vector(week="2026-W47", first=1.0) -> InterestVector:
    return InterestVector(
        vec_D=np.array([first, 0.5, -0.25, 0.0], np.float32),
        period=period_from_name(WEEK, week),
        event_count=3,
        model_version="m1",
        known_time=NOW,
        computed_time=NOW,
    )


@pytest.fixture(scope="module", params=["memory", "sqlite", "redis"])
def written(request, tmp_path_factory):
    """A writer with one space applied, and how to open its reader; tests use users of their own."""
    if request.param == "memory":
        features = MemoryFeatures(BUCKETS)
        features.apply(TENANT, SPACE)
        return features, lambda: features
    layout, config = Layout(tmp_path_factory.mktemp("data"), BUCKETS), FeastConfig()
    if request.param == "redis":
        config = FeastConfig(online_store="redis", redis_url=request.getfixturevalue("valkey"))
    features = FeastFeatures(layout, config)
    features.apply(TENANT, SPACE)
    if config.is_sqlite:
        return features, lambda: SqliteInterestReader(layout)
    return features, lambda: RedisInterestReader(config.redis_url)


@pytest.fixture
def stores(written):
    # A Redis reader belongs to one event loop, and each test has its own.
    features, open_reader = written
    return features, open_reader()


def write(features, view, user_ids, rows, at=NOW):
    features.write_online(TENANT, view, rows_frame(view, user_ids, rows, computed_time=at))


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
        session_count=4,
        is_suspected_bot=False,
    )
    write(features, profile_view(SPACE), ["1"], [features_of_profile(profile, "m1")])
    year = Activity(
        item_ids=("b", "ä"),
        item_C=np.array([0, 1, 1]),
        week_C=np.array([2900, 2900, 2951]),
        count_C=np.array([1, 2, 30]),
        weekday_days=(1, 0, 0, 0, 0, 0, 2),
        hour_hours=(0,) * 23 + (3,),
    )
    write(features, activity_view(SPACE), ["1", "idle"], [
        features_of_activity(year, "m1"), features_of_activity(NO_ACTIVITY, "m1"),
    ])  # fmt: skip
    bursts = UserBursts(
        bursts=(
            PastBurst(
                kind=BurstType.AUTOMATED, first=week("2026-W46"), last=week("2026-W46"), topic=-1,
                name="", share=0.0,
            ),
            PastBurst(
                kind=BurstType.SEASONAL, first=week("2026-W40"), last=week("2026-W41"), topic=3,
                name="tea", share=0.625, is_lasting=True,
            ),
        ),
        model_version="m1", known_at=week("2026-W46"),
    )  # fmt: skip
    calm = UserBursts(bursts=(), model_version="m1", known_at=week("2026-W41"))
    write(features, bursts_view(WEEK, SPACE), ["1", "idle"], [
        features_of_bursts(bursts), features_of_bursts(calm),
    ])  # fmt: skip
    risen = PopulationBursts(
        risen={week("2026-W40"): {2, 3}, week("2026-W07"): {1}}, model_version="m1"
    )
    write(features, population_bursts_view(WEEK, SPACE), [EVERYONE], [
        features_of_population(risen, ("jam", "rye", "tea", "games"), week("2026-W40")),
    ])  # fmt: skip

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
    same = await reader.activity(TENANT, SPACE, "1")
    assert (same.item_ids, same.weekday_days, same.hour_hours) == (
        year.item_ids, year.weekday_days, year.hour_hours,
    )  # fmt: skip
    for cells in ("item_C", "week_C", "count_C"):
        assert getattr(same, cells).tolist() == getattr(year, cells).tolist()
    assert (await reader.activity(TENANT, SPACE, "idle")).item_ids == ()
    assert await reader.activity(TENANT, SPACE, "nobody") is None
    assert await reader.bursts(TENANT, SPACE, "1", WEEK) == bursts
    assert await reader.bursts(TENANT, SPACE, "idle", WEEK) == calm
    assert await reader.bursts(TENANT, SPACE, "nobody", WEEK) is None
    assert await reader.population_bursts(TENANT, SPACE, WEEK) == risen


async def test_a_store_without_the_view_of_activities_has_none(stores):
    _, reader = stores
    assert await reader.activity(TENANT, "never_00000000", "1") is None
    assert await reader.bursts(TENANT, "never_00000000", "1", WEEK) is None
    assert await reader.population_bursts(TENANT, "never_00000000", WEEK) is None


async def test_a_later_computed_time_wins(stores):
    features, reader = stores
    view = interest_view(WEEK, SPACE)
    write(features, view, ["later"], [features_of_interest(vector(first=0.0))])
    later = NOW + timedelta(seconds=2)
    write(features, view, ["later"], [features_of_interest(vector(first=1.0))], later)
    assert (await reader.interest(TENANT, SPACE, "later", WEEK)).vec_D[0] == 1.0


async def test_a_user_without_repeats_reads_back_without(stores):
    features, reader = stores
    state = RankState(
        query_sums_HD=np.zeros((2, 4), np.float32),
        query_weights_H=np.zeros(2, np.float32),
        activity_H=np.zeros(2, np.float32),
        repeat_item_ids=(),
        repeat_counts_RH=np.zeros((0, 2), np.float32),
        repeat_last_times_R=np.zeros(0, np.int64),
        state_time=0.0,
    )
    view = rank_state_view(SPACE)
    write(features, view, ["empty"], [features_of_rank_state(state, "m1")])
    held = await reader.rank_state(TENANT, SPACE, "empty")
    assert held.repeat_item_ids == ()
    assert held.repeat_counts_RH.shape == (0, 2)
    assert held.repeat_last_times_R.shape == (0,)


async def test_more_rows_than_a_chunk_are_all_written(stores):
    features, reader = stores
    users = [f"chunk-{n}" for n in range(1001)]
    rows = [features_of_interest(vector())] * len(users)
    write(features, interest_view(WEEK, SPACE), users, rows)
    assert None not in await reader.interests(TENANT, SPACE, users, WEEK)


async def test_rows_of_several_views_are_written_together_and_empty_ones_are_nothing(stores):
    features, reader = stores
    interest = rows_frame(
        interest_view(WEEK, SPACE), ["two"], [features_of_interest(vector())], computed_time=NOW
    )
    history = rows_frame(
        history_view(WEEK, SPACE), ["two"], [features_of_history([vector()])], computed_time=NOW
    )
    features.write_online_views(
        TENANT,
        {
            interest_view(WEEK, SPACE): interest,
            history_view(WEEK, SPACE): history,
            interest_view(Granularity.DAY, SPACE): interest.clear(),
        },
    )
    assert (await reader.interest(TENANT, SPACE, "two", WEEK)).event_count == 3
    assert len(await reader.history(TENANT, SPACE, "two", WEEK)) == 1
    assert await reader.interest(TENANT, SPACE, "two", Granularity.DAY) is None


def period_rows(user_ids, first, at=NOW, week="2026-W47"):
    n = len(user_ids)
    return by_period_frame(
        WEEK, user_ids, np.full(n, period_from_name(WEEK, week).ordinal),
        np.tile(np.array([first, 0, 0, 0], np.float32), (n, 1)), np.full(n, 2),
        model_version="m1", known_times=[at] * n, computed_time=at,
    )  # fmt: skip


def test_a_part_of_the_same_name_replaces_it_and_the_newest_row_wins(stores):
    features, _ = stores
    view = by_period_view(WEEK, SPACE)
    features.append_offline(TENANT, view, 1, "a", period_rows(["p"], 0.5))
    features.append_offline(TENANT, view, 1, "a", period_rows(["p"], 0.5))
    features.append_offline(TENANT, view, 1, "b", period_rows(["p"], 1.0, NOW + timedelta(1)))
    features.append_offline(TENANT, view, 1, "c", period_rows(["p"], 0.25, week="2026-W46"))
    read = features.read_offline(TENANT, view, 1).filter(pl.col("user_id") == "p")
    assert read["period"].to_list() == ["2026-W46", "2026-W47"]
    assert read["vec"].list.first().to_list() == [0.25, 1.0]
    assert read.schema["known_time"] == pl.Datetime("us", "UTC")


def test_some_users_and_some_features_are_read_alone(stores):
    features, _ = stores
    view = by_period_view(WEEK, SPACE)
    features.append_offline(TENANT, view, 3, "a", period_rows(["s", "t"], 0.5))
    features.append_offline(TENANT, view, 3, "b", period_rows(["t"], 1.0, NOW + timedelta(1)))
    whole = features.read_offline(TENANT, view, 3)
    kept = ["user_id", "period", "event_count", "computed_time"]
    some = features.read_offline(TENANT, view, 3, ["t", "nobody"], ["event_count"])
    assert some.equals(whole.filter(pl.col("user_id") == "t").select(kept))
    assert some["computed_time"].to_list() == [NOW + timedelta(1)]
    assert features.read_offline(TENANT, view, 2, ["t"], ["event_count"]).columns == kept


def test_rows_that_are_new_come_in_a_new_part_which_is_read_alone(stores):
    features, _ = stores
    view, bucket = by_period_view(WEEK, SPACE), 0
    assert features.offline_parts(TENANT, view, bucket) == []
    features.append_offline(TENANT, view, bucket, "b.1", period_rows(["v"], 0.5))
    assert features.offline_parts(TENANT, view, bucket) == ["b.1"]
    features.append_offline(TENANT, view, bucket, "a", period_rows(["v", "w"], 1.0))
    assert features.offline_parts(TENANT, view, bucket) == ["a", "b.1"]
    old = features.read_offline(TENANT, view, bucket, parts=["b.1"])
    assert old["user_id"].to_list() == ["v"]
    some = features.read_offline(TENANT, view, bucket, ["w"], ["event_count"], ["a", "b.1"])
    assert some["user_id"].to_list() == ["w"]
    assert features.read_offline(TENANT, view, bucket, parts=[]).is_empty()


async def test_erasing_a_user_leaves_the_others(stores):
    features, reader = stores
    online, offline = interest_view(WEEK, SPACE), by_period_view(WEEK, SPACE)
    users = ["gone", "stays"]
    write(features, online, users, [features_of_interest(vector())] * 2)
    for user in users:
        bucket = bucket_of(user, BUCKETS)
        features.append_offline(TENANT, offline, bucket, f"erase-{user}", period_rows([user], 0.5))
    features.erase(TENANT, SPACE, ["gone", "never seen"])
    features.erase(TENANT, SPACE, [])
    assert await reader.interest(TENANT, SPACE, "gone", WEEK) is None
    assert await reader.interest(TENANT, SPACE, "stays", WEEK) is not None
    kept = pl.concat([features.read_offline(TENANT, offline, b) for b in range(BUCKETS)])
    assert "gone" not in kept["user_id"].to_list()
    assert "stays" in kept["user_id"].to_list()


def test_a_view_that_was_not_applied_is_not_ready(stores):
    features, _ = stores
    other = "other_00000002"
    rows = rows_frame(
        interest_view(WEEK, other), ["1"], [features_of_interest(vector())], computed_time=NOW
    )
    with pytest.raises(NotReady, match="driftline refresh"):
        features.write_online(TENANT, interest_view(WEEK, other), rows)
    with pytest.raises(NotReady, match="driftline refresh"):
        features.read_offline(TENANT, by_period_view(WEEK, other), 0)


def test_rows_that_do_not_fit_the_view_are_refused(stores):
    features, _ = stores
    view = by_period_view(WEEK, SPACE)
    rows = period_rows(["1"], 0.5)
    with pytest.raises(InvalidArgument, match="needs the columns vec"):
        features.append_offline(TENANT, view, 0, "x", rows.drop("vec"))
    with pytest.raises(InvalidArgument, match="has nulls in event_count"):
        nulls = rows.with_columns(pl.lit(None, pl.Int64).alias("event_count"))
        features.append_offline(TENANT, view, 0, "x", nulls)


async def test_threads_that_publish_together_lose_no_row(stores):
    features, reader = stores
    view = interest_view(WEEK, SPACE)
    rows = [features_of_interest(vector())] * 50
    with ThreadPoolExecutor(4) as pool:
        done = [
            pool.submit(write, features, view, [f"{t}-{k}-{n}" for n in range(50)], rows)
            for t in range(4)
            for k in range(3)
        ]
        for each in done:
            each.result()
    users = [f"{t}-{k}-{n}" for t in range(4) for k in range(3) for n in range(50)]
    assert None not in await reader.interests(TENANT, SPACE, users, WEEK)


PUBLISHER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import numpy as np
from services.core.schema import Granularity, interest_view
from services.store.feast_config import FeastConfig
from services.store.features import FeastFeatures
from services.store.frames import by_period_frame, newest_period_frame
from services.store.layout import Layout

folder, name = Path(sys.argv[1]), sys.argv[2]
features = FeastFeatures(Layout(folder, 4), FeastConfig())
print("ready", flush=True)
sys.stdin.readline()
for batch in range(20):
    now = datetime.now(UTC)
    users = [f"{name}-{batch}-{n}" for n in range(20)]
    rows = by_period_frame(Granularity.WEEK, users, np.full(20, 2900), np.eye(20, 4, dtype=np.float32),
        np.full(20, 1), model_version="m", known_times=[now] * 20, computed_time=now)
    features.write_online("default", interest_view(Granularity.WEEK, sys.argv[3]),
        newest_period_frame(rows))
    print(batch, flush=True)
"""


async def test_processes_that_publish_together_lose_no_row(tmp_path):
    layout = Layout(tmp_path, BUCKETS)
    FeastFeatures(layout, FeastConfig()).apply(TENANT, SPACE)
    publishers = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, tmp_path, name, SPACE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in "ab"
    ]  # fmt: skip
    for publisher in publishers:
        assert publisher.stdout.readline() == "ready\n"
    answers = [publisher.communicate("go\n", timeout=120)[0] for publisher in publishers]
    acknowledged = [
        f"{name}-{batch}-{n}"
        for name, answer in zip("ab", answers, strict=True)
        for batch in answer.split()
        for n in range(20)
    ]
    assert len(acknowledged) == 800
    found = await SqliteInterestReader(layout).interests(TENANT, SPACE, acknowledged, WEEK)
    assert None not in found


def test_the_sqlite_store_logs_ahead(tmp_path):
    features = FeastFeatures(Layout(tmp_path, BUCKETS), FeastConfig())
    features.apply(TENANT, SPACE)
    with closing(sqlite3.connect(tmp_path / TENANT / "feast" / "online.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_erased_users_bytes_leave_the_disk(tmp_path):
    features = FeastFeatures(Layout(tmp_path, BUCKETS), FeastConfig())
    features.apply(TENANT, SPACE)
    for second in range(3):
        at = NOW + timedelta(seconds=second)
        rows = [features_of_interest(vector())] * 2
        write(features, interest_view(WEEK, SPACE), ["secret-person", "other"], rows, at)
    features.erase(TENANT, SPACE, ["secret-person"])
    held = [
        p
        for p in (tmp_path / TENANT).rglob("*")
        if p.is_file() and b"secret-person" in p.read_bytes()
    ]
    assert held == []


def test_history_of_the_newest_vectors_lies_with_all_vectors(tmp_path):
    features = FeastFeatures(Layout(tmp_path, BUCKETS), FeastConfig())
    with pytest.raises(InvalidArgument, match="append there"):
        features.append_offline(TENANT, interest_view(WEEK, SPACE), 0, "x", period_rows(["1"], 0.5))


def test_a_process_outside_utc_writes_nothing_to_sqlite(tmp_path, monkeypatch):
    features = FeastFeatures(Layout(tmp_path, BUCKETS), FeastConfig())
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        with pytest.raises(InvalidArgument, match="TZ=UTC"):
            write(features, interest_view(WEEK, SPACE), ["1"], [features_of_interest(vector())])
    finally:
        monkeypatch.undo()
        time.tzset()
