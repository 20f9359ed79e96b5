from dataclasses import replace

from services.training.choose_epochs import choose_epochs, ranking_quality
from services.training.fit_ranker import train_ranker
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
