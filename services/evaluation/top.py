"""The best columns of each row of scores, equal scores in catalogue order.

Shape suffixes: B = rows, N = columns, K = places, W = head of a ranking, S = rows ranked again,
P = (row, column) pairs.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.core.pooling import I64
from services.core.records import F32


def top_rows(score_BN: F32, k: int) -> I64:
    """Return each row's `k` best columns, best first, equal scores in catalogue order."""
    rows, items = score_BN.shape
    k = min(k, items)
    if score_BN.strides[0] == 0 and rows > 1:
        # One ranking broadcast over all rows.
        return np.repeat(top_rows(score_BN[:1], k), rows, axis=0)
    if k == items:
        return np.argsort(-score_BN, axis=1, kind="stable")
    worst_B1 = np.partition(score_BN, items - k, axis=1)[:, items - k][:, None]
    row_P, column_P = np.nonzero(score_BN > worst_B1)
    better_B = np.bincount(row_P, minlength=rows)
    top_BK = np.zeros((rows, k), np.int64)
    # nonzero goes by row, then column: the stable sort keeps catalogue order.
    order_P = np.lexsort((-score_BN[row_P, column_P], row_P))
    place_P = np.arange(len(row_P)) - np.repeat(np.cumsum(better_B) - better_B, better_B)
    top_BK[row_P, place_P] = column_P[order_P]
    for row in range(rows):
        ties = np.flatnonzero(score_BN[row] == worst_B1[row, 0])
        top_BK[row, better_B[row] :] = ties[: k - better_B[row]]
    return top_BK


def contains(matrix_BN: sparse.csr_matrix, column_BW: I64) -> NDArray[np.bool_]:
    """Return whether each row of a matrix holds an entry in each of the given columns [B, W]."""
    rows, items = matrix_BN.shape
    held_P = np.repeat(np.arange(rows), np.diff(matrix_BN.indptr)) * items + matrix_BN.indices
    held_P.sort()
    asked_P = (np.arange(rows)[:, None] * items + column_BW).ravel()
    if not len(held_P):
        return np.zeros(column_BW.shape, bool)
    found_P = held_P[np.minimum(np.searchsorted(held_P, asked_P), len(held_P) - 1)] == asked_P
    found_BW: NDArray[np.bool_] = found_P.reshape(column_BW.shape)
    return found_BW


def top_without(score_BN: F32, left_out_BN: sparse.csr_matrix, head_BW: I64, k: int) -> I64:
    """Return each row's `k` best columns but those it holds in `left_out_BN`.

    Args:
        score_BN: scores.
        left_out_BN: an entry where a column may not be returned; where too few others are left,
            such columns fill the end.
        head_BW: top_rows(score_BN, W) for some W: where it holds `k` others, those are they.
        k: how many.
    """
    is_good_BW = ~contains(left_out_BN, head_BW)
    top_BK = _first(head_BW, is_good_BW, k)
    short = np.flatnonzero(is_good_BW.sum(axis=1) < k)
    if len(short):
        masked_SN = np.array(score_BN[short])
        held_SN = left_out_BN[short].tocoo()
        masked_SN[held_SN.row, held_SN.col] = -np.inf
        top_BK[short] = top_rows(masked_SN, top_BK.shape[1])
    return top_BK


def top_among(score_BN: F32, columns_N: NDArray[np.bool_], head_BW: I64, k: int) -> I64:
    """Return each row's `k` best of some columns, or all of these where they are fewer.

    Args:
        score_BN: scores.
        columns_N: which columns may be returned.
        head_BW: top_rows(score_BN, W) for some W: where it holds `k` of them, those are they.
        k: how many.
    """
    columns = np.flatnonzero(columns_N)
    k = min(k, len(columns))
    is_good_BW = columns_N[head_BW]
    if head_BW.shape[1] < k:
        return columns[top_rows(score_BN[:, columns], k)]
    top_BK = _first(head_BW, is_good_BW, k)
    short = np.flatnonzero(is_good_BW.sum(axis=1) < k)
    if len(short):
        top_BK[short] = columns[top_rows(score_BN[np.ix_(short, columns)], k)]
    return top_BK


def _first(head_BW: I64, is_good_BW: NDArray[np.bool_], k: int) -> I64:
    first_BK = np.argsort(~is_good_BW, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(head_BW, first_BK, axis=1)
