"""Neighbour baselines: of users (UP-CF, TIFU-KNN) and of items (ItemKNN).

Shape suffixes: U = users, N = items, B = users asked, K = neighbours, P = pairs.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from scipy import sparse

from services.core.dataset import Dataset
from services.core.pooling import I64
from services.core.records import F32
from services.evaluation.matrices import decayed_periods, incidence
from services.evaluation.scorers import Method, Scorer

# Similarities held at once; bounds the memory whatever the number of users or items.
CHUNK_CELLS = 8_000_000


def user_knn(half_life: float, own: float, neighbours: int) -> Method:
    """Return own * decayed periods + (1 - own) * the weighted mean of the nearest users'.

    Near are users of high cosine between decayed periods.
    """

    def prepare(past: Dataset, now: float) -> Scorer:
        decayed_UN = decayed_periods(past, half_life).astype(np.float32)
        unit_UN = _unit_rows(decayed_UN)
        unit_NU = sparse.csr_matrix(unit_UN.T)

        def score(users_B: I64) -> F32:
            score_BN = np.empty((len(users_B), past.item_count), np.float32)
            for rows in _chunks(len(users_B), past.user_count):
                near_BU = sparse.csr_matrix(unit_UN[users_B[rows]] @ unit_NU)
                asked_P = np.repeat(users_B[rows], np.diff(near_BU.indptr))
                near_BU.data[near_BU.indices == asked_P] = 0.0
                nearest_BU = keep_largest(near_BU, neighbours)
                sum_B = np.asarray(nearest_BU.sum(axis=1)).ravel()
                share_BU = sparse.diags_array(1.0 / np.maximum(sum_B, 1e-12)) @ nearest_BU
                score_BN[rows] = (1.0 - own) * (share_BU @ decayed_UN).toarray()
                score_BN[rows] += own * decayed_UN[users_B[rows]].toarray()
            return score_BN

        return score

    return prepare


def itemknn(
    half_life: float, shrink: float, neighbours: int, near_NN: sparse.csr_matrix | None = None
) -> Method:
    """Return the shrunk cosine of items over users, summed over what the user had, decayed.

    Args:
        half_life: of what the user had, in periods.
        shrink: see `near_items`.
        neighbours: kept for each item.
        near_NN: from `near_items`; unset, found anew at each origin.
    """

    def prepare(past: Dataset, now: float) -> Scorer:
        weights_NN = near_items(past, shrink, neighbours) if near_NN is None else near_NN
        decayed_UN = decayed_periods(past, half_life).astype(np.float32)
        return lambda users_B: np.asarray((decayed_UN[users_B] @ weights_NN).toarray(), np.float32)

    return prepare


def near_items(past: Dataset, shrink: float, neighbours: int) -> sparse.csr_matrix:
    """Return the weight that each item (row) gives to the items (columns) that it is near to.

    A column keeps its `neighbours` largest. Weight = users in common / (sqrt(users of the one *
    users of the other) + shrink).
    """
    had_UN = incidence(past).astype(np.float32)
    root_N = np.sqrt(np.asarray(had_UN.sum(axis=0)).ravel())
    had_NU = sparse.csr_matrix(had_UN.T)
    parts = []
    for rows in _chunks(past.item_count, past.item_count):
        near_BN = sparse.csr_matrix(had_NU[rows] @ had_UN)
        row_P = np.repeat(np.arange(rows.start, rows.stop), np.diff(near_BN.indptr))
        near_BN.data /= root_N[row_P] * root_N[near_BN.indices] + np.float32(shrink)
        near_BN.data[row_P == near_BN.indices] = 0.0
        parts.append(keep_largest(near_BN, neighbours))
    return sparse.csr_matrix(sparse.vstack(parts).T)


def keep_largest(near_BK: sparse.csr_matrix, kept: int) -> sparse.csr_matrix:
    """Return the `kept` largest positive entries of each row; equals of the last are kept too."""
    ends = near_BK.indptr
    for start, end in pairwise(ends):
        if end - start > kept:
            row_P = near_BK.data[start:end]
            row_P[row_P < np.partition(row_P, -kept)[-kept]] = 0.0
    near_BK.eliminate_zeros()
    return near_BK


def _unit_rows(matrix_UN: sparse.csr_matrix) -> sparse.csr_matrix:
    norm_U = np.sqrt(np.asarray(matrix_UN.multiply(matrix_UN).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags_array(1.0 / np.maximum(norm_U, 1e-12)) @ matrix_UN)


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    size = max(1, CHUNK_CELLS // max(columns, 1))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
