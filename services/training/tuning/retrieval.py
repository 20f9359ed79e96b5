"""Next-period new items by mean-pooled cosine: what frozen and tuned vectors are compared by.

Cheap and without anything learned on top, so that what moves it is the backbone.

Shape suffixes: U = users, N = texts, B = width, K = positions, E = events.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from services.core.errors import InvalidArgument
from services.core.metrics import rank_figures
from services.core.pooling import F64, I64
from services.core.records import F32
from services.core.top import contains, top_rows, top_without
from services.training.tuning.config import TuneConfig
from services.training.tuning.outcomes import Outcome, ratio_outcome
from services.training.tuning.signals import Histories

POSITIONS = 10
# Places of the whole ranking that are searched for what the user never had, before it is made anew.
HEAD = 160
# Scores held at once: this many users times N.
CHUNK = 1024
METRIC = "new_ndcg_at_10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """All users at a period's start. Columns are texts."""

    # Periods in which the user had it, faded.
    history_UN: sparse.csr_matrix
    # 1 for what the user has in the period and never had before.
    new_UN: sparse.csr_matrix
    # Each text's share of the faded past.
    share_N: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Periods to learn from, to stop by and to measure on, in time order."""

    train: tuple[int, ...]
    stop: tuple[int, ...]
    held_out: tuple[int, ...]


def split_periods(histories: Histories, config: TuneConfig) -> Origins:
    """Place the origins: the last full periods are held out, the ones before stop the training.

    Raises:
        InvalidArgument: too few periods.
    """
    first, last = int(histories.period_E.min()), histories.last
    held = last - config.held_out_periods + 1
    stop = held - config.stop_periods
    train = max(first + 1, stop - config.origins)
    if train >= stop:
        raise InvalidArgument(
            "events",
            f"span {last - first + 1} full periods, {config.held_out_periods} are held out and "
            f"{config.stop_periods} stop the training; import more or hold out fewer",
        )
    return Origins(
        train=tuple(range(train, stop)),
        stop=tuple(range(stop, held)),
        held_out=tuple(range(held, last + 1)),
    )


def examples_at(
    histories: Histories, period: int, texts: int, half_life_periods: float
) -> Examples:
    """Return what was had before a period, and what is new in it."""
    users = int(histories.user_ix_E.max()) + 1
    cell_E = histories.user_ix_E * texts + histories.text_ix_E
    periods = int(histories.period_E.max()) + 1
    is_past = histories.period_E < period
    # A period counts once, however many receipts it has.
    past = np.unique(cell_E[is_past] * periods + histories.period_E[is_past])
    weight = np.exp2(-(period - 1 - past % periods) / half_life_periods)
    shape = (users, texts)
    rows, columns = np.divmod(past // periods, texts)
    history_UN = sparse.csr_matrix((weight, (rows, columns)), shape=shape)
    now = np.setdiff1d(cell_E[histories.period_E == period], past // periods)
    rows, columns = np.divmod(now, texts)
    new_UN = sparse.csr_matrix((np.ones(len(now)), (rows, columns)), shape=shape)
    counts_N = np.asarray(history_UN.sum(axis=0)).ravel() + 0.5
    return Examples(history_UN=history_UN, new_UN=new_UN, share_N=counts_N / counts_N.sum())


def users_asked(examples: Examples) -> I64:
    """Return users with a past and something new, ascending."""
    has_past = np.diff(examples.history_UN.indptr) > 0
    return np.flatnonzero(has_past & (np.diff(examples.new_UN.indptr) > 0))


def pooled(history_BN: sparse.csr_matrix, text_NB: F32) -> F32:
    """Return the unit mean of what users had [U, B]."""
    sum_UB = np.asarray(history_BN @ text_NB, np.float32)
    unit_UB: F32 = sum_UB / np.maximum(np.linalg.norm(sum_UB, axis=1, keepdims=True), 1e-12)
    return unit_UB


def retrieval_outcome(held_out: list[Examples], text_NB: F32) -> Outcome:
    """Return NDCG@10 over users and held-out periods; every text the user never had is ranked."""
    return _outcome(
        held_out,
        lambda examples, users_B: pooled(examples.history_UN[users_B], text_NB) @ text_NB.T,
    )


def popularity_outcome(held_out: list[Examples]) -> Outcome:
    """Return the same of ranking by each text's share of the past, alike for every user."""

    def score(examples: Examples, users_B: I64) -> F32:
        share_N = examples.share_N.astype(np.float32)
        return np.broadcast_to(share_N, (len(users_B), len(share_N)))

    return _outcome(held_out, score)


def _outcome(held_out: list[Examples], score: Callable[[Examples, I64], F32]) -> Outcome:
    users = held_out[0].history_UN.shape[0]
    sum_U, count_U = np.zeros(users), np.zeros(users)
    for examples in held_out:
        asked = users_asked(examples)
        for start in range(0, len(asked), CHUNK):
            users_B = asked[start : start + CHUNK]
            score_BN, new_BN = score(examples, users_B), examples.new_UN[users_B]
            head_BW = top_rows(score_BN, HEAD)
            top_BK = top_without(score_BN, examples.history_UN[users_B], head_BW, POSITIONS)
            figures = rank_figures(
                contains(new_BN, top_BK), np.diff(new_BN.indptr).astype(np.int64), (POSITIONS,)
            )
            sum_U[users_B] += figures[f"ndcg_at_{POSITIONS}"]
            count_U[users_B] += 1
    kept = count_U > 0
    return ratio_outcome(METRIC, sum_U[kept], count_U[kept])
