"""Counts by cohort, the noise that is drawn once, and what differences of answers tell of a user."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations

import numpy as np
import pytest

from services.core.demand import (
    ACTIVITY_COHORTS,
    COHORT_PERIODS,
    EVERYONE,
    NOT_DRAWN,
    Partition,
    ReleaseTerms,
    add_cells,
    count_cells,
    publish,
    told,
)
from services.core.demand_release import make_release
from services.core.errors import CohortTooSmall, InvalidArgument
from services.core.topics import NO_TOPIC

TOPICS = ("t1", "t2")
SECRET = b"s" * 32
NOW = datetime(2026, 11, 24, tzinfo=UTC)
TERMS = ReleaseTerms(partition=Partition.ALL)


def counted(events, periods=4, first=100, terms=TERMS, users=None, topic_ids=TOPICS):
    """Count (user, topic, period) triples; periods count from the first one published."""
    user, topic, period = (np.array(column, np.int64) for column in zip(*events, strict=True))
    return count_cells(
        user, topic, period + first, user_count=users or int(user.max()) + 1, topic_ids=topic_ids,
        first=first, period_count=periods, terms=terms,
    )  # fmt: skip


def crowd(users=200, periods=20, seed=0, topics=2):
    """Return events of users who come now and then; user 0 comes in every period, for topic 0."""
    rng = np.random.default_rng(seed)
    rate = rng.uniform(0.1, 1.0, users)
    rows = [
        (user, int(rng.integers(topics)), period)
        for user in range(1, users)
        for period in range(-COHORT_PERIODS + 1, periods)
        if rng.random() < rate[user]
        for _ in range(int(rng.integers(1, 4)))
    ]
    return rows + [(0, 0, period) for period in range(-COHORT_PERIODS + 1, periods)]


def release_of(events, former=None, terms=TERMS, secret=SECRET, periods=20, **more):
    cells = counted(events, periods=periods, terms=terms)
    return make_release(
        cells, former, terms, secret=secret, space_id="toy", now=NOW, **more
    )  # fmt: skip


def test_a_user_counts_once_in_an_audience_and_up_to_the_cap_in_a_volume():
    terms = replace(TERMS, event_cap=3)
    cells = counted([(0, 0, 1)] * 5 + [(1, 0, 1), (1, 1, 2)], terms=terms)
    assert cells.cohorts == (EVERYONE,)
    assert cells.audience_CTP[0].tolist() == [[0, 2, 0, 0], [0, 0, 1, 0]]
    assert cells.volume_CTP[0].tolist() == [[0, 4, 0, 0], [0, 0, 1, 0]]
    assert cells.size_CP.tolist() == [[0, 2, 2, 2]]


def test_an_event_without_a_topic_makes_its_user_active_and_no_more():
    cells = counted([(0, NO_TOPIC, 0)])
    assert cells.audience_CTP.sum() == 0
    assert cells.size_CP.tolist() == [[1, 1, 1, 1]]


def test_activity_cohorts_follow_the_active_periods_of_the_last_eight():
    terms = replace(TERMS, partition=Partition.ACTIVITY)
    events = [(0, 0, p) for p in range(8)] + [(1, 0, p) for p in (1, 3, 6)] + [(2, 0, 7)]
    cells = counted(events, periods=8, terms=terms)
    assert cells.cohorts == ACTIVITY_COHORTS
    # 1, 1, 2, 2, ... active periods up to each: user 0 is frequent from the sixth on.
    assert cells.size_CP.tolist() == [
        [1, 2, 1, 1, 1, 1, 0, 1],
        [0, 0, 1, 1, 1, 0, 1, 1],
        [0, 0, 0, 0, 0, 1, 1, 1],
    ]
    assert cells.audience_CTP[:, 0, 7].tolist() == [1, 0, 1]


def test_topic_cohorts_follow_the_most_frequent_topic_ties_to_the_first():
    terms = replace(TERMS, partition=Partition.TOPIC)
    cells = counted([(0, 0, 0), (0, 1, 1), (0, 1, 2)], terms=terms)
    assert cells.cohorts == TOPICS
    assert cells.size_CP.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("partition", Partition)
def test_a_user_is_in_one_cohort_a_period_and_users_add_up_in_any_split(partition):
    terms = replace(TERMS, partition=partition)
    events = crowd(users=700, periods=5)
    whole = counted(events, periods=5, terms=terms)
    active = {(u, q) for u, _, p in events for q in range(max(p, 0), min(p + COHORT_PERIODS, 5))}
    assert whole.size_CP.sum() == len(active)
    halves = [
        counted([e for e in events if e[0] % 2 == part], periods=5, terms=terms, users=700)
        for part in (0, 1)
    ]
    joined = add_cells(*halves)
    for name in ("audience_CTP", "volume_CTP", "size_CP"):
        assert np.array_equal(getattr(joined, name), getattr(whole, name))


def test_what_was_drawn_stands_whatever_the_events_have_become():
    first = release_of(crowd(), periods=18)
    # A user erased, late events, two periods more.
    later = [e for e in crowd() if e[0] != 3] + [(5, 0, 2)] * 40
    second = release_of(later, first)
    for name in ("audience_CTP", "volume_CTP", "size_CP"):
        before, after = (getattr(one.published, name) for one in (first, second))
        assert np.array_equal(before, after[..., :18])
        assert (after[..., 18:] != NOT_DRAWN).all()


def test_new_topics_are_drawn_and_former_ones_keep_their_cells():
    first = release_of(crowd())
    cells = counted(crowd(seed=1), periods=20, topic_ids=("t2", "t3"))
    second = make_release(cells, first, TERMS, secret=SECRET, space_id="toy", now=NOW)
    assert second.topic_ids == ("t2", "t3")
    held = second.published
    assert held.topic_ids == ("t1", "t2", "t3")
    assert np.array_equal(held.audience_CTP[:, :2], first.published.audience_CTP)
    assert (held.audience_CTP[:, 2] != NOT_DRAWN).all()


def test_a_draw_is_a_function_of_secret_edition_cohort_topic_and_period():
    same = release_of(crowd()).published
    again = release_of(crowd()).published
    assert np.array_equal(same.audience_CTP, again.audience_CTP)
    for other in (
        release_of(crowd(), secret=b"t" * 32),
        release_of(crowd(), release_of(crowd()), is_new_edition=True),
        release_of(crowd(), terms=replace(TERMS, epsilon=1.01)),
    ):
        assert np.mean(other.published.audience_CTP == same.audience_CTP) < 0.6
    assert release_of(crowd(), release_of(crowd()), is_new_edition=True).published.edition == 2


def noise_of(count=400):
    cells = counted(crowd(users=60, periods=count), periods=count)
    published = publish(cells, None, TERMS, SECRET)
    return (
        published.audience_CTP - cells.audience_CTP,
        published.volume_CTP - cells.volume_CTP,
        published.size_CP - cells.size_CP,
    )


def test_noise_is_two_sided_geometric_of_the_stated_scale_and_sizes_never_say_too_much():
    users, events, size = noise_of()
    a = np.exp(-TERMS.epsilon)
    # 800 draws: 4 standard errors are 0.07.
    for k in range(-2, 3):
        assert np.mean(users == k) == pytest.approx((1 - a) / (1 + a) * a ** abs(k), abs=0.07)
    assert users.var() == pytest.approx(TERMS.audience_variance, rel=0.4)
    assert events.var() == pytest.approx(TERMS.volume_variance, rel=0.4)
    assert abs(np.corrcoef(users.ravel(), events.ravel())[0, 1]) < 0.15
    assert abs(np.corrcoef(users[0, 0], users[0, 1])[0, 1]) < 0.2
    assert size.max() <= 0
    assert size.min() >= -2 * TERMS.size_margin


def test_a_cohort_below_the_least_size_is_never_told_and_is_in_no_sum():
    terms = replace(TERMS, partition=Partition.ACTIVITY)
    events = [(u, 0, p) for u in range(90) for p in range(-7, 3)]
    # 19 who come once a while: fewer than 20.
    events += [(90 + u, 0, 2) for u in range(19)]
    for number in range(12):
        release = release_of(events, terms=terms, secret=bytes([number]) * 32, periods=3)
        with pytest.raises(CohortTooSmall) as failed:
            release.told("occasional")
        assert failed.value.metadata == {"cohort": "occasional", "least_users": "20"}
        assert "below 20" in failed.value.message
        everyone, frequent = release.told(EVERYONE), release.told("frequent")
        assert np.array_equal(everyone.volume_TP, frequent.volume_TP, equal_nan=True)
        assert set(release.forecasts) == {EVERYONE, "frequent"}


def test_a_large_cohort_is_always_told():
    margin = 2 * TERMS.size_margin
    events = [(u, 0, 0) for u in range(TERMS.least_users + margin)]
    cells = counted(events, periods=1)
    for number in range(50):
        published = publish(cells, None, TERMS, bytes([number]) * 32)
        assert told(published, TOPICS, (EVERYONE,)).size_P[0] >= 20


def test_cohorts_outside_the_partition_are_refused():
    release = release_of(crowd())
    for name in ("frequent", "u1,u2", ""):
        with pytest.raises(InvalidArgument, match="cohort"):
            release.told(name)


def answers_of(release):
    """Return every number that calls can be answered with: by cohort, figure, topic, period, horizon."""
    found = {}
    for cohort in release.forecasts:
        seen, ahead = release.told(cohort), release.forecasts[cohort]
        for topic in range(len(release.topic_ids)):
            for period in range(seen.volume_TP.shape[1]):
                found[cohort, "audience", topic, period] = seen.audience_TP[topic, period]
                found[cohort, "volume", topic, period] = seen.volume_TP[topic, period]
            for horizon in range(3):
                for figure in ("audience", "volume", "share"):
                    series = getattr(ahead, figure)
                    found[cohort, figure, topic, "ahead", horizon] = series.mean_NH[topic, horizon]
    return found


def test_forecasts_are_made_of_published_counts_alone():
    release = release_of(crowd(), terms=replace(TERMS, partition=Partition.ACTIVITY))
    # Other true counts behind the same publication: everything answered stays as it is.
    other = release_of(crowd(seed=9), release, terms=release.terms)
    assert answers_of(other) == answers_of(release)


def test_no_difference_of_two_answers_tells_of_one_user_beyond_the_noise():
    """An attacker who knows all but one user differences every pair of answers.

    The user was there for topic 0 in one period, or not. Cells are compared with each other, with
    `all`, with themselves (a repeated call), with forecasts. A guess is right more often than chance
    by at most tanh(epsilon / 2) for one cell; an audience and a volume together twice epsilon.
    """
    terms = replace(TERMS, partition=Partition.ACTIVITY, event_cap=2)
    base, target, period = crowd(users=160, periods=8), 0, 7
    worlds = [
        [e for e in base if e[0] != target or e[2] != period] + [(target, NO_TOPIC, period)],
        base,
    ]
    cells = [counted(events, periods=8, terms=terms) for events in worlds]
    changed = [
        np.argwhere(getattr(cells[0], name) != getattr(cells[1], name)).tolist()
        for name in ("audience_CTP", "volume_CTP", "size_CP")
    ]
    # One cell of an audience, the same of a volume, by what the noise is made for; no other.
    cohort = ACTIVITY_COHORTS.index("frequent")
    assert changed == [[[cohort, 0, period]], [[cohort, 0, period]], []]
    assert np.abs(cells[1].audience_CTP - cells[0].audience_CTP).max() == 1
    assert np.abs(cells[1].volume_CTP - cells[0].volume_CTP).max() <= terms.event_cap

    keys = None
    differences = ([], [])
    for number in range(300):
        secret = number.to_bytes(32, "big")
        for world, counts in enumerate(cells):
            published = publish(counts, None, terms, secret)
            numbers = []
            for names in (("frequent",), ("regular",), ("occasional",), ACTIVITY_COHORTS):
                seen = told(published, TOPICS, names)
                numbers += [seen.audience_TP[0, 6:], seen.volume_TP[0, 6:]]
            flat = np.concatenate(numbers)
            keys = keys or list(combinations(range(len(flat)), 2))
            differences[world].append([flat[i] - flat[j] for i, j in keys])
    without_SK, with_SK = (np.array(rows) for rows in differences)
    bound = np.tanh(2 * terms.epsilon / 2)
    # Half of the draws choose the threshold, the others judge it: 150 each, standard error 0.058.
    for column in range(len(keys)):
        a, b = without_SK[:, column], with_SK[:, column]
        steps = np.unique(np.concatenate([a[:150], b[:150]]))
        gain = [(b[:150] >= s).mean() - (a[:150] >= s).mean() for s in steps]
        best = int(np.argmax(np.abs(gain)))
        sign = np.sign(gain[best]) or 1
        judged = sign * ((b[150:] >= steps[best]).mean() - (a[150:] >= steps[best]).mean())
        assert judged <= bound + 4 * 0.058, (keys[column], judged)


def test_repeated_calls_and_refreshes_give_the_same_answers():
    release = release_of(crowd(), terms=replace(TERMS, partition=Partition.ACTIVITY))
    again = release_of(crowd(), release, terms=release.terms)
    fresh = release_of(crowd(), terms=release.terms)  # as after the loss of the file
    assert answers_of(release) == answers_of(again) == answers_of(fresh)
