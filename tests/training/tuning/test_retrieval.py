import numpy as np
import pytest

from services.core.errors import InvalidArgument
from services.training.tuning.config import TuneConfig
from services.training.tuning.retrieval import (
    examples_at,
    popularity_outcome,
    retrieval_outcome,
    split_periods,
    users_asked,
)
from services.training.tuning.signals import Histories

# User 0 had text 0 in periods 0 and 2 and has 0 and 1 in period 3; user 1 had 2 and has 3;
# user 2 begins in period 3.
EVENTS = [(0, 0, 0), (0, 0, 2), (0, 0, 2), (1, 2, 2), (0, 0, 3), (0, 1, 3), (1, 3, 3), (2, 0, 3)]


def histories(events=EVENTS, last=3):
    user, text, period = np.array(events).T
    return Histories(user_ix_E=user, text_ix_E=text, period_E=period, last=last)


def test_a_period_counts_once_and_fades_by_half_in_a_half_life():
    examples = examples_at(histories(), 3, texts=4, half_life_periods=2.0)
    assert examples.history_UN.toarray() == pytest.approx(
        np.array([[1.5, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    )


def test_only_what_a_user_never_had_is_new_and_only_users_with_a_past_are_asked():
    examples = examples_at(histories(), 3, texts=4, half_life_periods=2.0)
    assert examples.new_UN.toarray().tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert users_asked(examples).tolist() == [0, 1]


def test_later_events_change_no_earlier_example():
    cut = histories([event for event in EVENTS if event[2] <= 2] + [(2, 0, 2)], last=2)
    whole = histories([*EVENTS, (2, 0, 2)])
    for period in (1, 2):
        early, late = (examples_at(h, period, 4, 2.0) for h in (cut, whole))
        assert (early.history_UN != late.history_UN).nnz == 0
        assert (early.new_UN != late.new_UN).nnz == 0
        assert np.array_equal(early.share_N, late.share_N)


def test_what_a_user_had_is_never_ranked():
    # Text 0 is nearest to itself; without it, text 1 is user 0's best. User 1's new text comes last
    # of the three that are left.
    text_NB = np.float32([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]])
    outcome = retrieval_outcome([examples_at(histories(), 3, 4, 2.0)], text_NB)
    assert outcome.rows == 2
    first, second = (outcome.figures(np.array([u]))["new_ndcg_at_10"] for u in (0, 1))
    assert first == pytest.approx(1.0)
    assert second == pytest.approx(1 / np.log2(4))
    assert outcome.values()["new_ndcg_at_10"] == pytest.approx((first + second) / 2)


def test_popularity_ranks_alike_for_all():
    examples = examples_at(histories(), 3, 4, 2.0)
    # Text 0 leads, then 2, then 1 and 3 in catalogue order: new for user 0 is 1, behind 2.
    found = popularity_outcome([examples])
    assert found.figures(np.array([0]))["new_ndcg_at_10"] == pytest.approx(1 / np.log2(3))
    assert found.figures(np.array([1]))["new_ndcg_at_10"] == pytest.approx(1 / np.log2(4))


def test_the_last_full_periods_are_held_out_and_those_before_stop_the_training():
    long = histories([(0, 0, period) for period in range(20)], last=18)
    config = TuneConfig(held_out_periods=3, stop_periods=2, origins=5)
    origins = split_periods(long, config)
    assert origins.held_out == (16, 17, 18)
    assert origins.stop == (14, 15)
    assert origins.train == (9, 10, 11, 12, 13)
    with pytest.raises(InvalidArgument, match="hold out fewer"):
        split_periods(long, TuneConfig(held_out_periods=17, stop_periods=2))
