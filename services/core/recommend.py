"""From one user's stored rank state to a ranked list, by the scoring that was evaluated.

A batch of one goes through `core/ranking.score_items`, so that an answer is a row of what
evaluation computes for many.

Shape suffixes: N = items of the catalogue, K = items kept, R = items the user had, D = width,
H = half-lives, M = items of one category.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from services.core.errors import ItemNotFound
from services.core.pooling import I64, RankStates
from services.core.ranking import NEVER, ItemStats, Ranker, score_items, top_items
from services.core.records import F32, RankState


class Consumed(StrEnum):
    """What to do with items the user already had."""

    KEEP = "keep"
    DROP = "drop"
    ONLY = "only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The catalogue as ranking looks at it; made once a generation."""

    # In catalogue order.
    item_ids: tuple[str, ...]
    items_ND: F32
    stats: ItemStats
    row_of: Mapping[str, int]
    # Category -> rows M, ascending.
    rows_of: Mapping[str, I64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which items may be returned."""

    consumed: Consumed = Consumed.KEEP
    # Items with one of these; empty means all.
    categories: tuple[str, ...] = ()
    excluded_item_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedItems:
    """The best items, best first; equal scores in catalogue order."""

    # Rows of the shelf.
    row_K: I64
    score_K: F32
    interest_K: F32
    popularity_K: F32
    # -inf where the user never had the item.
    repeat_K: F32


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarItems:
    """The nearest items, nearest first; equally near ones in catalogue order."""

    row_K: I64
    cosine_K: F32


def shelf_of(
    item_ids: Sequence[str],
    categories: Sequence[Collection[str]],
    items_ND: F32,
    stats: ItemStats,
) -> Shelf:
    """Index a catalogue by id and by category."""
    rows: dict[str, list[int]] = {}
    for row, names in enumerate(categories):
        for name in set(names):
            rows.setdefault(name, []).append(row)
    return Shelf(
        item_ids=tuple(item_ids),
        items_ND=items_ND,
        stats=stats,
        row_of={item_id: row for row, item_id in enumerate(item_ids)},
        rows_of={name: np.asarray(found, np.int64) for name, found in rows.items()},
    )


def states_of_one(state: RankState | None, shelf: Shelf, ranker: Ranker, now: float) -> RankStates:
    """Return a batch of one user; None is a user of whom nothing is known.

    Items that left the catalogue are left out.
    """
    half_lives, width = len(ranker.half_lives_days), shelf.items_ND.shape[1]
    if state is None:
        return RankStates(
            query_sums_UHD=np.zeros((1, half_lives, width), np.float32),
            query_weights_UH=np.zeros((1, half_lives), np.float32),
            activity_UH=np.zeros((1, half_lives), np.float32),
            state_time_U=np.asarray([now]),
            repeat_user_ix_R=np.zeros(0, np.int64),
            repeat_item_ix_R=np.zeros(0, np.int64),
            repeat_counts_RH=np.zeros((0, half_lives), np.float32),
            repeat_last_times_R=np.zeros(0, np.int64),
        )
    row_R = np.asarray([shelf.row_of.get(item, -1) for item in state.repeat_item_ids], np.int64)
    order = np.argsort(row_R, kind="stable")
    order = order[row_R[order] >= 0]
    return RankStates(
        query_sums_UHD=state.query_sums_HD[None],
        query_weights_UH=state.query_weights_H[None],
        activity_UH=state.activity_H[None],
        state_time_U=np.asarray([state.state_time]),
        repeat_user_ix_R=np.zeros(len(order), np.int64),
        repeat_item_ix_R=row_R[order],
        repeat_counts_RH=state.repeat_counts_RH[order],
        repeat_last_times_R=state.repeat_last_times_R[order],
    )


def recommend(
    state: RankState | None, shelf: Shelf, ranker: Ranker, *, now: float, k: int, filters: Filters
) -> RankedItems:
    """Return the `k` best items for one user.

    Args:
        state: what is known of the user; None ranks by what everybody wants.
        shelf: the catalogue.
        ranker: the live model's.
        now: seconds since 1970; the state is aged to it.
        k: how many to return at most.
        filters: what may be returned.
    """
    states = states_of_one(state, shelf, ranker, now)
    scores = score_items(states, shelf.stats, shelf.items_ND, ranker, now)
    allowed_N = _allowed(shelf, filters, states.repeat_item_ix_R)
    row_K = top_items(np.where(allowed_N, scores.score_UN[0], np.float32(NEVER)), k)
    return RankedItems(
        row_K=row_K,
        score_K=scores.score_UN[0, row_K],
        interest_K=scores.interest_UN[0, row_K],
        popularity_K=scores.popularity_UN[0, row_K],
        repeat_K=scores.repeat_UN[0, row_K],
    )


def similar_items(item_id: str, shelf: Shelf, k: int) -> SimilarItems:
    """Return the `k` items nearest to one by cosine, itself left out.

    An item without text has a zero vector: it is near nothing.

    Raises:
        ItemNotFound: the item is not in the catalogue.
    """
    row = shelf.row_of.get(item_id)
    if row is None:
        raise ItemNotFound(item_id)
    cosine_N = shelf.items_ND @ shelf.items_ND[row]
    has_vector_N = np.any(shelf.items_ND, axis=1) & bool(np.any(shelf.items_ND[row]))
    has_vector_N[row] = False
    row_K = top_items(np.where(has_vector_N, cosine_N, np.float32(NEVER)), k)
    return SimilarItems(row_K=row_K, cosine_K=np.clip(cosine_N[row_K], -1.0, 1.0))


def _allowed(shelf: Shelf, filters: Filters, had_R: I64) -> NDArray[np.bool_]:
    allowed_N = np.ones(len(shelf.item_ids), bool)
    if filters.categories:
        allowed_N[:] = False
        for name in filters.categories:
            allowed_N[shelf.rows_of.get(name, had_R[:0])] = True
    if filters.consumed is not Consumed.KEEP:
        had_N = np.zeros(len(allowed_N), bool)
        had_N[had_R] = True
        allowed_N &= had_N if filters.consumed is Consumed.ONLY else ~had_N
    for item_id in filters.excluded_item_ids:
        if (row := shelf.row_of.get(item_id)) is not None:
            allowed_N[row] = False
    return allowed_N
