"""What comes in after a period closed is known from then on, not from the close on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from services.core.periods import period_at
from services.core.schema import DEFAULT_TENANT, Granularity, bucket_of, by_period_view
from services.core.views import view_named
from services.runtime.settings import Settings
from tests.encoder.world import BUCKETS, WEEK, World, item

LAG = timedelta(hours=1)
THIS = period_at(WEEK, datetime.now(UTC))


def event(user, name, weeks_ago, hours=40.0):
    when = (THIS + -weeks_ago).start + timedelta(hours=hours)
    return {"user_id": user, "item_id": name, "kind": "purchase", "value": 1.0, "event_time": when}


@pytest.fixture
def live(tmp_path):
    """A store that was published once, by the wall clock."""
    w = World(folder=tmp_path, settings=Settings(data_dir=tmp_path, bucket_count=BUCKETS))
    w.add_items(item("tea"), item("milk"))
    w.add_events(event("ann", "tea", 4), event("ann", "milk", 2), event("bob", "tea", 4))
    refresh(w)
    return w


def refresh(w):
    w.encoder.refresh_items(DEFAULT_TENANT, is_full=False, cancelled=lambda: False)
    return w.encoder.refresh_interests(DEFAULT_TENANT, (), is_full=False, cancelled=lambda: False)


def rows(w, user, granularity=WEEK) -> pl.DataFrame:
    """Return every part's rows of a user, oldest computed first."""
    view = view_named(by_period_view(granularity, w.space_id))
    held = w.features._rows(DEFAULT_TENANT, view, bucket_of(user, BUCKETS))
    return held.filter(pl.col("user_id") == user).sort("computed_time", "period")


def known(w, user, weeks_ago):
    of = rows(w, user).filter(pl.col("period") == (THIS + -weeks_ago).name)
    return of["known_time"].to_list()


def test_what_was_there_at_the_first_publication_is_known_from_its_close_on(live):
    assert known(live, "ann", 4) == [(THIS + -4).end + LAG]
    assert known(live, "ann", 2) == [(THIS + -2).end + LAG]


def test_a_late_event_is_known_when_it_came_in(live):
    before = datetime.now(UTC)
    live.add_events(event("ann", "milk", 4))
    refresh(live)
    first, second = known(live, "ann", 4)
    assert first == (THIS + -4).end + LAG
    assert before <= second <= datetime.now(UTC)


def test_a_period_that_was_a_gap_is_known_when_its_event_came_in(live):
    before = datetime.now(UTC)
    live.add_events(event("ann", "tea", 9))
    refresh(live)
    (only,) = known(live, "ann", 9)
    assert only >= before


def test_a_late_description_is_known_when_it_came_in(live):
    live.add_events(event("ann", "jam", 3))
    refresh(live)
    assert known(live, "ann", 3) == []
    before = datetime.now(UTC)
    live.add_items(item("jam"))
    refresh(live)
    (only,) = known(live, "ann", 3)
    assert only >= before


def test_after_a_late_event_the_newest_period_is_still_the_one_known_last(live):
    live.add_events(event("ann", "milk", 4))
    refresh(live)
    last = rows(live, "ann").sort("known_time", "computed_time").tail(1)
    assert last["period"].to_list() == [(THIS + -2).name]
    # Of all that was stated at once, so that no instant lies between.
    assert last["known_time"][0] == known(live, "ann", 4)[-1]


def test_a_late_event_is_published_once(live):
    live.add_events(event("ann", "milk", 4))
    refresh(live)
    count = len(rows(live, "ann"))
    again = live.encoder.refresh_interests(
        DEFAULT_TENANT, (), is_full=True, cancelled=lambda: False
    )
    assert (again.vector_count, len(rows(live, "ann"))) == (0, count)


def test_users_without_late_events_are_left_alone(live):
    before = {g: rows(live, "bob", g) for g in Granularity}
    live.add_events(event("ann", "milk", 4))
    refresh(live)
    assert all(rows(live, "bob", g).equals(before[g]) for g in Granularity)


def test_a_model_made_again_in_the_space_knows_late_events_no_earlier(live):
    live.add_events(event("ann", "milk", 4), event("ann", "milk", 4, hours=41))
    refresh(live)
    came = rows(live, "ann").filter(pl.col("period") == (THIS + -4).name)["known_time"].max()
    pooling = replace(live.models.live.pooling, repetition_power=1.0)
    live.models.live = replace(live.models.live, model_version="m2", pooling=pooling)
    refresh(live)
    made = rows(live, "ann").filter(
        (pl.col("model_version") == "m2") & (pl.col("period") == (THIS + -4).name)
    )
    assert len(made)
    assert all(each >= came for each in made["known_time"])
