"""Diversity and exploration: what a list departs to, and that it is the same each time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.ranking import top_items
from services.core.selection import (
    Variety,
    diverse_items,
    explored_places,
    novelty,
    with_exploration,
)

# Two twins, one between, one apart.
ITEMS_ND = np.asarray([[1, 0], [1, 0], [0.6, 0.8], [0, 1]], np.float32)


def units(n, seed):
    made = np.random.default_rng(seed).normal(size=(n, 4))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def explored(k=10, share=0.3, key="u", n=60, open_N=None):
    score_N = np.linspace(1, 0, n).astype(np.float32)
    interest_N = score_N[::-1].copy()
    open_N = np.ones(n, bool) if open_N is None else open_N
    variety = Variety(exploration_share=share, exploration_key=key)
    return with_exploration(np.arange(k), interest_N, open_N, variety)


def test_no_strength_is_the_order_of_scores():
    score_N = np.asarray([3, 1, 2, 2], np.float32)
    assert diverse_items(score_N, ITEMS_ND, 3, 0.0).tolist() == [0, 2, 3]


def test_a_twin_gives_way_to_what_is_different():
    score_N = np.asarray([3.0, 2.9, 1.5, 1.0], np.float32)
    assert diverse_items(score_N, ITEMS_ND, 2, 0.0).tolist() == [0, 1]
    # gains .5 (1 - .05), -0; the twin: .475 - .5 = -.025, item 3: 0 - 0 = 0
    assert diverse_items(score_N, ITEMS_ND, 2, 0.5).tolist() == [0, 3]


def test_full_strength_looks_at_likeness_alone_after_the_first():
    score_N = np.asarray([3.0, 2.9, 2.8, -5.0], np.float32)
    assert diverse_items(score_N, ITEMS_ND, 4, 1.0).tolist() == [0, 3, 2, 1]


@given(seed=st.integers(0, 99), k=st.integers(0, 12), strength=st.sampled_from([0.0, 0.3, 1.0]))
def test_a_diverse_list_starts_with_the_best_and_holds_nothing_forbidden_or_twice(
    seed, k, strength
):
    rng = np.random.default_rng(seed)
    score_N = rng.normal(size=30).astype(np.float32)
    score_N[rng.random(30) < 0.5] = -np.inf
    found = diverse_items(score_N, units(30, seed), k, strength)
    assert len(found) == min(k, np.isfinite(score_N).sum()) == len(set(found.tolist()))
    assert np.isfinite(score_N[found]).all()
    assert found[:1].tolist() == top_items(score_N, min(k, 1)).tolist()


def test_more_strength_makes_neighbours_in_the_list_less_alike():
    score_N, items_ND = np.random.default_rng(3).normal(size=200).astype(np.float32), units(200, 4)

    def likeness(strength):
        vectors = items_ND[diverse_items(score_N, items_ND, 20, strength)]
        return ((vectors @ vectors.T).sum() - 20) / (20 * 19)

    assert likeness(0.0) > likeness(0.5) > likeness(1.0)


@pytest.mark.parametrize(
    ("k", "share", "places"),
    [(10, 0.0, []), (10, 0.2, [4, 9]), (10, 0.04, []), (3, 0.5, [0, 2]), (4, 1.0, [0, 1, 2, 3])],
)
def test_exploration_has_its_share_of_places_evenly_spread(k, share, places):
    assert explored_places(k, share).tolist() == places


def test_explored_items_are_marked_and_the_others_keep_their_order():
    row_K, is_explored_K = explored()
    assert is_explored_K.sum() == 3
    assert row_K[~is_explored_K].tolist() == list(range(7))
    # Drawn from the 30 nearest to the interest, which the scores put last.
    assert (row_K[is_explored_K] >= 30).all()


def test_the_same_key_draws_the_same_and_another_key_something_else():
    first, again, other = explored()[0], explored()[0], explored(key="v")[0]
    assert first.tolist() == again.tolist() != other.tolist()


def test_what_may_not_be_explored_is_not():
    open_N = np.zeros(60, bool)
    open_N[[2, 20, 40]] = True
    row_K, is_explored_K = explored(open_N=open_N, share=0.5)
    # 2 has a place of its own; two of five places are filled.
    assert sorted(row_K[is_explored_K].tolist()) == [20, 40]
    assert len(set(row_K.tolist())) == 10
    nothing_K, none_K = explored(open_N=np.zeros(60, bool))
    assert nothing_K.tolist() == list(range(10))
    assert not none_K.any()


def test_novelty_is_the_distance_to_the_nearest_that_was_had():
    had_R = np.asarray([0])
    found = novelty(np.asarray([0, 1, 2, 3]), had_R, ITEMS_ND)
    np.testing.assert_allclose(found, [0.0, 0.0, 0.4, 1.0], atol=1e-6)
    assert novelty(np.asarray([2]), had_R[:0], ITEMS_ND).tolist() == [1.0]
