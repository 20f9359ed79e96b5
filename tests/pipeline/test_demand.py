"""The write path's step of demand: what is published when, on planted events."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from services.core.classify import BULK_DAY_EVENTS
from services.core.periods import closed_before
from services.core.ranking import ItemStats
from services.core.schema import DEFAULT_TENANT, Granularity
from services.core.topics import Topics
from services.pipeline.demand import DemandStores, refresh_demand
from services.runtime.settings import Settings
from services.store.demand_files import MemoryDemand
from services.store.memory_events import EventMemory, MemoryTables
from services.store.memory_index import MemoryCatalogues
from services.store.ports import Catalogue
from tests.planted import START, planted_events

TENANT, SPACE, WEEKS = DEFAULT_TENANT, "toy", 12
TOPICS = Topics(
    ids=("t1", "t2"), names=("tea", "guitar"), terms=((), ()), categories=((), ()),
    centroids_TD=np.eye(2, dtype=np.float32), item_count=48,
)  # fmt: skip


def catalogue(item_ids, topics=TOPICS, generation="g1"):
    ids = tuple(sorted(item_ids))
    rows = np.array([[1, 0] if one.startswith("tea") else [0, 1] for one in ids], np.float32)
    return Catalogue(
        space_id=SPACE, model_version="m1", generation=generation, item_ids=ids, titles=ids,
        categories=((),) * len(ids), items_ND=rows, topics=topics,
        stats=ItemStats(share_NW=np.zeros((len(ids), 2), np.float32), first_time_N=np.zeros(len(ids))),
    )  # fmt: skip


class World:
    def __init__(self):
        self.tables = MemoryTables(EventMemory(), 2)
        self.catalogues, self.demand = MemoryCatalogues(), MemoryDemand()
        self.events = planted_events(users=120, weeks=WEEKS)
        self.append(self.events)
        self.catalogues.publish(TENANT, catalogue(self.events["item_id"].unique().to_list()))

    def append(self, events, name="first"):
        at = pl.lit(START).cast(pl.Datetime("us", "UTC"))
        rows = (
            events.drop("text")
            .with_row_index("row")
            .with_columns(
                pl.format("{}-{}", pl.lit(name), "row").alias("event_id"), at.alias("ingest_time")
            )
        )
        self.tables.append_events(TENANT, rows.drop("row"), name)

    def refresh(self, weeks=10, **more):
        settings = Settings(
            now=START + timedelta(weeks=weeks, hours=2), bucket_count=2, demand_least_users=5,
            demand_partition="all", **more.pop("settings", {}),
        )  # fmt: skip
        stores = DemandStores(tables=self.tables, catalogues=self.catalogues, demand=self.demand)
        done = refresh_demand(stores, settings, TENANT, SPACE, **more)
        return done, self.demand.read(TENANT, SPACE, settings.release_terms().name)


@pytest.fixture
def world():
    return World()


def test_closed_periods_are_published_and_the_open_one_is_not(world):
    done, release = world.refresh(weeks=10)
    assert done > 0
    week = closed_before(Granularity.WEEK, START + timedelta(weeks=10))
    assert release.published.newest == week
    seen = release.told("all")
    users = world.events.with_columns(is_tea=pl.col("item_id").str.starts_with("tea"))
    last = users.filter(
        (pl.col("event_time") >= week.start) & (pl.col("event_time") < week.end) & pl.col("is_tea")
    )
    assert seen.audience_TP[0, -1] == pytest.approx(last["user_id"].n_unique(), abs=12)
    assert seen.volume_TP[0, -1] == pytest.approx(len(last), abs=90)


def test_a_period_is_published_after_the_publish_lag(world):
    _, before = world.refresh(weeks=10, settings={"publish_lag_s": 3 * 3600})
    _, after = world.refresh(weeks=10)
    assert after.published.newest - before.published.newest == 1


def test_a_second_refresh_does_nothing_and_a_week_later_one_period_comes(world):
    _, first = world.refresh(weeks=10)
    done, same = world.refresh(weeks=10)
    assert (done, same) == (0, first)
    world.append(world.events.head(50).with_columns(pl.lit("late").alias("user_id")), "late")
    assert world.refresh(weeks=10) == (0, first)
    done, later = world.refresh(weeks=11)
    assert done == 1
    held, new = first.published.audience_CTP, later.published.audience_CTP
    assert np.array_equal(held[..., 1:], new[..., :-1])


def test_a_clock_that_goes_back_takes_nothing_back(world):
    _, first = world.refresh(weeks=11)
    done, same = world.refresh(weeks=9)
    assert done == 0
    assert same is first


def test_new_topics_are_published_and_a_new_edition_draws_everything_anew(world):
    _, first = world.refresh()
    renewed = replace(TOPICS, ids=("t1", "t3"))
    items = world.events["item_id"].unique().to_list()
    world.catalogues.publish(TENANT, catalogue(items, renewed, "g2"))
    _, second = world.refresh()
    assert second.topic_ids == ("t1", "t3")
    assert np.array_equal(
        second.told("all").volume_TP[0], first.told("all").volume_TP[0], equal_nan=True
    )
    done, third = world.refresh(is_new_edition=True)
    assert done > 1
    assert third.published.edition == 2
    assert not np.array_equal(
        third.told("all").volume_TP[0], second.told("all").volume_TP[0], equal_nan=True
    )


def test_an_erased_user_is_in_no_period_that_is_published_afterwards(world):
    """All of a topic's users but a few go: the next period shows it, the ones before stay."""
    _, first = world.refresh(weeks=10)
    tea = world.events.filter(pl.col("item_id").str.starts_with("tea"))["user_id"].unique()
    world.tables.erase(TENANT, tea.to_list())
    _, second = world.refresh(weeks=11)
    held, new = first.told("all").audience_TP[0], second.told("all").audience_TP[0]
    assert np.array_equal(held[1:], new[:-1], equal_nan=True)
    assert new[-2] > 25
    assert new[-1] < 15


def test_without_a_catalogue_or_its_topics_nothing_is_published(world):
    world.catalogues = MemoryCatalogues()
    assert world.refresh() == (0, None)
    world.catalogues.publish(TENANT, catalogue(["tea-1", "guitar-1"], topics=None))
    assert world.refresh() == (0, None)


def test_bulk_days_are_nobodys_demand(world):
    """Noise of scale 8 at most; ten bots' events would be 80 more, and ten users more."""
    at = START + timedelta(weeks=9, days=1)
    bulk = pl.concat([world.events.head(1)] * (BULK_DAY_EVENTS + 1)).with_columns(
        pl.lit("tea-01").alias("item_id"),
        pl.lit(at).cast(pl.Datetime("us", "UTC")).alias("event_time"),
    )
    settings = {"demand_epsilon": 10.0}
    _, quiet = World().refresh(settings=settings)
    for number in range(10):
        world.append(bulk.with_columns(pl.lit(f"bot{number}").alias("user_id")), f"bulk{number}")
    _, noisy = world.refresh(settings=settings)
    before, after = quiet.told("all"), noisy.told("all")
    assert after.audience_TP[0, -1] == pytest.approx(before.audience_TP[0, -1], abs=5)
    assert after.volume_TP[0, -1] == pytest.approx(before.volume_TP[0, -1], abs=40)
