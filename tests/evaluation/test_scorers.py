from datetime import timedelta

import numpy as np
import polars as pl

from services.core.dataset import dataset_from_frame
from services.core.pooling import DAY_S, PoolingConfig
from services.core.schema import Granularity
from services.evaluation import scorers
from services.evaluation.factors import EaseFit, ials
from services.evaluation.neighbours import itemknn, user_knn
from services.evaluation.scorers import TIE
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
    assert order(scorers.with_popularity(scorers.frequency(), 28.0, TIE)) == ["x", "y", "z"]
    recent = scorers.with_popularity(scorers.recency_frequency(2.0), 28.0, TIE)
    assert order(recent) == ["y", "x", "z"]


def test_popularity_ranks_what_the_method_cannot_and_weighs_what_it_is_told():
    stranger = dataset(("a", "x", 0), ("b", "y", 63), ("c", "y", 64), ("c", "z", 1))
    users = np.array([0])
    own = scorers.with_popularity(scorers.recency_frequency(26.0), 14.0, 0.5)(stranger, NOW)(users)
    np.testing.assert_allclose(own, [[1.0, 0.5, 0.0]])
    much = scorers.with_popularity(scorers.recency_frequency(26.0), 14.0, 2.0)(stranger, NOW)(users)
    assert much[0].argmax() == 1


def test_what_was_had_can_be_put_last():
    method = scorers.without_had(scorers.popularity(365.0))
    assert order(method) == ["z", "x", "y"]


def test_frozen_mean_follows_the_direction_of_what_was_had():
    text = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    scores = scorers.frozen_mean(text, 365.0)(PAST, NOW)(A)[0]
    mean = np.array([2, 1]) / 5**0.5
    np.testing.assert_allclose(scores, text @ mean, atol=1e-6)


def test_no_method_looks_at_users_it_was_not_asked_for():
    data = dataset_from_frame(planted_events(), Granularity.WEEK, PoolingConfig())
    now = float(data.time_E[-1]) + DAY_S
    text = WordEncoder().encode(data.texts)
    methods = [
        scorers.popularity(28.0), scorers.frequency(), scorers.recency_frequency(4.0),
        user_knn(4.0, 0.7, 100), itemknn(4.0, 10.0, 100), scorers.frozen_mean(text, 28.0),
        EaseFit(data, 4.0, 200.0).method(keeps_diagonal=True), ials(data, 4.0, 8, 1.0, 4.0),
        scorers.without_had(scorers.with_popularity(itemknn(4.0, 0.0, 5), 28.0, 0.1)),
    ]  # fmt: skip
    some = np.array([2, 5, 11])
    for method in methods:
        scorer = method(data, now)
        everyone = scorer(np.arange(data.user_count))
        np.testing.assert_allclose(scorer(some), everyone[some], atol=1e-5)
