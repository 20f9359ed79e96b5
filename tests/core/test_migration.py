"""Whether a new space may take the old one's place."""

from dataclasses import replace

import numpy as np
import pytest

from services.core.migration import (
    Verification,
    compare_recall,
    coverage,
    next_recall,
    problems_of,
)

ITEMS = np.eye(4, dtype=np.float32)


def rng():
    return np.random.default_rng(0)


def test_recall_is_the_share_of_what_came_next_among_the_nearest():
    users = np.array([[1, 0.5, 0, 0], [0, 0, 1, 0.1]], np.float32)
    following = [np.array([0, 1]), np.array([0, 2])]
    assert next_recall(users, ITEMS, following, k=2).tolist() == [1.0, 0.5]
    # One place can hold one of two.
    assert next_recall(users, ITEMS, following, k=1).tolist() == [1.0, 1.0]


def test_recall_of_many_users_is_that_of_each():
    draw = rng()
    users = draw.normal(size=(600, 4)).astype(np.float32)
    following = [draw.choice(4, size=1 + n % 3, replace=False) for n in range(600)]
    all_at_once = next_recall(users, ITEMS, following, k=2)
    alone = [next_recall(users[n : n + 1], ITEMS, [following[n]], k=2)[0] for n in range(600)]
    assert all_at_once.tolist() == alone


def test_coverage_is_of_the_old_keys():
    assert coverage({("a",), ("b",)}, {("a",), ("c",)}) == 0.5
    assert coverage(set(), {("a",)}) == 1.0


def verified(old, new, **changes):
    found = Verification(
        coverage={"items": 1.0},
        recall=compare_recall(np.asarray(old), np.asarray(new), rng()),
        held_out="2026-W13",
        is_unseen=True,
    )
    return replace(found, **changes)


def test_a_space_that_finds_less_for_the_same_users_is_a_problem():
    draw = rng()
    old = draw.uniform(size=400)
    (said,) = problems_of(verified(old, old - 0.05))
    assert "2026-W13" in said
    # No worse, or not proven to be: no problem.
    assert problems_of(verified(old, old + 0.05)) == []
    assert problems_of(verified(old, old + draw.normal(0, 0.2, size=400))) == []


@pytest.mark.parametrize(("share", "count"), [(1.0, 0), (0.9995, 0), (0.99, 1)])
def test_what_is_missing_is_a_problem(share, count):
    assert len(problems_of(verified([], [], coverage={"week vectors": share}))) == count


def test_nobody_to_compare_is_no_comparison():
    assert verified([], []).recall is None
