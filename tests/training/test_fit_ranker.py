import numpy as np
import pytest

from services.core.errors import InvalidArgument
from services.training.examples import make_origin
from services.training.fit_ranker import train_ranker
from services.training.ranker import RankerConfig
from tests.training.origins import POOLING, SMALL, WINDOWS, origins_of, planted, served_scores


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
