from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.core.pooling import DAY_S, PoolingConfig, pool_rank_states
from services.core.ranker import neutral_ranker, repeat_inputs
from services.core.ranking import (
    ItemStats,
    popularity_of_parts,
    popularity_shares,
    query_vectors,
    score_items,
    top_items,
)

HALF_LIVES = (7.0, 28.0)
CONFIG = PoolingConfig(half_lives_days=HALF_LIVES)
WIDTH = 4


def ranker(seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return (0.5 * rng.normal(size=shape)).astype(np.float32)

    return replace(
        neutral_ranker(HALF_LIVES, (7.0, 28.0), WIDTH),
        query_HDD=normal(2, WIDTH, WIDTH),
        query_bias_D=normal(WIDTH),
        query_prior_H=np.array([0.5, 2.0], np.float32),
        query_in_ZK=normal(2 * (WIDTH + 2), 3),
        query_hidden_K=normal(3),
        query_out_KD=normal(3, WIDTH),
        popularity_weight_W=np.array([0.3, 0.6], np.float32),
        popularity_in_FK=normal(3, 5),
        popularity_hidden_K=normal(5),
        popularity_out_K=normal(5),
        popularity_user_4F=normal(4, 3),
        repeat_weight_H=np.array([0.7, 1.1], np.float32),
        repeat_prior_H=np.array([0.4, 1.5], np.float32),
        repeat_item_DH=normal(WIDTH, 2),
        repeat_recent_weight=-0.6,
        repeat_recent_item_D=normal(WIDTH),
        repeat_interest_weight=0.25,
        repeat_bias=0.1,
        repeat_activity_weight=-0.2,
        repeat_project_DP=normal(WIDTH, 2),
        repeat_in_YK=normal(repeat_inputs(2, 2, 2), 6),
        repeat_hidden_K=normal(6),
        repeat_out_K=normal(6),
        repeat_tail_weight=0.3,
        repeat_discovery_shift=-0.7,
    )


def world(seed=0, users=5, items=9, events=80):
    rng = np.random.default_rng(seed)
    vec = rng.normal(size=(items, WIDTH))
    items_ND = (vec / np.linalg.norm(vec, axis=1, keepdims=True)).astype(np.float32)
    user, item = rng.integers(0, users, events), rng.integers(0, items, events)
    time, weight = rng.uniform(0, 60 * DAY_S, events), rng.uniform(0.3, 2, events)
    stats = popularity_shares(item, time, 61 * DAY_S, items, (7.0, 28.0))
    return user, item, time, weight, items_ND, stats


def states_of(world, users=5):
    user, item, time, weight, items_ND, _ = world
    return pool_rank_states(user, time, item, item, weight, items_ND, users, CONFIG)


def slow_score(world, u, j, r, now):
    """The module's formula, event by event, in plain loops."""
    user, item, time, weight, items_ND, stats = world
    own = user == u
    newest = time[own].max()

    def aged(t, h):
        return 2 ** (-(newest - t) / (HALF_LIVES[h] * DAY_S)) * 2 ** (
            -(now - newest) / (HALF_LIVES[h] * DAY_S)
        )

    def last_of_weeks(rows, h):
        last = {}
        for e in rows:
            week = int((time[e] + 3 * DAY_S) // (7 * DAY_S))
            last[week] = max(last.get(week, 0), time[e])
        return sum(aged(t, h) for t in last.values())

    activity = [last_of_weeks(np.flatnonzero(own), h) for h in range(2)]
    query, pooled, masses = r.query_bias_D.astype(float), [], []
    for h in range(2):
        total = sum(weight[e] * aged(time[e], h) * items_ND[item[e]] for e in np.flatnonzero(own))
        masses.append(sum(weight[e] * aged(time[e], h) for e in np.flatnonzero(own)))
        pooled.append(total / (masses[h] + r.query_prior_H[h]))
        query = query + pooled[h] @ r.query_HDD[h]
    logs = np.log1p([*masses, *activity]) / 3
    hidden = np.concatenate([*pooled, logs]) @ r.query_in_ZK + r.query_hidden_K
    query = query + (hidden / (1 + np.exp(-hidden))) @ r.query_out_KD
    interest = query @ items_ND[j]
    log_share = np.log(stats.share_NW[j] + r.popularity_floor)
    first = time[item == j].min(initial=np.inf)
    age_days = (now - first) / DAY_S if np.isfinite(first) else 0.0
    features = np.append((log_share + 9) / 3, np.log1p(age_days) / 3 - 1)
    net = np.tanh(features @ r.popularity_in_FK + r.popularity_hidden_K) @ r.popularity_out_K
    discovery = interest + log_share @ r.popularity_weight_W + net
    discovery = discovery + logs @ r.popularity_user_4F @ features
    mine = [e for e in np.flatnonzero(own) if item[e] == j]
    if not mine:
        return discovery
    rate = sum(
        r.repeat_weight_H[h] * np.exp(items_ND[j] @ r.repeat_item_DH[:, h])
        * last_of_weeks(mine, h) / (activity[h] + r.repeat_prior_H[h])
        for h in range(2)
    )  # fmt: skip
    counts = np.array([last_of_weeks(mine, h) for h in range(2)])
    age = (now - np.floor(time[mine].max())) / DAY_S
    recent = 2 ** (-age / r.repeat_recent_half_life_days)
    inputs = np.concatenate(
        [
            features, items_ND[j] @ r.repeat_project_DP, np.log1p(counts), np.log1p(activity) / 3,
            np.log((counts + 0.1) / (np.array(activity) + 1)),
            [np.log1p(age) / 3, recent, 2 ** (-age / 28)],
        ]
    )  # fmt: skip
    net = np.tanh(inputs @ r.repeat_in_YK + r.repeat_hidden_K) @ r.repeat_out_K
    repeat = (
        np.log(rate)
        + (r.repeat_recent_weight + items_ND[j] @ r.repeat_recent_item_D) * recent
        + r.repeat_interest_weight * interest
        + r.repeat_bias
        + r.repeat_activity_weight * np.log1p(activity[-1])
        + net
        - r.repeat_tail_weight * (log_share[-1] + 9)
    )
    return np.logaddexp(discovery + r.repeat_discovery_shift, repeat)


def test_popularity_of_parts_is_that_of_all_events_together():
    rng = np.random.default_rng(0)
    item, time = rng.integers(0, 5, 60), rng.uniform(0, 60 * DAY_S, 60)
    parts = [(item[part::3], time[part::3]) for part in range(3)]
    whole = popularity_shares(item, time, 61 * DAY_S, 6, (7.0, 28.0))
    stats = popularity_of_parts([*parts, (item[:0], time[:0])], 61 * DAY_S, 6, (7.0, 28.0))
    assert np.allclose(stats.share_NW, whole.share_NW, atol=1e-7)
    assert np.array_equal(stats.first_time_N, whole.first_time_N)
    assert stats.first_time_N[5] == np.inf


def test_scores_equal_the_formula_event_by_event():
    w, r, now = world(), ranker(), 65 * DAY_S
    scores = score_items(states_of(w), w[5], w[4], r, now).score_UN
    expected = [[slow_score(w, u, j, r, now) for j in range(9)] for u in range(5)]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_user_scores_the_same_alone_and_in_a_batch():
    w, r, now = world(), ranker(), 65 * DAY_S
    together = score_items(states_of(w), w[5], w[4], r, now).score_UN
    for u in range(5):
        own = w[0] == u
        alone = (np.zeros(own.sum(), np.int64), *(a[own] for a in w[1:4]), w[4], w[5])
        one = score_items(states_of(alone, users=1), w[5], w[4], r, now).score_UN
        np.testing.assert_allclose(one[0], together[u], atol=1e-6)


def test_an_item_never_had_has_no_repeat_term():
    user, item, time, weight, items_ND, stats = world(events=6)
    made = score_items(
        pool_rank_states(user, time, item, item, weight, items_ND, 5, CONFIG),
        stats, items_ND, ranker(), 65 * DAY_S,
    )  # fmt: skip
    had = np.zeros((5, 9), bool)
    had[user, item] = True
    np.testing.assert_array_equal(np.isfinite(made.repeat_UN), had)
    np.testing.assert_allclose(
        made.score_UN[~had], (made.interest_UN + made.popularity_UN)[~had], atol=1e-6
    )


def test_a_user_without_events_wants_what_anyone_wants():
    w = world()
    shifted = (w[0] + 1, *w[1:])
    query = query_vectors(states_of(shifted, users=6), ranker(), 65 * DAY_S)
    hidden = ranker().query_hidden_K
    net = hidden / (1 + np.exp(-hidden)) @ ranker().query_out_KD
    np.testing.assert_allclose(query[0], ranker().query_bias_D + net, atol=1e-6)


def test_an_old_interest_fades_towards_what_anyone_wants():
    w, r = world(), ranker()
    states = states_of(w)
    nobody = query_vectors(states_of((w[0] + 1, *w[1:]), users=6), r, 61 * DAY_S)[0]
    far = [
        np.linalg.norm(query_vectors(states, r, now * DAY_S) - nobody) for now in (61, 400, 4000)
    ]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 1e-3


def test_popularity_is_a_decayed_share():
    stats = popularity_shares(
        np.array([0, 1, 1]), np.array([7.0, 0.0, 7.0]) * DAY_S, 7 * DAY_S, 3, (7.0,)
    )
    np.testing.assert_allclose(stats.share_NW[:, 0], [1 / 2.5, 1.5 / 2.5, 0])


def test_popularity_without_events_is_zero():
    stats = popularity_shares(np.zeros(0, np.int64), np.zeros(0), 0.0, 2, (7.0,))
    assert stats.share_NW.tolist() == [[0], [0]]


def test_a_neutral_ranker_puts_frequent_items_first_then_popular_ones():
    items_ND = np.eye(4, dtype=np.float32)
    user, item = np.zeros(3, np.int64), np.array([2, 2, 1])
    time = np.array([0.0, 20, 20]) * DAY_S
    states = pool_rank_states(user, time, item, item, np.ones(3), items_ND, 1, CONFIG)
    share_NW = np.array([[0.1, 0.1], [0, 0], [0, 0], [0.2, 0.2]], np.float32)
    stats = ItemStats(share_NW=share_NW, first_time_N=np.zeros(4))
    scores = score_items(
        states, stats, items_ND, neutral_ranker(HALF_LIVES, (7.0, 28.0), 4), 21 * DAY_S
    )
    assert top_items(scores.score_UN[0], 4).tolist() == [2, 1, 3, 0]


def test_equal_scores_keep_catalogue_order():
    assert top_items(np.array([1, 2, 1, 2, 1], np.float32), 4).tolist() == [1, 3, 0, 2]


def test_an_excluded_item_is_never_returned():
    assert top_items(np.array([-np.inf, 1, -np.inf], np.float32), 3).tolist() == [1]
    assert top_items(np.full(3, -np.inf, np.float32), 2).tolist() == []


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 45))
def test_top_items_are_the_head_of_a_stable_sort(values, k):
    score = np.array(values, np.float32)
    assert top_items(score, k).tolist() == np.argsort(-score, kind="stable")[:k].tolist()
