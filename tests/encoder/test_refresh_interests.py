import random
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from services.core.errors import Cancelled, InvalidArgument
from services.core.schema import (
    DEFAULT_TENANT,
    HISTORY_PERIODS,
    Granularity,
    bucket_of,
    by_period_view,
    history_view,
    profile_view,
)
from tests.encoder.world import BUCKETS, NOW, WEEK, event, item, model, world

ITEMS = ("tea", "milk", "socks")
USERS = [f"u{n}" for n in range(20)]


def ready(folder, **settings):
    w = world(folder, **settings)
    w.add_items(*[item(name, categories=(name, "all")) for name in ITEMS])
    w.encoder.refresh_items(DEFAULT_TENANT, is_full=False, cancelled=lambda: False)
    return w


def refresh(w, buckets=(), *, is_full=False, cancelled=lambda: False, settings=None):
    encoder = w.encoder_at(settings or w.settings)
    return encoder.refresh_interests(DEFAULT_TENANT, buckets, is_full=is_full, cancelled=cancelled)


def some_events(count=200):
    rng = random.Random(0)
    start = datetime(2026, 1, 5, tzinfo=UTC)
    return [
        event(
            rng.choice(USERS),
            rng.choice(ITEMS),
            (start + timedelta(days=rng.randrange(80))).date().isoformat(),
            hour=rng.uniform(0, 24),
        )
        for _ in range(count)
    ]


def published(w, granularity=WEEK):
    """{(user, period): (vector, count)} of what other teams read offline."""
    rows = pl.concat(
        w.features.read_offline(DEFAULT_TENANT, by_period_view(granularity, w.space_id), bucket)
        for bucket in range(BUCKETS)
    )
    return {
        (row["user_id"], row["period"]): (np.array(row["vec"]), row["event_count"])
        for row in rows.iter_rows(named=True)
    }


def copies(w, granularity=WEEK):
    return w.features.offline_rows(by_period_view(granularity, w.space_id))


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key, (vec, count) in a.items():
        assert count == b[key][1]
        assert np.abs(vec - b[key][0]).max() < 1e-6


def test_every_user_gets_vectors_history_rank_state_profile_and_activity(tmp_path):
    w = ready(tmp_path)
    w.add_events(*some_events())
    made = refresh(w)
    assert (made.user_count, made.bucket_count, made.space_id) == (len(USERS), BUCKETS, w.space_id)
    assert made.vector_count == sum(len(published(w, g)) for g in Granularity)
    views = {view for view, _ in w.features.online}
    assert len(views) == 3 + 3 + 3 + 1  # and item_vector
    assert all(w.features.user_ids(view) == set(USERS) for view in views if "item" not in view)


async def test_readers_get_the_newest_vector_a_bounded_history_and_the_rank_state(tmp_path):
    w = ready(tmp_path)
    w.add_events(*[event(when=f"2025-{1 + n // 4:02}-{1 + 7 * (n % 4):02}") for n in range(40)])
    w.add_events(event("ann", "milk", "2026-03-10", hour=6), event("ann", "milk", "2026-03-17"))
    refresh(w)
    newest = await w.features.interest(DEFAULT_TENANT, w.space_id, "ann", WEEK)
    assert (newest.period.name, newest.event_count) == ("2026-W12", 1)
    history = await w.features.history(DEFAULT_TENANT, w.space_id, "ann", WEEK)
    assert len(history) == HISTORY_PERIODS[WEEK]
    assert np.array_equal(history[-1].vec_D, newest.vec_D)
    state = await w.features.rank_state(DEFAULT_TENANT, w.space_id, "ann")
    assert state.repeat_item_ids == ("milk", "tea")
    assert state.state_time == datetime(2026, 3, 17, 12, tzinfo=UTC).timestamp()
    profile = await w.features.profile(DEFAULT_TENANT, w.space_id, "ann")
    assert (profile.event_count, profile.labels[0]) == (42, "all")
    year = await w.features.activity(DEFAULT_TENANT, w.space_id, "ann")
    assert year.item_ids == ("milk", "tea")
    assert year.week_C.max() - year.week_C.min() < 52
    assert year.count_C.sum() == sum(year.weekday_days)


def test_a_second_refresh_finds_nothing_to_do(tmp_path):
    w = ready(tmp_path)
    w.add_events(*some_events())
    refresh(w)
    w.features.online.clear()
    again = refresh(w)
    assert (again.user_count, again.vector_count, again.bucket_count) == (0, 0, 0)
    assert w.features.online == []


def test_a_full_refresh_of_the_same_publishes_no_vector_twice(tmp_path):
    w = ready(tmp_path)
    w.add_events(*some_events())
    refresh(w)
    before = copies(w)
    again = refresh(w, is_full=True)
    assert (again.user_count, again.vector_count, again.bucket_count) == (0, 0, BUCKETS)
    assert copies(w) == before


def test_a_new_event_touches_its_user_alone_and_its_period_alone(tmp_path):
    w = ready(tmp_path)
    w.add_events(*some_events())
    refresh(w)
    before = published(w)
    w.add_events(event("u3", "socks", "2026-03-30"))
    made = refresh(w)
    after = published(w)
    assert made.user_count == 1
    changed = {key for key in after if key not in before or before[key][1] != after[key][1]}
    assert changed == {("u3", "2026-W14")}


def test_few_users_of_many_buckets_are_read_and_published_together(tmp_path):
    w = ready(tmp_path)
    w.add_events(*some_events())
    refresh(w)
    w.features.online.clear()
    w.features.asked.clear()
    touched = [next(u for u in USERS if bucket_of(u, BUCKETS) == bucket) for bucket in range(2)]
    w.add_events(*[event(user, "socks", "2026-03-30") for user in touched])
    assert (refresh(w).user_count, BUCKETS) == (2, 2)
    assert sorted(map(tuple, w.features.asked)) == sorted(
        (user,) for user in touched for _ in range(4)
    )
    views = [view for view, _ in w.features.online]
    assert len(views) == len(set(views))
    assert all(rows == 2 for _, rows in w.features.online)
    assert refresh(w, is_full=True).vector_count == 0


def test_items_that_changed_before_a_cut_reach_every_bucket_in_the_retry(tmp_path):
    w = ready(tmp_path)
    w.add_events(*some_events())
    refresh(w)
    w.add_items(item("tea", text="leaves", updated=datetime(2026, 3, 1, tzinfo=UTC)))
    w.encoder.refresh_items(DEFAULT_TENANT, is_full=False, cancelled=lambda: False)
    w.features.fail_offline_after = len(w.features.parts) + 5
    with pytest.raises(ConnectionError):
        refresh(w)
    w.features.fail_offline_after = None
    assert refresh(w).bucket_count == BUCKETS
    assert refresh(w, is_full=True).vector_count == 0


def test_an_event_of_the_future_is_not_forgotten_when_another_user_has_a_new_event(tmp_path):
    w = ready(tmp_path)
    w.add_events(event("ann", "tea", "2026-04-06"), event("bob", "tea"))
    refresh(w)
    w.add_events(*[event(user, "milk", "2026-03-10") for user in USERS])
    refresh(w)
    later = w.settings.model_copy(update={"now": NOW + timedelta(days=10)})
    refresh(w, settings=later)
    assert ("ann", "2026-W15") in published(w)


def test_increments_equal_a_backfill(tmp_path):
    rows = some_events(300)
    rows.sort(key=lambda row: row["event_time"])
    grown, at_once = ready(tmp_path / "a"), ready(tmp_path / "b")
    late = rows[50:60]
    for start in range(0, 300, 60):
        batch = [row for row in rows[start : start + 60] if row not in late]
        grown.add_events(*batch)
        refresh(grown, settings=grown.settings.model_copy(update={"now": batch[-1]["event_time"]}))
    grown.add_events(*late)
    refresh(grown)
    at_once.add_events(*rows)
    refresh(at_once)
    for granularity in Granularity:
        assert_same(published(grown, granularity), published(at_once, granularity))


def test_an_item_described_later_brings_its_events_in(tmp_path):
    w = ready(tmp_path)
    w.add_events(event("ann", "coffee"), event("bob", "tea"))
    assert refresh(w).user_count == 1
    w.add_items(item("coffee"))
    w.encoder.refresh_items(DEFAULT_TENANT, is_full=False, cancelled=lambda: False)
    assert refresh(w).user_count == 1
    assert {user for user, _ in published(w)} == {"ann", "bob"}
    assert refresh(w).bucket_count == 0


def test_an_event_of_the_future_waits_for_the_clock(tmp_path):
    w = ready(tmp_path)
    w.add_events(event("ann", "tea", "2026-03-30"), event("bob", "tea", "2026-04-06"))
    assert refresh(w).user_count == 1
    later = w.settings.model_copy(update={"now": NOW + timedelta(days=10)})
    assert refresh(w, settings=later).user_count == 1
    assert {user for user, _ in published(w)} == {"ann", "bob"}
    assert refresh(w, settings=later).bucket_count == 0


def test_closed_periods_are_known_a_lag_after_their_close_and_open_ones_when_computed(tmp_path):
    w = ready(tmp_path, publish_lag_s=7200)
    w.add_events(event("ann", "tea", "2026-03-03"), event("ann", "tea", "2026-03-31"))
    started = datetime.now(UTC)
    refresh(w)
    rows = w.features.read_offline(
        DEFAULT_TENANT, by_period_view(WEEK, w.space_id), bucket_of("ann", BUCKETS)
    )
    known = dict(rows.select("period", "known_time").iter_rows())
    computed = dict(rows.select("period", "computed_time").iter_rows())
    assert known["2026-W10"] == datetime(2026, 3, 9, 2, tzinfo=UTC)
    assert known["2026-W14"] == computed["2026-W14"] >= started


def test_cut_between_chunks_it_stops_and_its_retry_publishes_nothing_twice(tmp_path):
    w = ready(tmp_path, refresh_chunk_users=3)
    w.add_events(*some_events())
    whole = ready(tmp_path / "whole")
    whole.add_events(*some_events())
    refresh(whole)
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        refresh(w, cancelled=lambda: next(asked))
    done = len({user for user, _ in published(w)})
    assert done == 6
    again = refresh(w)
    assert again.user_count == len(USERS) - done
    for granularity in Granularity:
        assert copies(w, granularity) == len(published(w, granularity))
        assert_same(published(w, granularity), published(whole, granularity))


@pytest.mark.parametrize("cut", range(0, 14, 3))
def test_cut_anywhere_while_publishing_the_retry_makes_it_whole(tmp_path, cut):
    w = ready(tmp_path, refresh_chunk_users=7)
    w.add_events(*some_events())
    w.features.fail_offline_after = len(w.features.parts) + cut
    with pytest.raises(ConnectionError):
        refresh(w)
    w.features.fail_offline_after = None
    refresh(w)
    for granularity in Granularity:
        assert copies(w, granularity) == len(published(w, granularity))
    assert w.features.offline_rows(profile_view(w.space_id)) == len(USERS)
    assert w.features.offline_rows(history_view(WEEK, w.space_id)) == len(USERS)
    assert refresh(w, is_full=True).vector_count == 0


def test_a_day_that_becomes_bulk_takes_its_vectors_back(tmp_path):
    w = ready(tmp_path)
    w.add_events(event("ann", "tea", "2026-03-03"), event("ann", "milk", "2026-03-17"))
    refresh(w)
    w.add_events(*[event("ann", "tea", "2026-03-03", hour=n / 100) for n in range(1000)])
    assert refresh(w).user_count == 1
    assert set(published(w)) == {("ann", "2026-W12")}


def test_an_erased_user_leaves_nothing(tmp_path):
    w = ready(tmp_path)
    w.add_events(event("ann", "tea"), event("bob", "tea"))
    refresh(w)
    w.tables.erase(DEFAULT_TENANT, ["ann"])
    refresh(w, is_full=True)
    w.features.erase(DEFAULT_TENANT, w.space_id, ["ann"])
    assert {user for user, _ in published(w)} == {"bob"}


def test_a_new_model_makes_everything_again(tmp_path):
    w = ready(tmp_path)
    w.add_events(*some_events())
    refresh(w)
    w.models.live = model("m2")
    assert refresh(w).bucket_count == BUCKETS
    assert refresh(w).bucket_count == 0


def test_only_the_buckets_asked_for_are_done_and_an_unknown_one_is_named(tmp_path):
    w = ready(tmp_path)
    w.add_events(*some_events())
    refresh(w, [1])
    assert {bucket_of(user, BUCKETS) for user, _ in published(w)} == {1}
    with pytest.raises(InvalidArgument, match=r"buckets\[1\]"):
        refresh(w, [0, 7])


def test_only_the_granularities_asked_for_are_made(tmp_path):
    w = ready(tmp_path, granularities="week")
    w.add_events(*some_events())
    refresh(w)
    assert copies(w, WEEK) > 0
    assert copies(w, Granularity.DAY) == copies(w, Granularity.MONTH) == 0


def test_a_user_whose_event_gave_way_to_another_users_is_made_anew(tmp_path):
    w = ready(tmp_path)
    w.add_events(event("ann", "tea", "2026-03-03"), event("bob", "tea", "2026-03-03"))
    refresh(w)
    stored = w.tables.read_events(DEFAULT_TENANT)
    gone = stored.filter(user_id="ann")
    w.tables.append_events(
        DEFAULT_TENANT, gone.with_columns(user_id=pl.lit("eve")), "conflict", gone
    )
    refresh(w)
    assert {user for user, _ in published(w)} == {"bob", "eve"}
    assert "ann" not in w.features.user_ids(f"interest_week__{w.space_id}")
