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
from services.core.ranker import Ranker
from services.core.ranking import NEVER, ItemStats, score_items, top_items
from services.core.reasons import Citation, cite
from services.core.records import F32, RankState
from services.core.selection import Variety, diverse_items, novelty, with_exploration
from services.core.spaces import require_space

PLAIN = Variety()


class Consumed(StrEnum):
    """What to do with items the user already had."""

    KEEP = "keep"
    DROP = "drop"
    ONLY = "only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The catalogue as ranking looks at it; made once a generation."""

    # Of the items' vectors; empty apart from any store.
    space_id: str = ""
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
    # Nothing but these; empty means all.
    allowed_item_ids: tuple[str, ...] = ()
    excluded_item_ids: tuple[str, ...] = ()
    # What a user of whom nothing is known says they like: they get what is popular there.
    declared_categories: tuple[str, ...] = ()


class Fallback(StrEnum):
    """What stands in for a user's own interest."""

    # Nothing does.
    NONE = "none"
    # What is popular in the categories they declared.
    DECLARED_CATEGORIES = "declared_categories"
    # What is popular.
    POPULAR = "popular"


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
    # Distance to the nearest item the user had, in [0, 1]; no part of the score.
    novelty_K: F32
    # Drawn by exploration instead of ranked.
    is_explored_K: NDArray[np.bool_]
    # What of the history each rests on, strongest first.
    citations_K: tuple[tuple[Citation, ...], ...]
    fallback: Fallback


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
    space_id: str = "",
) -> Shelf:
    """Index a catalogue by id and by category."""
    rows: dict[str, list[int]] = {}
    for row, names in enumerate(categories):
        for name in set(names):
            rows.setdefault(name, []).append(row)
    return Shelf(
        space_id=space_id,
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
    state: RankState | None, shelf: Shelf, ranker: Ranker, *, now: float, k: int,
    filters: Filters, variety: Variety = PLAIN, has_reasons: bool = True,
) -> RankedItems:  # fmt: skip
    """Return the `k` best items for one user.

    Args:
        state: what is known of the user; None ranks by what everybody wants.
        shelf: the catalogue.
        ranker: the live model's.
        now: seconds since 1970; the state is aged to it.
        k: how many to return at most.
        filters: what may be returned.
        variety: how far the list departs from the order of scores.
        has_reasons: whether to cite what each score rests on, which costs more than the rest.

    Raises:
        SpaceMismatch: the state is of another space than the catalogue.
    """
    require_space(shelf.space_id, state.space_id if state else "")
    states = states_of_one(state, shelf, ranker, now)
    scores = score_items(states, shelf.stats, shelf.items_ND, ranker, now)
    score_N, interest_N = scores.score_UN[0], scores.interest_UN[0]
    had_R = states.repeat_item_ix_R
    allowed_N = _allowed(shelf, filters, had_R)
    fallback = Fallback.NONE if state is not None else Fallback.POPULAR
    if state is None and filters.declared_categories:
        declared_N = allowed_N & _in_categories(shelf, filters.declared_categories)
        if declared_N.any():
            allowed_N, fallback = declared_N, Fallback.DECLARED_CATEGORIES
    masked_N = np.where(allowed_N, score_N, np.float32(NEVER))
    row_K = diverse_items(masked_N, shelf.items_ND, k, variety.diversity)
    open_N = allowed_N.copy()
    open_N[had_R] = False
    row_K, is_explored_K = with_exploration(row_K, interest_N, open_N, variety)
    return RankedItems(
        row_K=row_K,
        score_K=score_N[row_K],
        interest_K=interest_N[row_K],
        popularity_K=scores.popularity_UN[0, row_K],
        repeat_K=scores.repeat_UN[0, row_K],
        novelty_K=novelty(row_K, had_R, shelf.items_ND),
        is_explored_K=is_explored_K,
        citations_K=cite(states, row_K, shelf.stats, shelf.items_ND, ranker, now)
        if has_reasons
        else tuple(() for _ in row_K),
        fallback=fallback,
    )


def unmatched(shelf: Shelf, filters: Filters) -> tuple[str, ...]:
    """Return the categories asked for, then the item ids, that the catalogue does not have."""
    categories = (*filters.categories, *filters.declared_categories)
    items = (*filters.allowed_item_ids, *filters.excluded_item_ids)
    return (
        *(name for name in dict.fromkeys(categories) if name not in shelf.rows_of),
        *(item_id for item_id in dict.fromkeys(items) if item_id not in shelf.row_of),
    )


def similar_items(
    item_ids: Sequence[str], shelf: Shelf, k: int, filters: Filters | None = None
) -> SimilarItems:
    """Return the `k` items nearest by cosine to one, or to the mean of several; these left out.

    An item without text has a zero vector: it is near nothing.

    Raises:
        ItemNotFound: an item is not in the catalogue.
    """
    rows = []
    for item_id in item_ids:
        if (row := shelf.row_of.get(item_id)) is None:
            raise ItemNotFound(item_id)
        rows.append(row)
    mean_D = np.asarray(shelf.items_ND[rows]).mean(axis=0)
    norm = float(np.linalg.norm(mean_D))
    cosine_N = shelf.items_ND @ (mean_D / max(norm, 1e-12))
    may_N = np.any(shelf.items_ND, axis=1) & (norm > 1e-6)
    may_N &= _allowed(shelf, filters or Filters(), np.zeros(0, np.int64))
    may_N[rows] = False
    row_K = top_items(np.where(may_N, cosine_N, np.float32(NEVER)).astype(np.float32), k)
    return SimilarItems(row_K=row_K, cosine_K=np.clip(cosine_N[row_K], -1.0, 1.0))


def _allowed(shelf: Shelf, filters: Filters, had_R: I64) -> NDArray[np.bool_]:
    allowed_N = np.ones(len(shelf.item_ids), bool)
    if filters.categories:
        allowed_N = _in_categories(shelf, filters.categories)
    if filters.allowed_item_ids:
        allowed_N &= _are_items(shelf, filters.allowed_item_ids)
    if filters.consumed is not Consumed.KEEP:
        had_N = np.zeros(len(allowed_N), bool)
        had_N[had_R] = True
        allowed_N &= had_N if filters.consumed is Consumed.ONLY else ~had_N
    return allowed_N & ~_are_items(shelf, filters.excluded_item_ids)


def _in_categories(shelf: Shelf, categories: Sequence[str]) -> NDArray[np.bool_]:
    is_in_N = np.zeros(len(shelf.item_ids), bool)
    for name in categories:
        if name in shelf.rows_of:
            is_in_N[shelf.rows_of[name]] = True
    return is_in_N


def _are_items(shelf: Shelf, item_ids: Sequence[str]) -> NDArray[np.bool_]:
    is_one_N = np.zeros(len(shelf.item_ids), bool)
    is_one_N[[shelf.row_of[item_id] for item_id in item_ids if item_id in shelf.row_of]] = True
    return is_one_N
