from dataclasses import replace
from datetime import timedelta

import pytest

from services.training.checkpoints import Checkpoints
from services.training.choose_epochs import choose_epochs, ranking_quality
from services.training.fit_ranker import train_ranker
from services.training.train import TrainConfig, train
from tests.planted import START, WordEncoder, planted_events
from tests.training.origins import POOLING, SMALL, origins_of, planted


def test_the_passes_that_rank_held_origins_best_are_chosen():
    data, text = planted(users=40, weeks=14)
    config = replace(SMALL, epochs=0, epoch_choices=(1, 8), batch_users=16)
    epochs, qualities = choose_epochs(
        origins_of(data, 8), text, data.item_ids, POOLING.half_lives_days, config
    )
    assert qualities[1] == 2.0
    # Planted topics take more than one pass to learn.
    assert epochs == 8
    assert qualities[8] > qualities[1]


def test_choices_after_a_worse_one_are_not_tried():
    data, text = planted(users=20, weeks=14)
    config = replace(
        SMALL, epochs=0, epoch_choices=(4, 5, 6), scalar_rate=0.0, matrix_rate=0.0, query_hidden=1
    )
    epochs, qualities = choose_epochs(
        origins_of(data, 8), text, data.item_ids, POOLING.half_lives_days, config
    )
    # Nothing is learned: more of it is never better, and a worse one is the last that is tried.
    assert epochs == 4
    assert max(qualities.values()) == 2.0


def test_a_killed_choice_goes_on_with_the_trial_it_was_in(tmp_path):
    data, text = planted(users=20, weeks=14)
    origins, kept = origins_of(data, 8), Checkpoints(folder=tmp_path, every_s=0.0)
    config = replace(SMALL, epochs=0, epoch_choices=(1, 4))
    steps: list[tuple[str, int]] = []

    def choose(checkpoints, killed_at=("never", 0)):
        def note(stage, done, total):
            steps.append((stage, done))
            if (stage, done) == killed_at:
                raise KeyboardInterrupt

        return choose_epochs(
            origins, text, data.item_ids, POOLING.half_lives_days, config, note, checkpoints=checkpoints
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        choose(kept, killed_at=("try 4 epochs", 3))
    steps.clear()
    resumed = choose(kept)
    assert steps[0] == ("try 4 epochs", 4)
    assert resumed == choose(None)


def test_too_few_origins_to_judge_leave_the_first_choice():
    data, text = planted(weeks=6)
    config = replace(SMALL, epochs=0, epoch_choices=(2, 8))
    assert choose_epochs(
        origins_of(data, 3), text, data.item_ids, POOLING.half_lives_days, config
    ) == (2, {})


def test_quality_counts_all_items_and_new_ones():
    data, text = planted(users=20, weeks=10)
    origins = origins_of(data, 3)
    fitted = train_ranker(origins[:2], text, data.item_ids, POOLING.half_lives_days, SMALL)
    every, new = ranking_quality(
        fitted, origins[2:], text, data.item_ids, POOLING.half_lives_days, SMALL
    )
    assert 0.0 < new < 1.0
    assert 0.0 < every <= 1.0


def test_the_card_says_which_passes_were_chosen():
    ranker = replace(SMALL, epochs=0, epoch_choices=(1, 3), origins=8)
    config = TrainConfig(ranker=ranker, forecast_granularities=())
    until = START + timedelta(weeks=12)
    model = train(planted_events(), None, WordEncoder(), config, until=until)
    chosen = model.card.config["ranker"]["epochs"]
    assert chosen in (1, 3)
    assert chosen == len(model.curves["ranker"])
    qualities = dict(model.curves["ranker quality by epochs"])
    assert qualities[chosen] == max(qualities.values())
