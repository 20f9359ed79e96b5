"""What was known then stays as it was, whatever comes in later: by Feast's SDK and by the gateway.

A real store on disk, published by the encoder under the wall clock; late events and a late item
description come in; everything is asked again.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import numpy as np
import pandas as pd
import polars as pl
import pytest
from driftline.v1 import interest_service_pb2 as pb
from driftline.v1 import interest_service_pb2_grpc, vector_pb2
from feast import FeatureStore

from services.core.periods import period_at
from services.core.schema import (
    DEFAULT_TENANT,
    Granularity,
    bucket_of,
    by_period_view,
    forecast_view,
    interest_view,
)
from services.core.views import view_named
from services.forecaster.forecaster import ForecasterStores, InterestForecaster
from services.gateway.services import Ports, services_of
from services.gateway.state import GatewayState
from services.runtime.metrics import Metrics
from services.runtime.server import serving
from services.runtime.settings import Settings
from services.store import offline_parts
from services.store.demand_files import MemoryDemand
from services.store.feast_config import FeastConfig
from services.store.features import FeastFeatures
from services.store.history_reader import ParquetHistory
from services.store.layout import Layout
from services.store.memory_events import MemoryInbox
from services.store.overlays import MemoryOverlays
from services.store.sqlite_reader import SqliteInterestReader
from tests.encoder.world import BUCKETS, WEEK, World, item
from tests.gateway.world import (
    Catalogues,
    Erasures,
    Privacy,
    Registry,
    model,
    ranker,
    stamp,
)

LAG = timedelta(hours=1)
THIS = period_at(WEEK, datetime.now(UTC))
USERS = ("ann", "bob")


@dataclass
class Asked:
    """A published store, what was answered at an instant, and what was answered again later."""

    world: World
    layout: Layout
    # After the first refresh, before anything late came in.
    then: datetime
    # After the second refresh.
    later: datetime
    first: dict[str, bytes]
    again: dict[str, bytes]


def event(user, name, weeks_ago, hours=40.0):
    when = (THIS + -weeks_ago).start + timedelta(hours=hours)
    return {"user_id": user, "item_id": name, "kind": "purchase", "value": 1.0, "event_time": when}


def refresh(w):
    w.encoder.refresh_items(DEFAULT_TENANT, is_full=False, cancelled=lambda: False)
    w.encoder.refresh_interests(DEFAULT_TENANT, (), is_full=False, cancelled=lambda: False)
    stores = ForecasterStores(models=w.models, tables=w.tables, features=w.features)
    InterestForecaster(stores, w.settings).refresh_forecasts(
        DEFAULT_TENANT, (), is_full=False, cancelled=lambda: False
    )


async def answers(w: World, layout: Layout, then: datetime) -> dict[str, bytes]:
    """Ask a real gateway what was known at an instant; every answer as its bytes."""
    settings = Settings(port=0, metrics_port=0, data_dir=layout.root, bucket_count=BUCKETS)
    registry = Registry(models=[model(space_id=w.space_id)])
    state = GatewayState(
        tenant=DEFAULT_TENANT,
        registry=registry,
        catalogues=Catalogues(held={}),
        erased=Erasures(w.tables),
        load_ranker=lambda folder: ranker(),
    )
    await state.start()
    ports = Ports(
        reader=SqliteInterestReader(layout),
        history=ParquetHistory(layout),
        inbox=MemoryInbox(w.tables._memory, "gateway-0"),
        rejects=w.tables,
        registry=registry,
        overlays=MemoryOverlays(),
        demand=MemoryDemand(),
        privacy=Privacy(w.tables),
    )
    as_of = vector_pb2.AsOf(event_time=stamp(then), ingest_time=stamp(then))
    got: dict[str, bytes] = {}
    async with (
        serving(settings, services_of(settings, state, ports), Metrics()) as where,
        grpc.aio.insecure_channel(f"127.0.0.1:{where.port}") as channel,
    ):
        stub = interest_service_pb2_grpc.InterestServiceStub(channel)
        for user in (*USERS, "new"):
            for granularity in (1, 2, 3):
                request = pb.GetTrajectoryRequest(
                    user_id=user, granularity=granularity, as_of=as_of
                )
                got[f"trajectory {user} {granularity}"] = await reply(stub.GetTrajectory(request))
                newest = pb.GetInterestRequest(user_id=user, granularity=granularity, as_of=as_of)
                got[f"interest {user} {granularity}"] = await reply(stub.GetInterest(newest))
                ahead = pb.GetForecastRequest(user_id=user, granularity=granularity, as_of=as_of)
                got[f"forecast {user} {granularity}"] = await reply(stub.GetForecast(ahead))
            for weeks_ago in range(1, 12):
                of_week = pb.GetInterestRequest(
                    user_id=user, period=(THIS + -weeks_ago).name, as_of=as_of
                )
                got[f"week {user} {weeks_ago}"] = await reply(stub.GetInterest(of_week))
    return got


async def reply(call) -> bytes:
    try:
        return (await call).SerializeToString()
    except grpc.aio.AioRpcError as error:
        return error.code().name.encode()


@pytest.fixture(scope="module")
async def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    layout = Layout(folder, BUCKETS)
    w = World(
        folder=folder,
        settings=Settings(data_dir=folder, bucket_count=BUCKETS),
        features=FeastFeatures(layout, FeastConfig()),
    )
    w.add_items(item("tea"), item("milk"))
    w.add_events(
        *(event("ann", "tea", ago) for ago in (9, 6, 5, 4, 2)),
        *(event("bob", "milk", ago) for ago in (8, 3)),
        event("bob", "jam", 4),
    )
    refresh(w)
    then = datetime.now(UTC)
    first = await answers(w, layout, then)
    w.add_events(event("ann", "milk", 4), event("ann", "tea", 7), event("new", "tea", 3))
    w.add_items(item("jam"))
    refresh(w)
    return Asked(
        world=w,
        layout=layout,
        then=then,
        later=datetime.now(UTC),
        first=first,
        again=await answers(w, layout, then),
    )


def test_answers_of_the_past_are_the_same_bytes_after_late_data(asked, trust):
    changed = [name for name, answer in asked.first.items() if asked.again[name] != answer]
    trust("past answers asked again after late data", tried=len(asked.first), losses=len(changed))
    assert asked.again == asked.first
    found = [name for name, answer in asked.first.items() if answer != b"NOT_FOUND"]
    # ann's five weeks and bob's two, and of three lengths and both: trajectory, newest, forecast.
    assert len(found) == 5 + 2 + 3 * 3 * 2


async def test_answers_of_now_have_what_came_late(asked):
    now = await answers(asked.world, asked.layout, asked.later)
    for name in (
        "week ann 4",
        "week ann 7",
        "week bob 4",
        "week new 3",
        "trajectory ann 2",
        "forecast ann 2",
    ):
        assert now[name] != asked.first[name], name
    # A week that nothing came late for says the same, but for the instants it was asked for.
    was, is_now = (
        pb.GetInterestResponse.FromString(each["week ann 5"]) for each in (asked.first, now)
    )
    assert was.interest == is_now.interest


def history(asked, user: str, granularity: Granularity) -> pl.DataFrame:
    view = view_named(by_period_view(granularity, asked.world.space_id))
    return offline_parts.read(
        asked.layout, DEFAULT_TENANT, view, bucket_of(user, BUCKETS), [user]
    ).sort("known_time", "computed_time")


def joined(asked, at, *, is_strict=False, granularity=WEEK) -> pd.DataFrame:
    """Return what Feast joins to each user and instant."""
    store = FeatureStore(fs_yaml_file=asked.layout.feast_dir(DEFAULT_TENANT) / "feature_store.yaml")
    view = interest_view(granularity, asked.world.space_id)
    users = pd.DataFrame([{"user_id": u, "event_timestamp": t} for u in USERS for t in at])
    return (
        store.get_historical_features(
            entity_df=users,
            features=[f"{view}:{name}" for name in ("vec", "event_count", "period_start")],
            filter_by_created_timestamp=is_strict,
        )
        .to_df()
        .sort_values(["user_id", "event_timestamp"])
    )


def instants(asked) -> list[datetime]:
    closes = [(THIS + -ago).end + LAG for ago in range(1, 10)]
    around = [at + shift for at in closes for shift in (timedelta(seconds=-1), timedelta(0))]
    return [*around, asked.then, asked.later]


@pytest.mark.parametrize("is_strict", [False, True])
def test_a_join_takes_what_was_known_last_and_nothing_later(asked, is_strict):
    rows = joined(asked, instants(asked), is_strict=is_strict)
    assert len(rows) == len(USERS) * len(instants(asked))
    for row in rows.itertuples():
        at = row.event_timestamp.to_pydatetime()
        known = history(asked, row.user_id, WEEK).filter(pl.col("known_time") <= at)
        if is_strict:
            known = known.filter(pl.col("computed_time") <= at)
        if known.is_empty():
            assert pd.isna(row.event_count)
            continue
        assert row.period_start == pd.Timestamp(known["period_start"][-1])
        assert row.event_count == known["event_count"][-1]
        assert np.array_equal(row.vec, known["vec"][-1].to_numpy())


def test_a_join_of_the_past_is_the_same_after_late_data(asked):
    week = THIS + -4
    rows = joined(asked, [week.end + LAG, asked.then, asked.later])
    ann = rows[rows["user_id"] == "ann"]
    # The late event of that week counts in none of them: the newest period is another by now.
    starts = [week.start, (THIS + -2).start, (THIS + -2).start]
    assert ann["event_count"].tolist() == [1, 1, 1]
    assert ann["period_start"].tolist() == [pd.Timestamp(start) for start in starts]
    bob = rows[rows["user_id"] == "bob"]
    # Described late: at that week's close nothing of it was known.
    assert bob["period_start"].tolist()[0] == pd.Timestamp((THIS + -8).start)


def test_by_created_timestamp_backfills_are_left_out(asked):
    at = [(THIS + -ago).end + LAG for ago in (6, 4, 2)]
    assert joined(asked, at)["event_count"].notna().sum() > 0
    assert joined(asked, at, is_strict=True)["event_count"].isna().all()
    assert joined(asked, [asked.then], is_strict=True)["event_count"].tolist() == [1, 1]


def test_a_forecast_from_late_vectors_is_known_no_earlier_than_they(asked):
    view = view_named(forecast_view(WEEK, asked.world.space_id))
    rows = offline_parts.read(
        asked.layout, DEFAULT_TENANT, view, bucket_of("ann", BUCKETS), ["ann"]
    ).sort("computed_time")
    first, second = rows["known_time"].to_list()
    assert first == THIS.start + LAG
    assert second >= asked.then
