"""A user with two tastes gets both; a user with one keeps one."""

import numpy as np
import pytest

from services.core.medoids import medoids

WIDTH = 64


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def taste(rng, count, spread=0.5):
    """Items about a random direction: their cosines to each other are about .8."""
    centre = unit(rng.normal(size=WIDTH))
    return unit(centre + spread * unit(rng.normal(size=(count, WIDTH))))


def test_two_tastes_are_both_found_in_nearly_all_users_also_where_one_is_a_quarter():
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        small = int(rng.integers(3, 7))
        large = int(rng.integers(small, 3 * small + 1))
        items_MD = np.concatenate([taste(rng, large), taste(rng, small)])
        made = medoids(items_MD, rng.uniform(0.5, 2.0, large + small))
        found.append(sorted((made.row_K >= large).tolist()) == [False, True])
    assert np.mean(found) >= 0.95


def test_one_taste_stays_one():
    counts = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        counts.append(len(medoids(taste(rng, 12), np.ones(12)).row_K))
    assert np.mean(np.asarray(counts) == 1) >= 0.95


def test_the_heavier_interest_comes_first_and_shares_sum_to_one():
    items_MD = unit(np.asarray([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]))
    made = medoids(items_MD, np.asarray([1.0, 1.0, 3.0, 1.0]))
    assert made.row_K.tolist() == [2, 0]
    assert made.share_K == pytest.approx([4 / 6, 2 / 6])


def test_a_stray_item_is_no_interest():
    items_MD = unit(np.asarray([[1.0, 0.0]] * 9 + [[0.0, 1.0]]))
    assert medoids(items_MD, np.ones(10)).row_K.tolist() == [0]


def test_one_item_is_its_own_medoid():
    made = medoids(unit(np.ones((1, 3))), np.ones(1))
    assert (made.row_K.tolist(), made.share_K.tolist()) == ([0], [1.0])
