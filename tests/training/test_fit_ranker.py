from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from services.core.errors import InvalidArgument
from services.training.batches import make_batch
from services.training.checkpoints import Checkpoints
from services.training.examples import make_origin
from services.training.fit_ranker import Learned, train_ranker
from services.training.loss import loss_of
from services.training.ranker import RankerConfig, RankerModule
from tests.training.origins import POOLING, SMALL, WINDOWS, origins_of, planted, served_scores


def test_a_tiny_model_overfits_eight_users():
    data, text = planted(users=8, weeks=6, per_week=2, items_per_topic=8)
    config = RankerConfig(
        width=24, epochs=150, origins=1, popularity_half_lives_days=WINDOWS, matrix_rate=2e-2,
        weight_decay=0.0,
    )  # fmt: skip
    origin = origins_of(data, 1)
    fitted = train_ranker(origin, text, data.item_ids, POOLING.half_lives_days, config)
    scores = served_scores(
        data,
        fitted.tower.item_vectors(text, data.item_ids),
        fitted.ranker,
        int(data.period_E.max()),
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
        data.item_ids,
        POOLING.half_lives_days,
        SMALL,
    )
    scores = served_scores(
        data, fitted.tower.item_vectors(text, data.item_ids), fitted.ranker, last
    )
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
        train_ranker(origins_of(data, 2), text, data.item_ids, POOLING.half_lives_days, SMALL)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.tower.projection_BD, again.tower.projection_BD)
    np.testing.assert_array_equal(first.ranker.query_HDD, again.ranker.query_HDD)


def weights(fitted):
    return {
        "projection": fitted.tower.projection_BD,
        **{
            name: np.asarray(value)
            for name, value in asdict(fitted.ranker).items()
            if not isinstance(value, tuple)
        },
    }


def assert_same(a, b):
    for (name, left), right in zip(weights(a).items(), weights(b).values(), strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


def test_validation_origins_are_scored_but_not_learned_from():
    data, text = planted(weeks=8)
    *learned, held = origins_of(data, 3)
    alone, watched = (
        train_ranker(learned, text, data.item_ids, POOLING.half_lives_days, SMALL, validation=part)
        for part in ((), (held,))
    )
    assert_same(alone, watched)
    assert "ranker validation" not in alone.curves
    module = RankerModule(SMALL, POOLING.half_lives_days, watched.tower, data.item_ids).eval()
    module.load(watched.tower, watched.ranker)
    everyone = make_batch(held, np.flatnonzero(np.diff(held.truth_ptr)), SMALL.user_power)
    with torch.no_grad():
        loss = float(loss_of(module, everyone, torch.from_numpy(text)))
    assert watched.curves["ranker validation"][-1] == (SMALL.epochs, pytest.approx(loss, abs=1e-4))


class Killed(Exception):
    pass


@pytest.mark.parametrize("step", [1, 5, 8, 11])
def test_a_training_taken_up_again_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path, step):
    data, text = planted(weeks=8)
    *origins, held = origins_of(data, 3)

    def train(checkpoints=None, on_progress=lambda stage, done, total: None):
        return train_ranker(
            origins, text, data.item_ids, POOLING.half_lives_days, SMALL, on_progress,
            validation=(held,), checkpoints=checkpoints,
        )  # fmt: skip

    def die(stage, done, total):
        assert total == 12
        if done == step:
            raise Killed

    kept = Checkpoints(folder=tmp_path, every_s=0.0)
    with pytest.raises(Killed):
        train(kept, die)
    steps = []
    resumed = train(kept, lambda stage, done, total: steps.append(done))
    assert steps == list(range(step + 1, 13))
    whole = train()
    assert_same(resumed, whole)
    assert resumed.curves == whole.curves
    # Once done, nothing is left to do.
    steps.clear()
    assert_same(train(kept, lambda stage, done, total: steps.append(done)), whole)
    assert steps == []


def test_going_on_from_learned_weights_leaves_the_tower_as_it_is():
    data, text = planted(weeks=10)
    first = train_ranker(origins_of(data, 3, last=int(data.period_E.max()) - 3), text, data.item_ids,
                         POOLING.half_lives_days, SMALL)  # fmt: skip
    learned = Learned(tower=first.tower, ranker=first.ranker)
    config = replace(SMALL, epochs=2, matrix_rate=1e-3, scalar_rate=1e-3)
    again = train_ranker(
        origins_of(data, 3), text, data.item_ids, POOLING.half_lives_days, config, learned=learned
    )
    assert again.tower is first.tower
    assert not np.array_equal(again.ranker.query_HDD, first.ranker.query_HDD)
    # It starts where the first ended, not from nothing.
    assert again.first_loss < first.first_loss


def test_origins_without_any_truth_say_what_to_do():
    data, text = planted(weeks=4)
    nothing = [make_origin(data, int(data.period_E.max()) + 3, POOLING, WINDOWS)]
    with pytest.raises(InvalidArgument, match="import more"):
        train_ranker(nothing, text, data.item_ids, POOLING.half_lives_days, SMALL)
