import numpy as np
import pytest
import torch

from services.core.dataset import dataset_from_frame, period_start
from services.core.errors import InvalidArgument
from services.core.pooling import PoolingConfig, pool_rank_states
from services.core.ranking import popularity_shares, score_items
from services.core.schema import Granularity
from services.training.examples import make_origin, rows_between
from services.training.ranker import (
    RankerConfig,
    RankerModule,
    make_batch,
    start_tower,
    train_ranker,
)
from tests.planted import WordEncoder, planted_events

POOLING = PoolingConfig()
WINDOWS = (7.0, 28.0)
SMALL = RankerConfig(width=8, epochs=6, origins=4, popularity_half_lives_days=WINDOWS)


def planted(**kwargs):
    data = dataset_from_frame(planted_events(**kwargs), Granularity.WEEK, POOLING)
    return data, WordEncoder().encode(data.texts)


def origins_of(data, count, last=None):
    last = int(data.period_E.max()) if last is None else last
    return [make_origin(data, p, POOLING, WINDOWS) for p in range(last - count + 1, last + 1)]


def served_scores(data, items_ND, ranker, period):
    now = period_start(data.granularity, period)
    past = data.before(now)
    states = pool_rank_states(
        past.user_ix_E, past.time_E, past.item_ix_E, past.item_ix_E, past.weight_E, items_ND,
        data.user_count, POOLING,
    )  # fmt: skip
    stats = popularity_shares(past.item_ix_E, past.time_E, now, data.item_count, WINDOWS)
    return score_items(states, stats, items_ND, ranker, now).score_UN


def random_module(data, text):
    torch.manual_seed(0)
    module = RankerModule(SMALL, POOLING.half_lives_days, start_tower(text, 8))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return module


def test_the_trained_formula_is_the_served_one():
    data, text = planted()
    module = random_module(data, text)
    period = int(data.period_E.max())
    tower, ranker = module.export()
    served = served_scores(data, tower.item_vectors(text), ranker, period)
    origin = make_origin(data, period, POOLING, WINDOWS)
    users = np.array([0, 3, 4, 17])
    with torch.no_grad():
        trained = module(make_batch(origin, users), module.items(torch.from_numpy(text)))
    np.testing.assert_allclose(trained.numpy(), served[users], atol=1e-4)
    assert np.ptp(served) > 1.0


def test_an_origin_knows_nothing_of_its_own_period_but_the_truth():
    data, _ = planted()
    period = int(data.period_E.max()) - 2
    cut = data.where(data.period_E < period)
    full, blind = (make_origin(d, period, POOLING, WINDOWS) for d in (data, cut))
    for name in ("weights_UH", "activity_UH", "share_NW", "repeat_counts_RH", "repeat_age_days_R"):
        np.testing.assert_array_equal(getattr(full, name), getattr(blind, name))
    for a, b in zip(full.histories_H, blind.histories_H, strict=True):
        assert (a != b).nnz == 0
    assert len(full.truth_item_ix_T) > 0
    assert len(blind.truth_item_ix_T) == 0
    truth = data.where((data.period_E == period) & (data.user_ix_E == 5)).item_ix_E
    assert full.truth_item_ix_T[full.truth_ptr[5] : full.truth_ptr[6]].tolist() == sorted(
        set(truth)
    )


def test_a_tiny_model_overfits_eight_users():
    data, text = planted(users=8, weeks=6, per_week=2, items_per_topic=8)
    config = RankerConfig(
        width=24, epochs=150, origins=1, popularity_half_lives_days=WINDOWS, matrix_rate=2e-2,
        weight_decay=0.0,
    )  # fmt: skip
    origin = origins_of(data, 1)
    fitted = train_ranker(origin, text, POOLING.half_lives_days, config)
    scores = served_scores(
        data, fitted.tower.item_vectors(text), fitted.ranker, int(data.period_E.max())
    )
    top = np.argsort(-scores, axis=1, kind="stable")
    hits = truths = 0
    for u in range(8):
        truth = set(origin[0].truth_item_ix_T[origin[0].truth_ptr[u] : origin[0].truth_ptr[u + 1]])
        hits += len(truth & set(top[u, : len(truth)]))
        truths += len(truth)
    assert hits / truths >= 0.9
    assert fitted.last_loss < 0.3 * fitted.first_loss


def test_it_beats_popularity_on_planted_topics():
    data, text = planted(users=40)
    last = int(data.period_E.max())
    fitted = train_ranker(
        origins_of(data.where(data.period_E < last), 4, last - 1),
        text,
        POOLING.half_lives_days,
        SMALL,
    )
    scores = served_scores(data, fitted.tower.item_vectors(text), fitted.ranker, last)
    past = data.where(data.period_E < last)
    popular = np.bincount(past.item_ix_E, minlength=data.item_count)
    truth = np.zeros(scores.shape, bool)
    future = data.where(data.period_E == last)
    truth[future.user_ix_E, future.item_ix_E] = True

    def recall(score_UN):
        top = np.argsort(-score_UN, axis=1, kind="stable")[:, :10]
        return np.take_along_axis(truth, top, axis=1).sum() / truth.sum()

    # Twelve items a topic, ten shown: a user's own topic holds nearly all.
    assert recall(scores) > 0.75
    assert recall(scores) > recall(np.tile(popular, (40, 1))) + 0.2


def test_training_again_gives_the_same_model():
    data, text = planted(weeks=8)
    first, again = (
        train_ranker(origins_of(data, 2), text, POOLING.half_lives_days, SMALL) for _ in range(2)
    )
    np.testing.assert_array_equal(first.tower.projection_BD, again.tower.projection_BD)
    np.testing.assert_array_equal(first.ranker.query_HDD, again.ranker.query_HDD)


def test_origins_without_any_truth_say_what_to_do():
    data, text = planted(weeks=4)
    nothing = [make_origin(data, int(data.period_E.max()) + 3, POOLING, WINDOWS)]
    with pytest.raises(InvalidArgument, match="import more"):
        train_ranker(nothing, text, POOLING.half_lives_days, SMALL)


def test_rows_of_some_users_stand_together():
    rows, owner = rows_between(np.array([0, 2, 2, 5]), np.array([2, 0, 1]))
    assert rows.tolist() == [2, 3, 4, 0, 1]
    assert owner.tolist() == [0, 0, 0, 1, 1]
