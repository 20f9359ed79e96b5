"""Where vectors are put together in the core, two spaces of one width are refused."""

from dataclasses import replace

import numpy as np
import pytest

from services.core.errors import SpaceMismatch
from services.core.ranker import neutral_ranker
from services.core.ranking import ItemStats
from services.core.recommend import Filters, recommend, shelf_of
from services.core.records import RankState
from services.core.spaces import require_space

OURS, OTHER = "toy_00000001", "toy_00000002"


def test_two_names_that_differ_are_refused_and_both_are_named():
    with pytest.raises(SpaceMismatch) as caught:
        require_space(OURS, OTHER)
    assert caught.value.metadata == {"expected_space_id": OURS, "actual_space_id": OTHER}
    assert OURS in caught.value.message
    assert OTHER in caught.value.message


@pytest.mark.parametrize(("expected", "actual"), [(OURS, OURS), ("", OTHER), (OURS, "")])
def test_one_name_or_no_claim_is_let_through(expected, actual):
    require_space(expected, actual)


def test_a_user_of_one_space_is_not_ranked_in_another():
    ranker = neutral_ranker((21.0, 84.0, 420.0), (7.0,), 2)
    stats = ItemStats(share_NW=np.ones((1, 1), np.float32), first_time_N=np.zeros(1))
    shelf = shelf_of(("tea",), (("food",),), np.array([[1, 0]], np.float32), stats, OURS)
    state = RankState(
        query_sums_HD=np.ones((3, 2), np.float32),
        query_weights_H=np.ones(3, np.float32),
        activity_H=np.ones(3, np.float32),
        repeat_item_ids=(),
        repeat_counts_RH=np.zeros((0, 3), np.float32),
        repeat_last_times_R=np.zeros(0, np.int64),
        state_time=0.0,
        space_id=OURS,
    )
    asked = {"now": 1.0, "k": 1, "filters": Filters()}
    assert len(recommend(state, shelf, ranker, **asked).row_K) == 1
    with pytest.raises(SpaceMismatch):
        recommend(replace(state, space_id=OTHER), shelf, ranker, **asked)
