import numpy as np
import pytest

from services.core.pooling import (
    DAY_S,
    WEEK_S,
    PoolingConfig,
    decayed_histories,
    event_weights,
    pool_periods,
    pool_rank_states,
)

CONFIG = PoolingConfig(half_lives_days=(7.0, 28.0))
ITEMS = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
MONDAY = 4 * DAY_S  # 1970-01-05


def ints(*values):
    return np.array(values, np.int64)


def floats(*values):
    return np.array(values, float)


def states(user, time, item, weight=None, *, users=1, config=CONFIG):
    weight = np.ones(len(user)) if weight is None else floats(*weight)
    rows = ints(*item)
    return pool_rank_states(ints(*user), floats(*time), rows, rows, weight, ITEMS, users, config)


def test_a_period_is_the_direction_of_its_items_repeats_under_a_square_root():
    pooled = pool_periods(
        ints(0, 0, 0, 0, 0), ints(7, 7, 7, 7, 7), ints(0, 0, 0, 0, 1), np.ones(5), ITEMS, CONFIG
    )
    np.testing.assert_allclose(pooled.vec_PD, [[2 / 5**0.5, 1 / 5**0.5]], atol=1e-6)
    assert pooled.event_count_P.tolist() == [5]
    assert pooled.period_P.tolist() == [7]


def test_users_and_periods_are_kept_apart_and_in_order():
    pooled = pool_periods(ints(1, 0, 0), ints(3, 9, 2), ints(0, 1, 0), np.ones(3), ITEMS, CONFIG)
    assert pooled.user_ix_P.tolist() == [0, 0, 1]
    assert pooled.period_P.tolist() == [2, 9, 3]
    np.testing.assert_array_equal(pooled.vec_PD, ITEMS[[0, 1, 0]])


def test_items_that_cancel_out_leave_a_gap():
    opposite = np.array([[1, 0], [-1, 0]], np.float32)
    pooled = pool_periods(ints(0, 0), ints(1, 1), ints(0, 1), np.ones(2), opposite, CONFIG)
    assert len(pooled.period_P) == 0


def test_no_events_give_no_vectors():
    pooled = pool_periods(ints(), ints(), ints(), floats(), ITEMS, CONFIG)
    assert pooled.vec_PD.shape == (0, 2)


def test_vectors_and_states_do_not_depend_on_the_order_of_arrival():
    rng = np.random.default_rng(0)
    user, period, row = (rng.integers(0, high, 300) for high in (5, 4, 3))
    time = period * WEEK_S + rng.integers(0, 7, 300) * DAY_S
    weight = rng.uniform(0.1, 3.0, 300)
    first = pool_periods(user, period, row, weight, ITEMS, CONFIG)
    first_states = pool_rank_states(user, time, row, row, weight, ITEMS, 5, CONFIG)
    for _ in range(5):
        p = rng.permutation(300)
        again = pool_periods(user[p], period[p], row[p], weight[p], ITEMS, CONFIG)
        np.testing.assert_array_equal(first.vec_PD, again.vec_PD)
        more = pool_rank_states(user[p], time[p], row[p], row[p], weight[p], ITEMS, 5, CONFIG)
        np.testing.assert_array_equal(first_states.query_sums_UHD, more.query_sums_UHD)
        np.testing.assert_array_equal(first_states.repeat_counts_RH, more.repeat_counts_RH)


def test_a_user_has_the_same_result_alone_and_in_a_crowd():
    rng = np.random.default_rng(1)
    user, row = rng.integers(0, 20, 500), rng.integers(0, 3, 500)
    time = rng.uniform(0, 200 * DAY_S, 500)
    crowd = pool_rank_states(user, time, row, row, np.ones(500), ITEMS, 20, CONFIG)
    for u in range(20):
        own = user == u
        alone = pool_rank_states(
            np.zeros(own.sum(), np.int64), time[own], row[own], row[own], np.ones(own.sum()),
            ITEMS, 1, CONFIG,
        )  # fmt: skip
        np.testing.assert_array_equal(alone.query_sums_UHD[0], crowd.query_sums_UHD[u])
        rows = crowd.repeat_user_ix_R == u
        np.testing.assert_array_equal(alone.repeat_counts_RH, crowd.repeat_counts_RH[rows])


def test_a_rank_state_by_hand():
    # A week apart: the older counts half at a half-life of 7 days.
    made = states([0, 0], [MONDAY, MONDAY + WEEK_S], [0, 1], weight=[2.0, 1.0])
    np.testing.assert_allclose(made.query_sums_UHD[0, 0], [1.0, 1.0])
    np.testing.assert_allclose(made.query_weights_UH[0, 0], 2.0)
    np.testing.assert_allclose(made.activity_UH[0, 0], 1.5)
    np.testing.assert_allclose(made.repeat_counts_RH[:, 0], [0.5, 1.0])
    assert made.state_time_U.tolist() == [MONDAY + WEEK_S]
    assert made.repeat_item_ix_R.tolist() == [0, 1]
    assert made.repeat_last_times_R.tolist() == [MONDAY, MONDAY + WEEK_S]


def test_a_week_counts_once_as_of_its_last_event():
    made = states([0, 0, 0], [MONDAY, MONDAY + DAY_S, MONDAY + 2 * DAY_S], [0, 0, 1])
    # Item 0 last on Tuesday, the state is of Wednesday: one day of decay, not two sums.
    np.testing.assert_allclose(made.repeat_counts_RH[0, 0], 2 ** (-1 / 7), rtol=1e-6)
    np.testing.assert_allclose(made.activity_UH[0, 0], 1.0)


def test_the_oldest_repeats_beyond_the_limit_are_dropped():
    config = PoolingConfig(half_lives_days=(7.0,), repeat_limit=2)
    made = states([0, 0, 0], [1 * DAY_S, 3 * DAY_S, 2 * DAY_S], [0, 1, 2], config=config)
    assert made.repeat_item_ix_R.tolist() == [1, 2]


def test_a_user_without_events_is_all_zeros():
    made = states([1], [MONDAY], [0], users=2)
    assert made.state_time_U[0] == 0.0
    assert not made.query_sums_UHD[0].any()
    assert not made.activity_UH[0].any()


def test_histories_times_items_are_the_query_sums_aged_to_now():
    rng = np.random.default_rng(2)
    user, row = rng.integers(0, 6, 200), rng.integers(0, 3, 200)
    time, weight = rng.uniform(0, 90 * DAY_S, 200), rng.uniform(0.5, 2, 200)
    now = 100 * DAY_S
    made = pool_rank_states(user, time, row, row, weight, ITEMS, 6, CONFIG)
    histories = decayed_histories(user, time, row, weight, now, (6, 3), CONFIG)
    for h, half_life in enumerate(CONFIG.half_lives_days):
        fade = np.exp2(-(now - made.state_time_U) / (half_life * DAY_S))[:, None]
        np.testing.assert_allclose(
            histories[h] @ ITEMS, made.query_sums_UHD[:, h] * fade, rtol=1e-5
        )


@pytest.mark.parametrize(("kind", "value", "weight"), [("view", 9.0, 0.3), ("purchase", 3.0, 2.0)])
def test_quantity_counts_for_purchases_only(kind, value, weight):
    assert event_weights(np.array([kind]), np.array([value]), CONFIG).tolist() == [weight]
