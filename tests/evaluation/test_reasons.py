"""Reasons on planted data: true ones hold, and made-up ones are found out."""

import numpy as np
import pytest

from services.core.dataset import dataset_from_frame, instant
from services.core.pooling import PoolingConfig
from services.core.reasons import Citation
from services.core.schema import Granularity
from services.evaluation import reasons
from services.evaluation.protocol import make_split
from tests.evaluation.conftest import small_trainer
from tests.planted import WordEncoder, planted_events


@pytest.fixture(scope="module")
def asked():
    """What reasons_report takes: users who had some of the 40 items of their topic."""
    events = planted_events(users=30, weeks=14, items_per_topic=40)
    data = dataset_from_frame(events, Granularity.WEEK, PoolingConfig())
    split = make_split(data, 2, (1,))
    encoder = WordEncoder()
    model = small_trainer(
        events, encoder, granularity=Granularity.WEEK,
        until=instant(split.start(split.origins[0])), on_progress=lambda *of: None,
    )  # fmt: skip
    return data, split, model, model.tower.item_vectors(encoder.encode(data.texts), data.item_ids)


def test_taking_away_what_is_cited_lowers_the_score_more_than_taking_away_as_much_else(asked):
    lists = reasons.reasons_report(*asked, user_limit=12)["lists"]
    for name in reasons.LISTS:
        assert lists[name]["cases"] >= 50
        assert lists[name]["holds"] >= reasons.GOAL
        assert lists[name]["cited_drop_mean"] > lists[name]["random_drop_mean"]


def test_reasons_that_are_made_up_do_not_hold(asked, monkeypatch):
    rng = np.random.default_rng(5)

    def any_item(states, row_K, stats, items_ND, ranker, now):
        rows = [int(rng.choice(states.repeat_item_ix_R)) for _ in row_K]
        return tuple((Citation(row=row, effect=1.0, week_count=1.0, last_time=0),) for row in rows)

    monkeypatch.setattr(reasons, "cite", any_item)
    lists = reasons.reasons_report(*asked, user_limit=12)["lists"]
    assert all(0.3 < lists[name]["holds"] < 0.7 for name in reasons.LISTS)
