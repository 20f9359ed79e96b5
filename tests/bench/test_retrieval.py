"""What the retrieval benchmark searches looks like real items, and what it compares is the same."""

import numpy as np
import pytest

from tests.bench.retrieval import Real, build, measure, nearest_distances, sampled

WIDTH = 64


@pytest.fixture(scope="module")
def real():
    rng = np.random.default_rng(0)
    items_ND = rng.normal(size=(200, WIDTH)) + 1.5 * rng.normal(size=(20, WIDTH)).repeat(10, axis=0)
    items_ND /= np.linalg.norm(items_ND, axis=1, keepdims=True)
    return Real(
        items_ND=items_ND.astype(np.float32),
        features_NF=rng.normal(size=(200, 3)).astype(np.float32),
        alike_N=rng.normal(size=200).astype(np.float32),
        queries_UD=rng.normal(size=(20, WIDTH)).astype(np.float32),
        user_UF=rng.normal(size=(20, 3)).astype(np.float32),
    )


def test_sampled_items_are_as_far_from_their_neighbours_as_real_ones(real):
    vectors_NA = sampled(real, 20_000, np.random.default_rng(1))
    assert vectors_NA.shape == (20_000, WIDTH + 4)
    made_ND = np.ascontiguousarray(vectors_NA[:, :WIDTH])
    assert np.allclose(np.linalg.norm(made_ND, axis=1), 1.0, atol=1e-5)
    theirs = np.median(nearest_distances(real.items_ND, real.items_ND))
    ours = np.median(nearest_distances(made_ND[:500], made_ND))
    assert ours == pytest.approx(theirs, rel=0.1)


def test_both_sides_search_the_same_product(real):
    pytest.importorskip("faiss")
    vectors_NA = sampled(real, 5000, np.random.default_rng(1))
    ones = np.ones((20, 1), np.float32)
    queries_QA = np.concatenate([real.queries_UD, ones, real.user_UF], axis=1)
    found = measure(build(vectors_NA, 16, 0), vectors_NA, queries_QA)
    # 16 lists: the larger nprobe look at all of them.
    assert found["recall_at_100"] >= 0.95
    assert found["ratio"] > 0
