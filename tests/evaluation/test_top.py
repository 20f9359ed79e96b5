import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from services.evaluation.top import contains, top_among, top_rows, top_without

SCORES = arrays(np.float32, (3, 60), elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, -np.inf]))
FINITE = arrays(np.float32, (3, 60), elements=st.sampled_from([0.0, 1.0, 2.0, 3.0]))


@given(SCORES, st.sampled_from([1, 10, 59, 60, 80]))
def test_the_fast_top_is_the_head_of_a_stable_sort(score, k):
    expected = np.argsort(-score, axis=1, kind="stable")[:, :k]
    assert top_rows(score, k).tolist() == expected.tolist()


def test_one_ranking_for_all_is_the_same_for_each():
    score = np.array([2, 5, 5, 1], np.float32)
    assert top_rows(np.broadcast_to(score, (3, 4)), 2).tolist() == [[1, 2]] * 3


@given(FINITE, arrays(np.bool_, (3, 60)))
def test_leaving_out_ranks_as_if_it_were_not_there(score, left_out):
    held = sparse.csr_matrix(left_out.astype(float))
    top = top_without(score, held, top_rows(score, 16), 10)
    for row in range(3):
        own = [i for i in np.argsort(-score[row], kind="stable") if not left_out[row, i]]
        assert [i for i in top[row] if not left_out[row, i]] == own[:10]


@given(FINITE, arrays(np.bool_, 60), st.sampled_from([5, 16]))
def test_some_columns_are_ranked_as_if_no_others_were_there(score, columns, head):
    top = top_among(score, columns, top_rows(score, head), 10)
    for row in range(3):
        own = [i for i in np.argsort(-score[row], kind="stable") if columns[i]]
        assert top[row].tolist() == own[:10]


@given(arrays(np.bool_, (4, 9)))
def test_entries_are_found_where_they_are(held):
    asked = np.tile(np.arange(9)[::-1], (4, 1))
    found = contains(sparse.csr_matrix(held.astype(float)), asked)
    assert found.tolist() == held[:, ::-1].tolist()
