"""The encoder's pure step. Three items on three axes, so that vectors can be read off."""

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from services.core.interests import make_interests
from services.core.item_versions import ItemVersions
from services.core.periods import period_from_name
from services.core.pooling import PoolingConfig
from services.core.schema import Granularity, Kind

DAY, WEEK, MONTH = Granularity.DAY, Granularity.WEEK, Granularity.MONTH
NOW = datetime(2026, 6, 1, tzinfo=UTC)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH = LONG_AGO


def at(day: str, hour: float = 12.0) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=hour)


def event(user="ann", item="tea", when="2026-03-03", kind=Kind.CLICK, value=None, hour=12.0):
    return {
        "user_id": user,
        "item_id": item,
        "kind": str(kind),
        "value": value,
        "event_time": at(when, hour),
    }


def frame(rows):
    return pl.DataFrame(
        rows,
        schema={
            "user_id": pl.String,
            "item_id": pl.String,
            "kind": pl.String,
            "value": pl.Float64,
            "event_time": pl.Datetime("us", "UTC"),
        },
    )


def catalogue(*versions):
    """Versions of (item, updated, vector, categories), in item and time order."""
    item_ids = tuple(sorted({version[0] for version in versions}))
    return ItemVersions(
        item_ids=item_ids,
        item_ix_V=np.array([item_ids.index(item) for item, *_ in versions], np.int64),
        updated_us_V=np.array(
            [(updated - EPOCH) // timedelta(microseconds=1) for _, updated, *_ in versions],
            np.int64,
        ),
        vec_VD=np.array([vec for _, _, vec, _ in versions], np.float32).reshape(len(versions), -1),
        categories_V=tuple(categories for *_, categories in versions),
    )


AXES = catalogue(
    ("milk", LONG_AGO, [0, 1, 0], ("food", "dairy")),
    ("socks", LONG_AGO, [0, 0, 1], ("clothes",)),
    ("tea", LONG_AGO, [1, 0, 0], ("food",)),
)


def make(rows, versions=AXES, *, now=NOW, bulk=1000, granularities=(WEEK,), pooling=None):
    return make_interests(
        frame(rows),
        versions,
        pooling=pooling or PoolingConfig(),
        granularities=granularities,
        now=now,
        bulk_day_events=bulk,
    )


def vectors(made, granularity=WEEK):
    """{(user, period ordinal): (bytes of the vector, event count)}"""
    pooled = made.periods[granularity]
    return {
        (made.user_ids[user], period): (vec.tobytes(), count)
        for user, period, vec, count in zip(
            pooled.user_ix_P.tolist(),
            pooled.period_P.tolist(),
            pooled.vec_PD,
            pooled.event_count_P.tolist(),
            strict=True,
        )
    }


def week(name):
    return period_from_name(WEEK, name).ordinal


def random_events(count, seed=0, users=("ann", "bob", "cyd")):
    rng = random.Random(seed)
    return [
        event(
            rng.choice(users),
            rng.choice(["tea", "milk", "socks", "unknown"]),
            f"2026-{rng.randint(1, 5):02}-{rng.randint(1, 28):02}",
            rng.choice(list(Kind)),
            rng.choice([None, 1.0, 3.0]),
            rng.uniform(0, 24),
        )
        for _ in range(count)
    ]


def test_a_period_pools_its_own_items_and_others_are_gaps():
    made = make([
        event(item="tea", when="2026-03-03"),
        event(item="milk", when="2026-03-04"),
        event(item="socks", when="2026-03-18"),
    ])  # fmt: skip
    pooled = made.periods[WEEK]
    assert pooled.period_P.tolist() == [week("2026-W10"), week("2026-W12")]
    assert np.allclose(pooled.vec_PD, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]])
    assert pooled.event_count_P.tolist() == [2, 1]


def test_all_granularities_are_made_at_once():
    made = make(
        [event(when="2026-03-01"), event(when="2026-03-02")], granularities=tuple(Granularity)
    )
    assert {g: len(made.periods[g].period_P) for g in Granularity} == {DAY: 2, WEEK: 2, MONTH: 1}


def test_the_order_of_events_does_not_matter():
    rows = random_events(300)
    plain = make(rows)
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        again = make(rows)
        assert vectors(again) == vectors(plain)
        assert again.profiles == plain.profiles
        assert same_states(again.rank_states, plain.rank_states)


def same_states(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in type(a).__dataclass_fields__
    )


def test_a_batch_of_one_user_is_a_row_of_many():
    rows = random_events(400)
    many = make(rows)
    for position, user in enumerate(many.user_ids):
        one = make([row for row in rows if row["user_id"] == user])
        assert vectors(one) == {key: got for key, got in vectors(many).items() if key[0] == user}
        assert one.profiles[0] == many.profiles[position]
        assert np.array_equal(
            one.rank_states.query_sums_UHD[0], many.rank_states.query_sums_UHD[position]
        )
        mine = many.rank_states.repeat_user_ix_R == position
        assert np.array_equal(
            one.rank_states.repeat_counts_RH, many.rank_states.repeat_counts_RH[mine]
        )


@pytest.mark.parametrize("granularity", list(Granularity))
def test_nothing_after_a_periods_close_enters_its_vector(granularity):
    before = random_events(200)
    close = at("2026-04-06", 0)  # a Monday; days and weeks close here
    until = [row for row in before if row["event_time"] < close]
    later = [row for row in random_events(200, seed=9) if row["event_time"] >= close]
    # A flood that makes ann a suspected bot, and item texts that change, both after the close.
    flood = [
        event("ann", "socks", f"2026-05-{day:02}", hour=i / 100)
        for day in (4, 5, 6)
        for i in range(60)
    ]
    edited = catalogue(
        ("milk", LONG_AGO, [0, 1, 0], ("food",)),
        ("milk", at("2026-05-02"), [0, 0, 1], ("other",)),
        ("socks", LONG_AGO, [0, 0, 1], ()),
        ("tea", LONG_AGO, [1, 0, 0], ("food",)),
        ("tea", at("2026-05-02"), [0, 1, 0], ("other",)),
        ("unknown", at("2026-05-02"), [1, 0, 0], ()),
    )
    first = vectors(make(until, granularities=[granularity], bulk=50), granularity)
    made = make(until + later + flood, edited, granularities=[granularity], bulk=50)
    second = vectors(made, granularity)
    closed = [key for key in first if period_end(granularity, key[1]) <= close]
    assert closed
    assert {key: second[key] for key in closed} == {key: first[key] for key in closed}
    assert {key for key in second if period_end(granularity, key[1]) <= close} == set(closed)
    assert made.profiles[made.user_ids.index("ann")].is_suspected_bot


def period_end(granularity, ordinal):
    from services.core.periods import Period

    return Period(granularity, ordinal).end


def test_making_it_week_by_week_equals_making_it_at_once():
    rows = random_events(300)
    at_once = vectors(make(rows))
    grown = {}
    for days in range(0, 160, 7):
        now = at("2026-01-05", 0) + timedelta(days=days)
        grown.update(vectors(make([row for row in rows if row["event_time"] < now], now=now)))
    assert grown.keys() == at_once.keys()
    for key, (vec, count) in at_once.items():
        assert np.abs(np.frombuffer(vec, "<f4") - np.frombuffer(grown[key][0], "<f4")).max() < 1e-6
        assert grown[key][1] == count


def test_the_version_in_force_at_the_close_counts_even_for_earlier_events():
    versions = catalogue(
        ("tea", LONG_AGO, [1, 0, 0], ()),
        ("tea", at("2026-03-05"), [0, 1, 0], ()),
        ("tea", at("2026-03-09", 0), [0, 0, 1], ()),
    )
    made = make([event(when="2026-03-03"), event(when="2026-03-10")], versions)
    # The third version came into force at the very close of week 10: too late for it.
    assert made.periods[WEEK].vec_PD.tolist() == [[0, 1, 0], [0, 0, 1]]


def test_a_first_description_after_the_close_leaves_a_gap_but_enters_the_rank_state():
    versions = catalogue(("tea", at("2026-03-20"), [1, 0, 0], ("food",)))
    made = make([event(when="2026-03-03")], versions)
    assert vectors(made) == {}
    assert made.rank_states.repeat_item_ix_R.tolist() == [0]
    assert made.unknown_item_event_count == 0


def test_the_rank_state_uses_the_version_in_force_at_the_event():
    versions = catalogue(
        ("tea", at("2026-03-03"), [1, 0, 0], ()), ("tea", at("2026-03-05"), [0, 1, 0], ())
    )
    made = make([event(when="2026-03-03"), event(when="2026-03-03")], versions)
    assert (made.rank_states.query_sums_UHD[0, :, 0] > 0).all()
    assert (made.rank_states.query_sums_UHD[0, :, 1:] == 0).all()


def test_events_and_versions_after_now_are_not_seen():
    versions = catalogue(("tea", LONG_AGO, [1, 0, 0], ()), ("tea", at("2026-03-06"), [0, 1, 0], ()))
    rows = [event(when="2026-03-03"), event(item="tea", when="2026-03-07")]
    made = make(rows, versions, now=at("2026-03-05"))
    assert made.periods[WEEK].vec_PD.tolist() == [[1, 0, 0]]
    assert made.periods[WEEK].event_count_P.tolist() == [1]
    assert made.profiles[0].event_count == 1


def test_an_item_nobody_described_is_counted_and_leaves_no_vector():
    made = make([event(item="unknown"), event(user="bob")])
    assert made.user_ids == ("ann", "bob")
    assert {user for user, _ in vectors(made)} == {"bob"}
    assert made.rank_user_ix.tolist() == [1]
    assert made.unknown_item_event_count == 1
    assert made.profiles[0].event_count == 1
    assert made.profiles[0].labels == ()


def test_a_bulk_day_enters_nothing_but_the_flag_needs_three():
    bulk = [event("ann", "socks", "2026-03-03", hour=i) for i in range(4)]
    made = make([*bulk, event("ann", "tea", "2026-03-04")], bulk=3)
    assert made.periods[WEEK].vec_PD.tolist() == [[1, 0, 0]]
    assert made.rank_states.repeat_item_ix_R.tolist() == [AXES.item_ids.index("tea")]
    (profile,) = made.profiles
    assert (profile.event_count, profile.labels, profile.is_suspected_bot) == (1, ("food",), False)
    assert profile.session_count == 1
    more = [
        event("ann", "socks", day, hour=i) for day in ("2026-03-05", "2026-03-06") for i in range(4)
    ]
    assert make([*bulk, *more], bulk=3).profiles[0].is_suspected_bot


def test_exactly_the_limit_is_no_bulk_day():
    made = make([event(hour=i) for i in range(3)], bulk=3)
    assert made.periods[WEEK].event_count_P.tolist() == [3]


def test_a_user_of_bulk_days_alone_has_a_profile_and_nothing_else():
    made = make([event(hour=i) for i in range(4)], bulk=3)
    assert vectors(made) == {}
    assert made.rank_states.user_count == 0
    assert made.profiles[0].event_count == 0
    assert made.profiles[0].first_event_time == at("2026-03-03", 0)


def test_shares_fade_with_a_half_life_of_twelve_weeks_and_count_every_category():
    made = make([
        event(item="milk", when="2026-01-01"),
        event(item="tea", when="2026-03-26"),
        event(item="socks", when="2026-03-26"),
    ])  # fmt: skip
    (profile,) = made.profiles
    # 84 days old: half an event. 0.5 + 1 + 1 in all.
    assert profile.labels == ("food", "clothes", "dairy")
    assert profile.shares == pytest.approx((1.5 / 2.5, 1 / 2.5, 0.5 / 2.5))
    assert profile.recent_shares == pytest.approx((0.5, 0.5, 0))
    assert (profile.first_event_time, profile.last_event_time) == (
        at("2026-01-01"),
        at("2026-03-26"),
    )


def test_no_events_make_nothing():
    made = make([])
    assert made.user_ids == ()
    assert vectors(made) == {}
    assert made.rank_states.user_count == 0


def test_no_items_make_profiles_only():
    nothing = ItemVersions(
        item_ids=(), item_ix_V=np.zeros(0, np.int64), updated_us_V=np.zeros(0, np.int64),
        vec_VD=np.zeros((0, 3), np.float32), categories_V=(),
    )  # fmt: skip
    made = make([event()], nothing)
    assert vectors(made) == {}
    assert [profile.event_count for profile in made.profiles] == [1]


def test_of_two_versions_with_one_time_the_later_row_counts():
    versions = catalogue(("tea", LONG_AGO, [1, 0, 0], ()), ("tea", LONG_AGO, [0, 1, 0], ()))
    assert make([event()], versions).periods[WEEK].vec_PD.tolist() == [[0, 1, 0]]
