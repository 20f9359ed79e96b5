"""Everything that is compared, as scorers: at an origin, scores of all items for some users.

    driftline           core/ranking.py with the trained model
    frozen_mean         the article's way: cosine to the mean of the frozen text vectors of what
                        a user had in a window chosen on the validation periods
    popularity          decayed to a window chosen on the validation periods
    frequency           how often the user had the item; popularity breaks ties
    recency_frequency   periods with the item, decayed; then popularity
    user_knn            recency_frequency, mixed with that of the nearest users (UP-CF)
    itemknn             cosine of items over users
    ease                linear item-item model with its diagonal kept, fitted at the first origin

Baselines see the same events at every origin. Their constants are chosen on the validation periods.

Shape suffixes: U = users, N = items, B = users asked, E = events, K = positions,
W = head of a ranking, S = rows ranked again.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.core.dataset import Dataset
from services.core.model import Model
from services.core.pooling import DAY_S, F64, I64, RankStates, pool_rank_states
from services.core.ranking import popularity_shares, score_items
from services.core.records import F32

# Scores of all items for some users [B, N].
Scorer = Callable[[I64], F32]
# Past events, and now in seconds since 1970 -> a scorer.
Method = Callable[[Dataset, float], Scorer]

# Popularity breaks ties between items that a user had equally often, and no more.
TIE = 1e-3


def driftline(model: Model, items_ND: F32) -> Method:
    """Return our method: the functions that serving calls."""

    def prepare(past: Dataset, now: float) -> Scorer:
        states = pool_rank_states(
            past.user_ix_E, past.time_E, past.item_ix_E, past.item_ix_E, past.weight_E, items_ND,
            past.user_count, model.pooling,
        )  # fmt: skip
        stats = popularity_shares(
            past.item_ix_E, past.time_E, now, past.item_count,
            model.ranker.popularity_half_lives_days,
        )  # fmt: skip
        return lambda users_B: (
            score_items(take_users(states, users_B), stats, items_ND, model.ranker, now).score_UN
        )

    return prepare


def take_users(states: RankStates, users_B: I64) -> RankStates:
    """Return the states of some users (ascending rows), in their order."""
    row_R = np.searchsorted(users_B, states.repeat_user_ix_R)
    is_theirs = users_B[np.minimum(row_R, len(users_B) - 1)] == states.repeat_user_ix_R
    return RankStates(
        query_sums_UHD=states.query_sums_UHD[users_B],
        query_weights_UH=states.query_weights_UH[users_B],
        activity_UH=states.activity_UH[users_B],
        state_time_U=states.state_time_U[users_B],
        repeat_user_ix_R=row_R[is_theirs],
        repeat_item_ix_R=states.repeat_item_ix_R[is_theirs],
        repeat_counts_RH=states.repeat_counts_RH[is_theirs],
        repeat_last_times_R=states.repeat_last_times_R[is_theirs],
    )


def frozen_mean(text_NV: F32, window_days: float) -> Method:
    """Return the article's way, over what the user had in the last `window_days`."""

    def prepare(past: Dataset, now: float) -> Scorer:
        counts_UN = _counts(past.between(now - window_days * DAY_S, now))

        def score(users_B: I64) -> F32:
            mean_BV = (counts_UN[users_B] @ text_NV).astype(np.float32)
            norm_B1 = np.linalg.norm(mean_BV, axis=1, keepdims=True)
            scores: F32 = (mean_BV / np.maximum(norm_B1, 1e-12)) @ text_NV.T
            return scores

        return score

    return prepare


def popularity(window_days: float) -> Method:
    """Return the events of the last `window_days`, counted."""

    def prepare(past: Dataset, now: float) -> Scorer:
        share_N = _recent_share(past, now, window_days)
        return lambda users_B: np.repeat(share_N[None], len(users_B), axis=0)

    return prepare


def frequency(window_days: float) -> Method:
    """Return each user's own counts; popularity of the window for the rest."""

    def prepare(past: Dataset, now: float) -> Scorer:
        return _with_popularity(_counts(past), _recent_share(past, now, window_days))

    return prepare


def recency_frequency(half_life: float, window_days: float) -> Method:
    """Return periods with the item, decayed by `half_life` periods; popularity for the rest."""

    def prepare(past: Dataset, now: float) -> Scorer:
        decayed_UN = _decayed_periods(past, now, half_life)
        return _with_popularity(decayed_UN, _recent_share(past, now, window_days))

    return prepare


def user_knn(half_life: float, window_days: float, own: float, neighbours: int = 100) -> Method:
    """Return own * recency_frequency + (1 - own) * the mean of the nearest users'."""

    def prepare(past: Dataset, now: float) -> Scorer:
        decayed_UN = _decayed_periods(past, now, half_life)
        norm_U = np.sqrt(np.asarray(decayed_UN.multiply(decayed_UN).sum(axis=1)).ravel())
        unit_UN = sparse.diags(1.0 / np.maximum(norm_U, 1e-12)) @ decayed_UN
        share_N = _recent_share(past, now, window_days)

        def score(users_B: I64) -> F32:
            near_BU = np.asarray((unit_UN[users_B] @ unit_UN.T).todense())
            near_BU[np.arange(len(users_B)), users_B] = 0.0
            kept = min(neighbours, near_BU.shape[1] - 1)
            floor_B1 = np.partition(near_BU, -kept, axis=1)[:, -kept][:, None]
            near_BU[near_BU < floor_B1] = 0.0
            near_BU /= np.maximum(near_BU.sum(axis=1, keepdims=True), 1e-12)
            others_BN = sparse.csr_matrix(near_BU) @ decayed_UN
            mixed_BN = own * decayed_UN[users_B].toarray() + (1.0 - own) * others_BN.toarray()
            mixed: F32 = (mixed_BN + TIE * share_N).astype(np.float32)
            return mixed

        return score

    return prepare


def itemknn(neighbours: int = 100) -> Method:
    """Return the cosine of items over users, summed over what the user had."""

    def prepare(past: Dataset, now: float) -> Scorer:
        had_UN = _binary(past)
        cosine_NN = _cosine(had_UN)
        np.fill_diagonal(cosine_NN, 0.0)
        kept = min(neighbours, len(cosine_NN))
        floor_N1 = np.partition(cosine_NN, -kept, axis=1)[:, -kept][:, None]
        near_NN = np.where(cosine_NN >= floor_N1, cosine_NN, 0.0).astype(np.float32)
        return lambda users_B: np.asarray(had_UN[users_B] @ near_NN.T, np.float32)

    return prepare


def ease(fit: Dataset, half_life: float, regularisation: float = 200.0) -> Method:
    """Return EASE on decayed periods; its diagonal is kept, for people do buy again."""
    weights_UN = _decayed_periods(fit, float(fit.time_E[-1]), half_life)
    gram_NN = np.asarray((weights_UN.T @ weights_UN).todense(), np.float64)
    regular_NN = gram_NN.copy()
    regular_NN[np.diag_indices_from(regular_NN)] += regularisation
    # Ridge regression of every item on all items, itself included.
    weight_NN = np.linalg.solve(regular_NN, gram_NN).astype(np.float32)

    def prepare(past: Dataset, now: float) -> Scorer:
        decayed_UN = _decayed_periods(past, now, half_life)
        return lambda users_B: np.asarray(decayed_UN[users_B] @ weight_NN, np.float32)

    return prepare


def top_rows(score_BN: F32, k: int) -> I64:
    """Return each row's `k` best columns, best first, equal scores in catalogue order."""
    items = score_BN.shape[1]
    wide = min(4 * k, items)
    if wide == items:
        return np.argsort(-score_BN, axis=1, kind="stable")[:, :k]
    # Ascending columns, so that the stable sort below keeps catalogue order.
    near_BW = np.sort(np.argpartition(-score_BN, wide - 1, axis=1)[:, :wide], axis=1)
    near_score_BW = np.take_along_axis(score_BN, near_BW, axis=1)
    order_BK = np.argsort(-near_score_BW, axis=1, kind="stable")[:, :k]
    top_BK = np.take_along_axis(near_BW, order_BK, axis=1)
    # A tie that reaches the partition's edge may have cut off an earlier column: sort those whole.
    worst_B = np.take_along_axis(score_BN, top_BK[:, -1:], axis=1)[:, 0]
    unsure = np.flatnonzero(worst_B <= near_score_BW.min(axis=1))
    top_BK[unsure] = np.argsort(-score_BN[unsure], axis=1, kind="stable")[:, :k]
    return top_BK


def top_allowed(score_BN: F32, allowed_BN: NDArray[np.bool_], head_BW: I64, k: int) -> I64:
    """Return each row's `k` best allowed columns, best first, equal scores in catalogue order.

    Args:
        score_BN: scores.
        allowed_BN: which columns may be returned; where fewer than `k` may, others fill the end.
        head_BW: top_rows(score_BN, W) for some W: where it holds `k` allowed ones, those are they.
        k: how many.
    """
    is_good_BW = np.take_along_axis(allowed_BN, head_BW, axis=1)
    first_BK = np.argsort(~is_good_BW, axis=1, kind="stable")[:, :k]
    top_BK = np.take_along_axis(head_BW, first_BK, axis=1)
    short = np.flatnonzero(is_good_BW.sum(axis=1) < k)
    if len(short):
        masked_SN = np.where(allowed_BN[short], score_BN[short], -np.inf)
        top_BK[short] = top_rows(masked_SN, k)
    return top_BK


def _with_popularity(own_UN: sparse.csr_matrix, share_N: F32) -> Scorer:
    return lambda users_B: (own_UN[users_B].toarray() + TIE * share_N).astype(np.float32)


def _recent_share(past: Dataset, now: float, window_days: float) -> F32:
    recent = past.between(now - window_days * DAY_S, now)
    count_N = np.bincount(recent.item_ix_E, minlength=past.item_count)
    share_N: F32 = (count_N / max(count_N.max(), 1)).astype(np.float32)
    return share_N


def _counts(past: Dataset) -> sparse.csr_matrix:
    shape = (past.user_count, past.item_count)
    return sparse.csr_matrix(
        (np.ones(past.event_count), (past.user_ix_E, past.item_ix_E)), shape=shape
    )


def _binary(past: Dataset) -> sparse.csr_matrix:
    counts = _counts(past)
    counts.data[:] = 1.0
    return counts


def _decayed_periods(past: Dataset, now: float, half_life: float) -> sparse.csr_matrix:
    """Sum 2 ** (-age / half_life) over the distinct periods in which a user had an item."""
    periods = int(past.period_E.max(initial=0)) + 1
    cell_E = past.user_ix_E * past.item_count + past.item_ix_E
    key = np.unique(cell_E * periods + past.period_E)
    cell, period = np.divmod(key, periods)
    weight = np.exp2(-(periods - 1 - period) / half_life)
    user, item = np.divmod(cell, past.item_count)
    return sparse.csr_matrix((weight, (user, item)), shape=(past.user_count, past.item_count))


def _cosine(had_UN: sparse.csr_matrix) -> F64:
    gram_NN: F64 = np.asarray((had_UN.T @ had_UN).todense(), np.float64)
    norm_N = np.sqrt(np.maximum(np.diag(gram_NN), 1e-12))
    cosine_NN: F64 = gram_NN / np.outer(norm_N, norm_N)
    return cosine_NN
