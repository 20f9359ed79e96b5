import numpy as np
import pytest

from services.training.tuning.outcomes import (
    Outcome,
    compare,
    label_outcome,
    perplexity_outcome,
    ratio_outcome,
    value_outcome,
)


def mean_outcome(value_N):
    value_N = np.asarray(value_N, float)
    return Outcome(rows=len(value_N), figures=lambda rows: {"f": float(value_N[rows].mean())})


def test_a_change_is_paired():
    # Users differ much, each gains the same: the levels are unsure, the change is not.
    before = np.random.default_rng(0).normal(size=50)
    found = compare(mean_outcome(before), mean_outcome(before + 0.01), seed=0)["f"]
    assert found.before.high - found.before.low > 0.3
    assert found.change.low == pytest.approx(0.01)
    assert found.change.high == pytest.approx(0.01)
    assert found.is_better
    assert not found.is_worse


def test_a_change_whose_interval_holds_zero_is_neither_better_nor_worse():
    rng = np.random.default_rng(0)
    found = compare(mean_outcome(rng.normal(size=50)), mean_outcome(rng.normal(size=50)), seed=0)
    assert not found["f"].is_better
    assert not found["f"].is_worse


def test_outcomes_by_hand():
    labels = label_outcome(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).values()
    assert labels == pytest.approx(
        {"accuracy": 2 / 3, "precision": 3 / 4, "recall": 3 / 4, "macro_f1": 2 / 3}
    )
    values = value_outcome(np.array([1.0, 3.0]), np.array([1.0, 2.0]), 2.0).values()
    assert values == pytest.approx({"r2": 0.5, "mae": 0.5, "rmse": 0.5**0.5})
    # Rows weigh by their counts.
    assert ratio_outcome("x", np.array([1.0, 3.0]), np.array([1.0, 7.0])).values() == {"x": 0.5}
    nats, tokens = np.log([2.0, 64.0]), np.array([1.0, 2.0])
    assert perplexity_outcome(nats, tokens).values()["perplexity"] == pytest.approx(128 ** (1 / 3))
