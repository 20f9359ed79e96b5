"""Several interests beside one vector: by turns, and on planted users."""

import numpy as np

from services.core.dataset import dataset_from_frame
from services.core.pooling import PoolingConfig
from services.core.schema import Granularity
from services.evaluation.medoids import QUERIES, K, by_turns, medoids_report
from services.evaluation.protocol import make_split
from tests.planted import WordEncoder, planted_events


def test_lists_take_turns_by_their_shares_and_show_nothing_twice():
    lists = [np.asarray([1, 2, 3, 4]), np.asarray([5, 2, 6])]
    # Turns: .67, 2, 3.33, 4.67 and 2, 6, 10.
    assert by_turns(lists, np.asarray([0.75, 0.25])).tolist() == [1, 2, 5, 3, 4, 6]


def test_every_query_finds_most_of_what_planted_users_have_next():
    events = planted_events(users=20, weeks=12, items_per_topic=60)
    data = dataset_from_frame(events, Granularity.WEEK, PoolingConfig())
    items_ND = WordEncoder().encode(data.texts)
    found = medoids_report(data, make_split(data, 2, (1,)), items_ND, PoolingConfig())
    assert found["k"] == K
    # 50 of 240 items at random would find a fifth.
    assert all(found["all"][name]["recall_at_50"] > 0.4 for name in QUERIES)
    assert found["all"]["samples"] >= found["several"]["samples"] > 0
    assert all(0 < share <= 1 for share in found["coverage_at_50"].values())
