"""Portraits of planted users: three topics of three items each."""

import numpy as np
import pytest

from services.core.activity import NO_ACTIVITY, WEEKS, Activity
from services.core.periods import Period
from services.core.portrait import (
    NO_PORTRAIT,
    Standing,
    Trend,
    cited_items,
    paint_portrait,
    topic_shares,
)
from services.core.portrait_text import describe
from services.core.schema import Granularity
from services.core.topics import Topics

NAMES = ("food", "tools", "toys")
TOPICS = Topics(
    ids=("t1", "t2", "t3"),
    names=NAMES,
    terms=(("jam",), ("drill",), ("doll",)),
    categories=(("food",), ("tools",), ("toys",)),
    centroids_TD=np.eye(3, dtype=np.float32),
    item_count=9,
)
ITEMS = tuple(f"{name}{n}" for name in NAMES for n in range(3))
TOPIC_OF = {item: ix // 3 for ix, item in enumerate(ITEMS)}
PRIOR = np.array([0.5, 0.3, 0.2])
FIRST = 2900


def activity(count_TP, item=0, weekday=(1,) * 7, hours=(1,) * 24):
    """Return what a user did: all of a topic's events are of one of its items."""
    week_C, topic_C = np.nonzero(np.asarray(count_TP).T)
    return Activity(
        item_ids=ITEMS,
        item_C=topic_C * 3 + item,
        week_C=week_C + FIRST,
        count_C=np.asarray(count_TP).T[week_C, topic_C].astype(np.int64),
        weekday_days=tuple(weekday),
        hour_hours=tuple(hours),
    )


def paint(count_TP, **changes):
    made = paint_portrait(activity(count_TP, **changes), TOPIC_OF, TOPICS, PRIOR)
    return made, {one.name: one for one in made.interests}


def week(ordinal):
    return Period(Granularity.WEEK, FIRST + ordinal).name


def test_weights_are_decayed_shares_that_lean_on_the_populations():
    counts = np.zeros((3, 13))
    counts[0, 0], counts[1, 12] = 40, 40
    _, by_name = paint(counts)
    # 12 weeks later an event counts for half: a third and two thirds, drawn to 0.5 and 0.3.
    assert 1 / 3 < by_name["food"].weight < 0.5
    assert 0.3 < by_name["tools"].weight < 2 / 3
    for one in by_name.values():
        assert 0 <= one.weight_low < one.weight < one.weight_high <= 1


def test_more_events_make_a_narrower_interval_and_clumps_a_wider_one():
    def width(counts):
        one = paint(counts)[1]["food"]
        return one.weight_high - one.weight_low

    even = np.tile([[2], [2], [1]], (1, 20))
    clumped = np.zeros((3, 20))
    clumped[0, ::5], clumped[1, 1::5], clumped[2, 2::5] = 10, 10, 5
    assert width(4 * even) < width(even) < width(clumped)


def test_shares_of_all_topics_sum_to_one_and_a_stranger_has_the_populations():
    counts = np.zeros((3, 13))
    counts[0, :] = 3
    shares = topic_shares(activity(counts), TOPIC_OF, PRIOR)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] > 0.5
    assert 0 < shares[2] < 0.2
    assert topic_shares(NO_ACTIVITY, TOPIC_OF, PRIOR) is PRIOR
    _, by_name = paint(counts)
    assert by_name["food"].weight == pytest.approx(shares[0])


def test_a_growing_interest_rises_one_that_makes_room_fades_and_each_cites_its_items():
    counts = np.stack([np.linspace(8, 0, 26), np.linspace(0, 8, 26), np.full(26, 2)]).round()
    made, by_name = paint(counts, item=1)
    assert by_name["food"].trend is Trend.FADING
    assert by_name["tools"].trend is Trend.RISING
    assert by_name["toys"].trend is Trend.STEADY
    rising = by_name["tools"].trend_evidence
    assert rising.item_ids == ("tools1",)
    assert (rising.first_week, rising.last_week) == (FIRST + 13, FIRST + 25)
    assert rising.event_count == counts[1, 13:].sum()
    fading = by_name["food"].trend_evidence
    assert (fading.first_week, fading.last_week) == (FIRST, FIRST + 12)
    text = describe(made, {"tools1": "Cordless drill"})
    assert f"tools is rising (like Cordless drill, {week(13)} to {week(25)})" in text
    assert "food is fading (like food1" in text
    assert "toys is" not in text


def test_too_few_weeks_or_events_tell_no_trend():
    _, by_name = paint(np.stack([np.arange(7), 7 - np.arange(7), np.zeros(7)]))
    assert {one.trend for one in by_name.values()} == {Trend.UNKNOWN}
    counts = np.tile([[3], [3], [0]], (1, 26))
    counts[2, 25] = 5
    assert paint(counts)[1]["toys"].trend is Trend.UNKNOWN
    assert paint(counts)[1]["toys"].trend_evidence is None


def test_a_change_names_its_week_and_both_shares():
    counts = np.tile([[4], [4], [0]], (1, 40))
    counts[:, 25:] = [[4], [0], [4]]
    made, by_name = paint(counts)
    change = by_name["toys"].change
    assert change.week == FIRST + 25
    assert (change.share_before, change.share_after) == (0, 0.5)
    assert (change.evidence.first_week, change.evidence.last_week) == (FIRST + 25, FIRST + 39)
    assert by_name["tools"].change.evidence.last_week == FIRST + 24
    assert by_name["food"].change is None
    assert f"toys went from 0% to 50% in {week(25)}" in describe(made, {})


def test_a_core_interest_is_told_from_a_fling_and_both_from_what_comes_now_and_then():
    counts = np.zeros((3, WEEKS))
    counts[0, :] = 3
    counts[1, 20:24] = 3
    counts[2, [3, 17, 40]] = 1
    _, by_name = paint(counts)
    assert by_name["food"].standing is Standing.CORE
    assert by_name["tools"].standing is Standing.FLING
    spell = by_name["tools"].standing_evidence
    assert (spell.first_week, spell.last_week, spell.event_count) == (FIRST + 20, FIRST + 23, 12)
    assert by_name["toys"].standing is Standing.NEITHER
    assert by_name["toys"].standing_evidence is None


def test_a_new_user_has_no_core_and_no_fling():
    _, by_name = paint(np.tile([[3], [1], [0]], (1, 6)))
    assert {one.standing for one in by_name.values()} == {Standing.NEITHER}


def test_the_pattern_names_a_day_and_hours_only_where_they_stand_out():
    counts = np.zeros((3, 11))
    counts[0, [0, 2, 4, 10]] = 6
    even, _ = paint(counts)
    assert (even.pattern.active_weeks, even.pattern.weeks) == (4, 11)
    assert even.pattern.events_per_active_week == 6
    assert (even.pattern.weekday, even.pattern.day_part_hour) == (None, None)
    hours = np.zeros(24, int)
    hours[18:22] = 9
    busy, _ = paint(counts, weekday=(1, 1, 1, 1, 1, 20, 1), hours=hours)
    assert (busy.pattern.weekday, busy.pattern.day_part_hour) == (5, 18)
    text = describe(busy, {})
    assert "Active in 4 of 11 weeks, with 6 events in each, most often on Saturdays" in text
    assert text.endswith("between 18:00 and 24:00 UTC.")


def test_every_citation_is_the_users_and_of_the_topic():
    rng = np.random.default_rng(0)
    made, by_name = paint(rng.poisson(2, (3, WEEKS)), item=2)
    assert set(cited_items(made)) == {"food2", "tools2", "toys2"}
    for name, one in by_name.items():
        assert one.evidence.item_ids == (f"{name}2",)


def test_items_of_no_topic_count_for_nothing_and_nothing_known_is_no_portrait():
    counts = np.full((3, 10), 2)
    made = paint_portrait(activity(counts), {"food0": 0}, TOPICS, PRIOR)
    assert [one.name for one in made.interests] == ["food"]
    assert made.interests[0].evidence.event_count == 20
    assert paint_portrait(activity(counts), {}, TOPICS, PRIOR) == NO_PORTRAIT
    assert paint_portrait(NO_ACTIVITY, TOPIC_OF, TOPICS, PRIOR) == NO_PORTRAIT
    assert describe(NO_PORTRAIT, {}) == ""
