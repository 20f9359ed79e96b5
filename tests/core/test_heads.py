import numpy as np
import pytest

from services.core.heads import (
    LabelHead,
    ValueHead,
    bootstrap,
    label_figures,
    part_of,
    value_figures,
    without_label,
)


def test_label_figures_by_hand():
    truth, said = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])
    figures = label_figures(truth, said, 4)  # class 3 is nowhere, and does not count
    assert figures.accuracy == pytest.approx(3 / 6)
    assert figures.precision == pytest.approx((2 / 4 + 1 / 2 + 0) / 3)
    assert figures.recall == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert figures.f1 == pytest.approx((4 / 7 + 2 / 4 + 0) / 3)


def test_value_figures_by_hand():
    figures = value_figures(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 3.0]), 2.0)
    assert figures.mae == pytest.approx(1 / 3)
    assert figures.rmse == pytest.approx((1 / 3) ** 0.5)
    assert figures.r2 == pytest.approx(1 - 1 / 2)


def test_saying_the_mean_explains_nothing():
    truth = np.array([1.0, 2.0, 6.0])
    assert value_figures(truth, np.full(3, 3.0), 3.0).r2 == 0


def test_heads_predict_by_their_weights():
    text = np.eye(2, dtype=np.float32)
    label = LabelHead(labels=("a", "b"), weight_BC=text, bias_C=np.float32([0, 0.5]))
    assert label.predict(text).tolist() == [0, 1]
    value = ValueHead(weight_B=np.float32([1, -1]), bias=0.5, centre=10.0, scale=2.0)
    assert value.predict(text).tolist() == [13.0, 9.0]


@pytest.mark.parametrize(
    ("text", "label", "left"),
    [
        ("Diet cola, Soft drinks, grocery", "soft drinks", "Diet cola, grocery"),
        ("tea tea time", "tea", "time"),
        ("green tea", "", "green tea"),
        ("tea", "tea", ""),
        ("green tea", "coffee", "green tea"),
        ("teapot, Tea (loose)", "tea", "teapot, (loose)"),
        ("\u0130ki tea", "tea", "\u0130ki"),  # longer in lower case
        ("c++ books", "C++", "books"),
    ],
)
def test_a_label_is_cut_out_of_the_text_that_says_it(text, label, left):
    assert without_label(text, label) == left


def test_parts_are_even_and_depend_on_text_and_seed_only():
    at = np.array([part_of(f"item {i}") for i in range(2000)])
    assert 0.45 < at.mean() < 0.55
    assert ((at >= 0) & (at < 1)).all()
    assert part_of("item 0") == at[0]
    assert part_of("item 0", 1) != at[0]


def test_the_bootstrap_is_about_as_wide_as_theory_says():
    value = np.random.default_rng(0).normal(size=400)
    mean, twice = bootstrap(
        lambda rows: (value[rows].mean(), 2 * value[rows].mean()), 400, np.random.default_rng(1)
    )
    assert mean.mean == pytest.approx(value.mean())
    assert mean.high - mean.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert (twice.low, twice.high) == pytest.approx((2 * mean.low, 2 * mean.high))
