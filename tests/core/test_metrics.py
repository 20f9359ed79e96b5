import numpy as np
import pytest

from services.core.metrics import (
    bootstrap_mean,
    bootstrap_means,
    bootstrap_ratio,
    forecast_errors,
    rank_figures,
    rank_metrics,
    resampled_means,
    self_information,
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


def test_every_figure_of_a_ranking_by_hand():
    hit = np.array([[0, 1, 0, 1], [0, 0, 0, 0]], bool)
    found = rank_figures(hit, np.array([3, 1]), (2, 4))
    gain = 1 / np.log2([2, 3, 4, 5])
    expected = {
        "recall_at_2": 1 / 2, "precision_at_2": 1 / 2, "f1_at_2": 1 / 2, "hit_rate_at_2": 1,
        "ndcg_at_2": gain[1] / gain[:2].sum(), "mrr_at_2": 1 / 2,
        "recall_at_4": 2 / 3, "precision_at_4": 2 / 4, "f1_at_4": 4 / 7, "hit_rate_at_4": 1,
        "ndcg_at_4": (gain[1] + gain[3]) / gain[:3].sum(), "mrr_at_4": 1 / 2,
    }  # fmt: skip
    assert {name: value[0] for name, value in found.items()} == pytest.approx(expected)
    assert {name: value[1] for name, value in found.items()} == dict.fromkeys(expected, 0.0)


def test_figures_agree_with_the_plain_ones_also_where_little_is_shown():
    rng = np.random.default_rng(0)
    hit, count = rng.random((20, 10)) < 0.2, rng.integers(1, 30, 20)
    count = np.maximum(count, hit.sum(axis=1))
    found = rank_figures(hit, count, (10, 50))
    recall, ndcg = rank_metrics(hit, count)
    np.testing.assert_allclose(found["recall_at_10"], recall)
    np.testing.assert_allclose(found["ndcg_at_10"], ndcg)
    np.testing.assert_allclose(found["precision_at_50"], hit.sum(axis=1) / 50)


def test_rare_items_tell_more_than_common_ones():
    np.testing.assert_allclose(self_information(np.array([6, 0])), [-np.log2(7 / 8), 3.0])


def test_differences_of_columns_are_paired():
    value = np.random.default_rng(0).normal(size=(300, 1))
    means = resampled_means(
        np.hstack([value, value - 1]), np.repeat(np.arange(100), 3), np.random.default_rng(1), 250
    )
    assert means.shape == (250, 2)
    np.testing.assert_allclose(means[:, 0] - means[:, 1], 1.0)


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


def test_forecast_errors_by_hand():
    truth = np.array([[1, 0], [0, 1]], np.float32)
    mean = np.array([[0.5, 0], [0, 0.5]], np.float32)
    errors = forecast_errors(
        truth, mean, np.full((2, 2), 0.25, np.float32), np.zeros(2, np.float32)
    )
    assert errors.mse == pytest.approx(0.125)
    assert errors.rmse == pytest.approx(0.125**0.5)
    assert errors.r2 == pytest.approx(0.75)
    assert errors.cosine == pytest.approx(1.0)
    assert errors.nll == pytest.approx(1.0 + np.log(0.25) + 0.5 * np.log(2 * np.pi))
    # Errors of 0 and of two standard deviations, half each.
    assert (errors.coverage_80, errors.coverage_95) == (0.5, 0.5)


def test_right_gaussian_forecasts_cover_what_they_say():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.1, 2.0, (2000, 4)).astype(np.float32)
    truth = (rng.normal(size=(2000, 4)) * scale).astype(np.float32)
    errors = forecast_errors(truth, np.zeros((2000, 4), np.float32), scale, np.zeros(4, np.float32))
    assert errors.coverage_80 == pytest.approx(0.80, abs=0.02)
    assert errors.coverage_95 == pytest.approx(0.95, abs=0.02)
