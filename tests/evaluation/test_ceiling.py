import numpy as np
import pytest

from services.core.dataset import dataset_from_frame
from services.core.pooling import PoolingConfig
from services.core.schema import Granularity
from services.evaluation.ceiling import forecast_ceiling
from services.evaluation.protocol import make_split
from tests.planted import WordEncoder, planted_events


@pytest.fixture(scope="module")
def planted():
    events = planted_events(users=40, weeks=20, per_week=8)
    data = dataset_from_frame(events, Granularity.WEEK, PoolingConfig())
    return data, make_split(data, 8, (1,)), WordEncoder().encode(data.texts)


def ceiling(planted, items_ND, seed=0):
    data, split, _ = planted
    return forecast_ceiling(data, split, PoolingConfig(), items_ND, seed=seed)


def test_where_a_topic_is_all_there_is_halves_agree_fully(planted):
    data, _, _ = planted
    topics = sorted({item.partition("-")[0] for item in data.item_ids})
    row = [topics.index(item.partition("-")[0]) for item in data.item_ids]
    found = ceiling(planted, np.eye(4, dtype=np.float32)[row])
    assert found["period"] == pytest.approx(1.0, abs=1e-6)
    assert found["mean4"] == pytest.approx(1.0, abs=1e-6)


def test_where_items_have_nothing_in_common_halves_do_not_agree(planted):
    data, _, _ = planted
    rng = np.random.default_rng(0)
    items_ND = rng.normal(size=(data.item_count, 200)).astype(np.float32)
    items_ND /= np.linalg.norm(items_ND, axis=1, keepdims=True)
    # Users of one topic still share its twelve items, so that some agreement is left.
    assert ceiling(planted, items_ND)["period"] < 0.75


def test_a_mean_of_periods_is_more_reliable_than_one(planted):
    found = ceiling(planted, planted[2])
    assert 0.5 < found["period"] < found["mean4"] < 1.0


def test_the_halves_are_drawn_by_seed(planted):
    again, other = ceiling(planted, planted[2]), ceiling(planted, planted[2], seed=1)
    assert again == ceiling(planted, planted[2])
    assert again["period"] == pytest.approx(other["period"], abs=0.05)
    assert again != other
