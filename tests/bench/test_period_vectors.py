"""Both ways to a user's weekly vector pool the same events."""

from datetime import UTC, datetime

import numpy as np
import polars as pl

from tests.bench.period_vectors import (
    against_article,
    against_polars,
    described,
    joined_texts,
    ours,
    polars_mean,
)

VEC_OF = {"tea": [1.0, 0.0], "milk": [0.0, 1.0]}
ROWS = [
    ("b", "tea", 9), ("a", "tea", 2), ("a", "milk", 3), ("a", "milk", 10), ("b", None, 9),
]  # fmt: skip


def planted():
    return pl.DataFrame(
        [(user, text, "purchase", 1.0, datetime(2017, 1, day, tzinfo=UTC)) for user, text, day in ROWS],
        schema=["user_id", "text", "kind", "value", "event_time"],
        orient="row",
    )  # fmt: skip


def encode(texts):
    return np.array([VEC_OF[text] for text in texts], np.float32)


def test_ours_and_the_mean_by_polars_are_one_direction_a_user_week():
    events = described(planted())
    pooled, mean = ours(events, encode), polars_mean(events, encode)
    rows = mean.select("v0", "v1").to_numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(pooled.vec_PD, unit, atol=1e-6)
    np.testing.assert_allclose(unit, [[0.5**0.5] * 2, [0, 1], [1, 0]], atol=1e-6)
    assert pooled.event_count_P.tolist() == [2, 1, 1]


def test_the_articles_way_joins_a_user_weeks_texts_in_order():
    assert sorted(joined_texts(described(planted()))) == ["milk", "tea", "tea. milk"]


def test_results_count_user_weeks_on_both_sides():
    events = described(planted())
    article = against_article(events, 1, encode, 1.0, lambda sample: (len, 1))
    polars = against_polars(events, 1, encode, (encode, 1))
    assert (article["name"], polars["name"]) == ("period-vectors", "period-vectors-polars")
    for found in (article, polars):
        assert "4 events to 3 weekly vectors" in found["what"]
        assert found["ratio"] == found["ours"]["per_s"] / found["peer"]["per_s"]
