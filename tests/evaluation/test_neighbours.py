import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from services.evaluation import neighbours
from services.evaluation.neighbours import itemknn, keep_largest, near_items, user_knn
from tests.evaluation.test_scorers import NOW, PAST, A


def test_neighbours_add_what_they_had():
    # b shares x with a, and has z; popularity alone would not tell z from a stranger's item.
    scores = user_knn(12.0, own=0.5, neighbours=1)(PAST, NOW)(A)[0]
    assert scores[2] > 0.1


def test_alone_the_neighbours_are_their_mean_weighted_by_cosine():
    had = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1]], float)  # of a, b, c; items x, y, z
    unit = had / np.linalg.norm(had, axis=1, keepdims=True)
    near = unit @ unit[0]
    expected = (near[1] * had[1] + near[2] * had[2]) / (near[1] + near[2])
    scores = user_knn(np.inf, own=0.0, neighbours=5)(PAST, NOW)(A)[0]
    # a had x in one period only, b too: counts are of periods.
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_itemknn_scores_by_shared_users():
    scores = itemknn(np.inf, 0.0, 100)(PAST, NOW)(np.array([2]))[0]  # c had z; z shares b with x
    np.testing.assert_allclose(scores, [1 / 2, 0, 0], atol=1e-6)


def test_shrinking_lowers_what_few_users_say():
    near = near_items(PAST, 3.0, 100).toarray()
    assert near[0, 2] == np.float32(1 / (2 + 3))


def test_chunks_change_nothing(monkeypatch):
    whole = near_items(PAST, 1.0, 2).toarray()
    monkeypatch.setattr(neighbours, "CHUNK_CELLS", 1)
    np.testing.assert_array_equal(near_items(PAST, 1.0, 2).toarray(), whole)
    one_by_one = user_knn(12.0, 0.5, 1)(PAST, NOW)(np.arange(3))
    monkeypatch.undo()
    np.testing.assert_array_equal(user_knn(12.0, 0.5, 1)(PAST, NOW)(np.arange(3)), one_by_one)


@given(arrays(np.float32, (3, 12), elements=st.sampled_from([0.0, 1.0, 2.0, 3.0])))
def test_the_largest_of_each_row_are_kept(near):
    kept = keep_largest(sparse.csr_matrix(near), 4).toarray()
    for row, left in zip(near, kept, strict=True):
        floor = np.sort(row)[-4]
        assert left.tolist() == [v if v >= floor and v > 0 else 0.0 for v in row]
