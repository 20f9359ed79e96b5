"""From one stored rank state to a ranked list: the same figures as a batch of many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import ItemNotFound
from services.core.pooling import PoolingConfig, pool_rank_states
from services.core.ranker import neutral_ranker
from services.core.ranking import ItemStats, score_items, top_items
from services.core.recommend import (
    Consumed,
    Filters,
    recommend,
    shelf_of,
    similar_items,
    states_of_one,
)
from services.core.records import RankState

NOW = 1_700_000_000.0
DAY = 86_400
HALF_LIVES = (21.0, 84.0, 420.0)
IDS = ("a", "b", "c", "d", "e")
CATEGORIES = (("x",), ("x", "y"), ("y",), (), ("z",))
KEEP = Filters()


def vectors(n: int = 5, width: int = 3, seed: int = 0):
    made = np.random.default_rng(seed).normal(size=(n, width))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def shelf(items_ND=None, share=None):
    items_ND = vectors() if items_ND is None else items_ND
    share = np.asarray(share or [5, 4, 3, 2, 1], np.float32)
    stats = ItemStats(share_NW=(share / share.sum())[:, None], first_time_N=np.zeros(len(share)))
    return shelf_of(IDS, CATEGORIES, items_ND, stats)


def learned_ranker(width: int = 3, seed: int = 1):
    """A ranker with every term at work."""
    rng = np.random.default_rng(seed)
    base = neutral_ranker(HALF_LIVES, (7.0,), width)
    return type(base)(
        **{
            name: getattr(base, name)
            for name in base.__slots__
            if name not in {"query_HDD", "query_bias_D", "repeat_item_DH", "repeat_bias"}
        },
        query_HDD=rng.normal(size=(3, width, width)).astype(np.float32),
        query_bias_D=rng.normal(size=width).astype(np.float32),
        repeat_item_DH=rng.normal(size=(width, 3)).astype(np.float32),
        repeat_bias=0.3,
    )


def state(*item_ids: str, age_days: float = 3.0) -> RankState:
    count = len(item_ids)
    return RankState(
        query_sums_HD=np.arange(9, dtype=np.float32).reshape(3, 3) / 9,
        query_weights_H=np.ones(3, np.float32),
        activity_H=np.ones(3, np.float32),
        repeat_item_ids=item_ids,
        repeat_counts_RH=np.ones((count, 3), np.float32),
        repeat_last_times_R=np.full(count, int(NOW - age_days * DAY), np.int64),
        state_time=NOW - age_days * DAY,
    )


def ids(found) -> list[str]:
    return [IDS[row] for row in found.row_K]


def ranked(stored, k=5, filters=KEEP, on=None, ranker=None):
    return recommend(
        stored, on or shelf(), ranker or neutral_ranker(HALF_LIVES, (7.0,), 3),
        now=NOW, k=k, filters=filters,
    )  # fmt: skip


def test_strangers_get_what_is_popular():
    found = ranked(None)
    assert ids(found) == ["a", "b", "c", "d", "e"]
    assert np.array_equal(found.score_K, found.popularity_K)
    assert np.isneginf(found.repeat_K).all()


def test_what_a_user_had_comes_first_and_shows_its_part():
    found = ranked(state("e"), k=2)
    assert ids(found) == ["e", "a"]
    assert np.isfinite(found.repeat_K[0])
    assert np.isneginf(found.repeat_K[1])


def test_the_score_is_made_of_its_parts():
    found = ranked(state("b", "e"), ranker=learned_ranker())
    parts = np.logaddexp(found.interest_K + found.popularity_K, found.repeat_K)
    assert np.allclose(found.score_K, parts, atol=1e-6)


def test_equal_scores_keep_catalogue_order():
    assert ids(ranked(None, on=shelf(share=[1, 1, 1, 1, 1]), k=3)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(consumed=Consumed.DROP), ["a", "c", "d"]),
        (Filters(consumed=Consumed.ONLY), ["b", "e"]),
        (Filters(categories=("y",)), ["b", "c"]),
        (Filters(categories=("z", "x")), ["b", "e", "a"]),
        (Filters(categories=("nothing",)), []),
        (Filters(excluded_item_ids=("b", "gone")), ["e", "a", "c", "d"]),
        (Filters(consumed=Consumed.ONLY, categories=("y",), excluded_item_ids=("b",)), []),
    ],
)
def test_filters_leave_the_order_of_the_rest(filters, expected):
    assert ids(ranked(state("b", "e"), filters=filters)) == expected


def test_discovery_for_a_stranger_is_everything_and_buy_again_nothing():
    assert len(ids(ranked(None, filters=Filters(consumed=Consumed.DROP)))) == 5
    assert ids(ranked(None, filters=Filters(consumed=Consumed.ONLY))) == []


def test_items_that_left_the_catalogue_are_left_out():
    with_gone, without = state("gone", "b"), state("b")
    assert np.array_equal(ranked(with_gone).score_K, ranked(without).score_K)


def test_an_older_state_counts_less():
    fresh, old = ranked(state("e"), k=1), ranked(state("e", age_days=400), k=1)
    assert fresh.score_K[0] > old.score_K[0]


@given(seed=st.integers(0, 1000), k=st.integers(0, 7))
def test_one_user_alone_is_a_row_of_the_batch_that_evaluation_scores(seed, k):
    rng = np.random.default_rng(seed)
    users, events = 4, 60
    items_ND = vectors(seed=seed)
    user_ix = np.concatenate([np.arange(users), rng.integers(0, users, events - users)])
    rows = rng.integers(0, 5, events)
    times = NOW - rng.integers(0, 300, events).astype(float) * DAY
    batch = pool_rank_states(
        user_ix, times, rows, rows, np.ones(events), items_ND, users, PoolingConfig()
    )
    on, ranker = shelf(items_ND), learned_ranker(seed=seed)
    scores = score_items(batch, on.stats, items_ND, ranker, NOW)
    for user in range(users):
        own = batch.repeat_user_ix_R == user
        # As it is stored: most recent first.
        order = np.argsort(-batch.repeat_last_times_R[own], kind="stable")
        stored = RankState(
            query_sums_HD=batch.query_sums_UHD[user],
            query_weights_H=batch.query_weights_UH[user],
            activity_H=batch.activity_UH[user],
            repeat_item_ids=tuple(IDS[row] for row in batch.repeat_item_ix_R[own][order]),
            repeat_counts_RH=batch.repeat_counts_RH[own][order],
            repeat_last_times_R=batch.repeat_last_times_R[own][order],
            state_time=float(batch.state_time_U[user]),
        )
        found = recommend(stored, on, ranker, now=NOW, k=k, filters=KEEP)
        # The same figures and the same order, but for the float32 rounding of differently shaped
        # products: scores are of order 1.
        of_batch_N = scores.score_UN[user]
        np.testing.assert_allclose(found.score_K, of_batch_N[found.row_K], rtol=2e-5, atol=2e-6)
        best_K = of_batch_N[top_items(of_batch_N, k)]
        np.testing.assert_allclose(of_batch_N[found.row_K], best_K, rtol=2e-5, atol=2e-6)


def test_a_batch_of_nobody_known_has_the_rankers_shape():
    states = states_of_one(None, shelf(), learned_ranker(), NOW)
    assert states.query_sums_UHD.shape == (1, 3, 3)
    assert states.user_count == 1


def test_neighbours_come_nearest_first_without_the_item_itself():
    items_ND = np.asarray([[1, 0], [0.6, 0.8], [0, 1], [-1, 0], [0.8, 0.6]], np.float32)
    found = similar_items(["a"], shelf(items_ND), 3)
    assert ids(found) == ["e", "b", "c"]
    assert np.allclose(found.cosine_K, [0.8, 0.6, 0.0])


def test_an_item_without_words_is_near_nothing():
    items_ND = np.asarray([[1, 0], [0, 0], [0, 1], [-1, 0], [0, 0]], np.float32)
    assert ids(similar_items(["a"], shelf(items_ND), 5)) == ["c", "d"]
    assert ids(similar_items(["b"], shelf(items_ND), 5)) == []


def test_an_unknown_item_is_named():
    with pytest.raises(ItemNotFound) as caught:
        similar_items(["nope"], shelf(), 3)
    assert caught.value.metadata == {"item_id": "nope"}
