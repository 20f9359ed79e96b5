import numpy as np
import pytest

from services.core.metrics import (
    bootstrap_mean,
    bootstrap_means,
    bootstrap_ratio,
    rank_metrics,
)


def test_recall_and_ndcg_by_hand():
    # Three positions; hits at 1 and 3 of two truths; at 2 of five truths; none.
    hit = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    recall, ndcg = rank_metrics(hit, np.array([2, 5, 1]))
    gain = 1 / np.log2([2, 3, 4])
    np.testing.assert_allclose(recall, [1.0, 1 / 3, 0.0])
    np.testing.assert_allclose(
        ndcg, [(gain[0] + gain[2]) / (gain[0] + gain[1]), gain[1] / gain.sum(), 0.0]
    )


def test_a_perfect_ranking_scores_one_however_many_truths():
    hit = np.array([[True] * 10, [True] + [False] * 9])
    recall, ndcg = rank_metrics(hit, np.array([40, 1]))
    np.testing.assert_allclose([recall, ndcg], 1.0)


def test_an_interval_holds_the_mean_and_narrows_with_users():
    rng = np.random.default_rng(0)
    widths = []
    for users in (100, 10_000):
        value = rng.normal(5.0, 1.0, users)
        interval = bootstrap_mean(value, np.arange(users), np.random.default_rng(1))
        assert interval.low < value.mean() < interval.high
        # A normal mean's 95% interval is 3.92 standard errors wide.
        assert interval.high - interval.low == pytest.approx(3.92 / users**0.5, rel=0.15)
        widths.append(interval.high - interval.low)
    assert widths[1] < widths[0] / 5


def test_users_are_drawn_whole_so_copies_of_a_sample_add_no_certainty():
    value = np.random.default_rng(0).normal(size=200)
    once = bootstrap_mean(value, np.arange(200), np.random.default_rng(1))
    copied = bootstrap_mean(np.tile(value, 8), np.tile(np.arange(200), 8), np.random.default_rng(1))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))


def test_columns_share_their_draws_so_a_constant_difference_has_no_spread():
    value = np.random.default_rng(0).normal(size=100)
    columns = np.stack([value, value + 1, np.ones(100)], axis=1)
    mean, low, high = bootstrap_means(columns, np.arange(100), np.random.default_rng(1))
    assert high[1] - high[0] == pytest.approx(1.0)
    assert (mean[2], low[2], high[2]) == (1.0, 1.0, 1.0)


def test_a_ratio_of_proportional_samples_has_no_spread():
    below = np.random.default_rng(0).uniform(1, 2, 50)
    assert bootstrap_ratio(
        3 * below, below, np.arange(50), np.random.default_rng(1)
    ) == pytest.approx((3, 3))
