import numpy as np

from services.core.dataset import dataset_from_frame
from services.core.pooling import PoolingConfig
from services.core.schema import Granularity
from services.evaluation import scorers
from services.evaluation.leave_one_out import (
    leave_one_out_tables,
    leave_one_out_view,
    without_last,
)
from tests.evaluation.test_protocol import dataset, rows

EVENTS = rows(("a", "x", 0), ("a", "y", 9), ("b", "y", 3), ("b", "x", 20), ("c", "x", 50))


def test_the_last_event_of_each_user_with_more_than_one_is_asked():
    data = dataset(EVENTS)
    view = leave_one_out_view(data, user_limit=10, seed=0)
    assert view.users.tolist() == [0, 1]
    assert view.truth_UN[1].toarray().tolist() == [[0, 1], [1, 0], [0, 0]]
    assert view.had_UN.toarray().tolist() == [[1, 0], [0, 1], [1, 0]]
    assert view.past.event_count == 3


def test_training_sees_no_event_that_is_asked():
    left = without_last(EVENTS, dataset(EVENTS))
    assert sorted(left.select("user_id", "item_id").rows()) == [("a", "x"), ("b", "y"), ("c", "x")]
    again = dataset_from_frame(left, Granularity.WEEK, PoolingConfig())
    assert again.event_count == 3


def test_figures_by_hand():
    view = leave_one_out_view(dataset(EVENTS), user_limit=10, seed=0)
    # Popularity of the rest: x twice, y once. a wants y (second place), b wants x (first).
    tables = leave_one_out_tables(
        view, {"driftline": scorers.popularity(3650.0)}, np.random.default_rng(0)
    )
    assert tables["all"]["h1"]["driftline"]["mrr_at_10"] == 0.75
    assert tables["all"]["h1"]["driftline"]["samples"] == 2
