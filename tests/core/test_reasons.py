"""What a recommendation cites is what its score rests on."""

import numpy as np

from services.core.pooling import PoolingConfig, pool_rank_states
from services.core.ranking import ItemStats, score_items
from services.core.reasons import CITED, LEAST_EFFECT, cite, removal_effects
from services.core.recommend import states_of_one
from tests.core.test_recommend import DAY, NOW, learned_ranker, shelf

# Two tastes of three items each; the last of each is what may be recommended.
ITEMS_ND = np.asarray(
    [[1, 0, 0], [0.96, 0.28, 0], [0.8, 0.6, 0], [0, 0, 1], [0, 0.28, 0.96], [0, 0.6, 0.8]],
    np.float32,
)
STATS = ItemStats(share_NW=np.full((6, 1), 1 / 6, np.float32), first_time_N=np.zeros(6))


def ranker():
    """Interest counts as the vectors say."""
    made = learned_ranker()
    eye = np.stack([np.eye(3, dtype=np.float32)] * 3)
    names = {name: getattr(made, name) for name in made.__slots__}
    return type(made)(
        **names | {"query_HDD": eye, "query_bias_D": np.zeros(3, np.float32),
                   "repeat_item_DH": np.zeros((3, 3), np.float32)}
    )  # fmt: skip


def pooled(items, days):
    times = NOW - np.asarray(days, float) * DAY
    rows = np.asarray(items)
    users = np.zeros(len(rows), np.int64)
    return pool_rank_states(
        users, times, rows, rows, np.ones(len(rows)), ITEMS_ND, 1, PoolingConfig()
    )


def test_an_item_never_had_cites_what_is_near_it():
    states = pooled([0, 0, 1, 3, 4, 4], [30, 20, 10, 9, 8, 1])
    near_first, near_second = cite(states, np.asarray([2, 5]), STATS, ITEMS_ND, ranker(), NOW)
    assert {one.row for one in near_first} == {0, 1}
    assert {one.row for one in near_second} == {3, 4}
    assert all(one.effect >= LEAST_EFFECT for one in (*near_first, *near_second))


def test_an_item_that_was_had_cites_itself_first_with_its_weeks_and_last_time():
    states = pooled([0, 0, 1], [30, 2, 10])
    ((first, *_),) = cite(states, np.asarray([0]), STATS, ITEMS_ND, ranker(), NOW)
    assert first.row == 0
    assert first.last_time == int(NOW - 2 * DAY)
    decayed = 2 ** (-30 / 420) + 2 ** (-2 / 420)
    np.testing.assert_allclose(first.week_count, decayed, rtol=1e-5)


def test_a_stranger_and_an_empty_list_cite_nothing():
    stranger = states_of_one(None, shelf(), learned_ranker(), NOW)
    on = shelf()
    assert cite(stranger, np.asarray([0, 1]), on.stats, on.items_ND, learned_ranker(), NOW) == (
        (),
        (),
    )
    assert cite(pooled([0], [1]), np.zeros(0, np.int64), STATS, ITEMS_ND, ranker(), NOW) == ()


def test_effects_are_those_of_events_that_are_really_taken_away():
    """One event an item and week: the state's shares are then exact."""
    items, days = [0, 1, 3, 4], [24.0, 17.0, 10.0, 3.0]
    row_K, learned = np.asarray([2, 5, 0]), ranker()
    states = pooled(items, days)
    whole_K = score_items(states, STATS, ITEMS_ND, learned, NOW).score_UN[0, row_K]
    effect_RK = removal_effects(states, np.arange(4), row_K, STATS, ITEMS_ND, learned, NOW)
    for r in range(4):
        kept = [i for i in range(4) if i != r]
        left = pooled([items[i] for i in kept], [days[i] for i in kept])
        # Activity stays in the estimate; here it is put back.
        left.activity_UH[:] = states.activity_UH * 2 ** (
            (states.state_time_U - left.state_time_U) / (np.asarray(learned.half_lives_days) * DAY)
        )
        without_K = score_items(left, STATS, ITEMS_ND, learned, NOW).score_UN[0, row_K]
        np.testing.assert_allclose(effect_RK[r], whole_K - without_K, atol=2e-5)


def test_at_most_three_are_cited_strongest_first():
    states = pooled([0, 1, 2, 3, 4, 5] * 3, list(range(18, 0, -1)))
    for cited in cite(states, np.arange(6), STATS, ITEMS_ND, ranker(), NOW):
        assert 1 <= len(cited) <= CITED
        assert [one.effect for one in cited] == sorted((one.effect for one in cited), reverse=True)
