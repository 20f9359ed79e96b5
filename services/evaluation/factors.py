"""Linear baselines that are fitted once, at the first origin: EASE and iALS.

Shape suffixes: U = users, N = items, M = items that EASE fits, B = users asked, F = factors,
R = rows solved together, L = longest of their lists.
"""

from collections.abc import Iterator

import numpy as np
from scipy import linalg, sparse

from services.core.dataset import Dataset
from services.core.pooling import I64
from services.core.records import F32
from services.evaluation.matrices import decayed_periods
from services.evaluation.scorers import Method, Scorer

# EASE inverts a dense matrix of this many items: the most popular ones.
EASE_ITEMS = 8_000
# Entries gathered at once by iALS, each of F floats.
GATHERED = 10_000


class EaseFit:
    """EASE (Steck 2019) of some past: the inverse of its regularised Gram matrix."""

    def __init__(
        self, past: Dataset, half_life: float, regularisation: float, limit: int = EASE_ITEMS
    ) -> None:
        weights_UN = decayed_periods(past, half_life).astype(np.float32)
        users_N = np.diff(sparse.csc_matrix(weights_UN).indptr)
        self._item_count = past.item_count
        self._half_life = half_life
        self._regularisation = regularisation
        self.items_M = np.sort(np.argsort(-users_N, kind="stable")[:limit])
        fitted_UM = weights_UN[:, self.items_M].astype(np.float64)
        gram_MM = np.asfortranarray((fitted_UM.T @ fitted_UM).todense())
        gram_MM[np.diag_indices_from(gram_MM)] += regularisation
        lower_MM, failed = linalg.lapack.dpotrf(gram_MM, lower=1, overwrite_a=1)
        assert failed == 0, "a Gram matrix with a ridge is positive definite"
        inverse_MM, _ = linalg.lapack.dpotri(lower_MM, lower=1, overwrite_c=1)
        lower_half_MM = np.tril(inverse_MM).astype(np.float32)
        self._inverse_MM: F32 = lower_half_MM + np.tril(lower_half_MM, -1).T

    def method(self, *, keeps_diagonal: bool) -> Method:
        """Return the scorer; its diagonal is kept where people have things again.

        Kept, it is the ridge regression of every item on all items, itself included.
        """
        if keeps_diagonal:
            weight_MM = -self._regularisation * self._inverse_MM
            weight_MM[np.diag_indices_from(weight_MM)] += 1.0
        else:
            weight_MM = self._inverse_MM / -np.diag(self._inverse_MM)
            np.fill_diagonal(weight_MM, 0.0)

        def prepare(past: Dataset, now: float) -> Scorer:
            decayed_UM = decayed_periods(past, self._half_life)[:, self.items_M].astype(np.float32)

            def score(users_B: I64) -> F32:
                score_BN = np.zeros((len(users_B), self._item_count), np.float32)
                score_BN[:, self.items_M] = decayed_UM[users_B] @ weight_MM
                return score_BN

            return score

        return prepare


def ials(
    fit: Dataset, half_life: float, factors: int, regularisation: float, alpha: float,
    sweeps: int = 8,
) -> Method:  # fmt: skip
    """Return implicit-feedback ALS (Hu, Koren, Volinsky 2008).

    Item factors are fitted on `fit`; at an origin every user asked is solved from its own events.

    Args:
        fit: events before the first origin.
        half_life: of a period with the item, in periods.
        factors: width.
        regularisation: of a row, times its number of entries to the power 1 / 2.
        alpha: confidence of an entry is 1 + alpha * its decayed periods.
        sweeps: alternations.
    """
    confidence_UN = alpha * decayed_periods(fit, half_life).astype(np.float32)
    confidence_NU = sparse.csr_matrix(confidence_UN.T)
    rng = np.random.default_rng(0)
    items_NF = rng.normal(0.0, factors**-0.5, (fit.item_count, factors)).astype(np.float32)
    # What nobody had has no place: it would only stand at its random start.
    items_NF[np.diff(confidence_NU.indptr) == 0] = 0.0
    for _ in range(sweeps):
        users_UF = _solve(confidence_UN, items_NF, regularisation)
        items_NF = _solve(confidence_NU, users_UF, regularisation)

    def prepare(past: Dataset, now: float) -> Scorer:
        own_UN = alpha * decayed_periods(past, half_life).astype(np.float32)

        def score(users_B: I64) -> F32:
            scores: F32 = _solve(own_UN[users_B], items_NF, regularisation) @ items_NF.T
            return scores

        return score

    return prepare


def _solve(confidence_RN: sparse.csr_matrix, other_NF: F32, regularisation: float) -> F32:
    """Return the best row factors for fixed column factors; a row without entries gets zeros."""
    count_R = np.diff(confidence_RN.indptr)
    solved_RF = np.zeros((len(count_R), other_NF.shape[1]), np.float32)
    gram_FF = other_NF.T @ other_NF
    eye_FF = np.eye(other_NF.shape[1], dtype=np.float32)
    for rows_R, longest in _alike(count_R):
        place_RL = np.arange(longest)
        is_entry_RL = place_RL < count_R[rows_R, None]
        at_RL = np.where(is_entry_RL, confidence_RN.indptr[rows_R, None] + place_RL, 0)
        weight_RL = np.where(is_entry_RL, confidence_RN.data[at_RL], 0.0).astype(np.float32)
        other_RLF = other_NF[confidence_RN.indices[at_RL]]
        weighted_RFL = (other_RLF * weight_RL[:, :, None]).transpose(0, 2, 1)
        ridge_R = regularisation * np.sqrt(count_R[rows_R]).astype(np.float32)
        left_RFF = weighted_RFL @ other_RLF + gram_FF + ridge_R[:, None, None] * eye_FF
        right_RF = weighted_RFL.sum(axis=2) + (other_RLF * is_entry_RL[:, :, None]).sum(axis=1)
        solved_RF[rows_R] = np.linalg.solve(left_RFF, right_RF[:, :, None])[:, :, 0]
    return solved_RF


def _alike(count_R: I64) -> Iterator[tuple[I64, int]]:
    """Yield rows of like length with the longest, shortest first; empty rows are left out."""
    order = np.argsort(count_R, kind="stable")
    order = order[np.searchsorted(count_R[order], 1) :]
    while len(order):
        # As many as fit, by the longest of them.
        total_R = count_R[order] * np.arange(1, len(order) + 1)
        taken = max(1, int(np.searchsorted(total_R, GATHERED, "right")))
        yield order[:taken], int(count_R[order[taken - 1]])
        order = order[taken:]
