from datetime import timedelta

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.core.dataset import dataset_from_frame
from services.core.pooling import DAY_S, PoolingConfig
from services.core.schema import Granularity
from services.evaluation import scorers
from services.evaluation.scorers import top_allowed, top_rows
from tests.planted import START, WordEncoder, planted_events

NOW = (START + timedelta(weeks=10)).timestamp()


def dataset(*events):
    frame = pl.DataFrame(
        [(u, i, START + timedelta(days=day), "view") for u, i, day in events],
        schema=["user_id", "item_id", "event_time", "kind"], orient="row",
    ).with_columns(pl.col("event_time").cast(pl.Datetime("us", "UTC")))  # fmt: skip
    return dataset_from_frame(frame, Granularity.WEEK, PoolingConfig())


PAST = dataset(
    ("a", "x", 0), ("a", "x", 1), ("a", "y", 63), ("b", "x", 1), ("b", "z", 64), ("c", "z", 65),
)  # fmt: skip
A = np.array([0])


def order(method, users=A):
    return [PAST.item_ids[i] for i in np.argsort(-method(PAST, NOW)(users)[0], kind="stable")]


def test_popularity_counts_its_window_only():
    assert order(scorers.popularity(7.0)) == ["z", "y", "x"]
    assert order(scorers.popularity(365.0)) == ["x", "z", "y"]


def test_frequency_counts_events_and_recency_frequency_recent_periods():
    assert order(scorers.frequency(28.0)) == ["x", "y", "z"]
    assert order(scorers.recency_frequency(2.0, 28.0)) == ["y", "x", "z"]


def test_neighbours_add_what_they_had():
    # b shares x with a, and has z; popularity alone would not tell z from a stranger's item.
    scores = scorers.user_knn(12.0, 1.0, own=0.5, neighbours=1)(PAST, NOW)(A)[0]
    assert scores[2] > 0.1


def test_itemknn_scores_by_shared_users():
    scores = scorers.itemknn()(PAST, NOW)(np.array([2]))[0]  # c had z only; z shares b with x
    np.testing.assert_allclose(scores, [1 / 2, 0, 0], atol=1e-6)


def test_ease_is_the_ridge_regression_it_says():
    method = scorers.ease(PAST, 1e9, regularisation=1.0)
    had = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1]], float)
    weight = np.linalg.solve(had.T @ had + np.eye(3), had.T @ had)
    np.testing.assert_allclose(method(PAST, NOW)(np.arange(3)), had @ weight, atol=1e-5)


def test_frozen_mean_follows_the_direction_of_what_was_had():
    text = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    scores = scorers.frozen_mean(text, 365.0)(PAST, NOW)(A)[0]
    mean = np.array([2, 1]) / 5**0.5
    np.testing.assert_allclose(scores, text @ mean, atol=1e-6)


@given(arrays(np.float32, (3, 60), elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, -np.inf])))
def test_the_fast_top_is_the_head_of_a_stable_sort(score):
    expected = np.argsort(-score, axis=1, kind="stable")[:, :10]
    assert top_rows(score, 10).tolist() == expected.tolist()


@given(
    arrays(np.float32, (3, 60), elements=st.sampled_from([0.0, 1.0, 2.0, 3.0])),
    arrays(np.bool_, (3, 60)),
)
def test_a_slice_is_ranked_as_if_nothing_else_were_there(score, allowed):
    top = top_allowed(score, allowed, top_rows(score, 16), 10)
    for row in range(3):
        own = [i for i in np.argsort(-score[row], kind="stable") if allowed[row, i]]
        found = [i for i in top[row] if allowed[row, i]]
        assert found == own[:10]


def test_no_method_looks_at_users_it_was_not_asked_for():
    data = dataset_from_frame(planted_events(), Granularity.WEEK, PoolingConfig())
    now = float(data.time_E[-1]) + DAY_S
    text = WordEncoder().encode(data.texts)
    methods = [
        scorers.popularity(28.0), scorers.frequency(28.0), scorers.recency_frequency(4.0, 28.0),
        scorers.user_knn(4.0, 28.0, 0.7), scorers.itemknn(), scorers.ease(data, 4.0),
        scorers.frozen_mean(text, 28.0),
    ]  # fmt: skip
    some = np.array([2, 5, 11])
    for method in methods:
        scorer = method(data, now)
        everyone = scorer(np.arange(data.user_count))
        np.testing.assert_allclose(scorer(some), everyone[some], atol=1e-5)
