"""A candidate beside the live model on planted data: what is worse is proven worse."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from services.core.pooling import PoolingConfig
from services.core.ranker import neutral_ranker
from services.core.tower import ItemTower, space_id_of
from services.evaluation.paired import compare_models
from tests.encoder.world import model
from tests.planted import START, WordEncoder, planted_events

WEEKS = 16
WIDTH = WordEncoder.spec.width


@pytest.fixture(scope="module")
def events():
    return planted_events(users=60, weeks=WEEKS)


@pytest.fixture(scope="module")
def good():
    """Ranks by the interest vector in the texts' own space: right, for users keep to their topic."""
    tower = ItemTower(
        mean_B=np.zeros(WIDTH, np.float32), projection_BD=np.eye(WIDTH, dtype=np.float32)
    )
    ranker = neutral_ranker((21.0, 84.0, 420.0), (7.0, 28.0), WIDTH)
    eye = np.stack([np.eye(WIDTH, dtype=np.float32)] * 3)
    return model(
        "good",
        backbone=WordEncoder.spec,
        tower=tower,
        space_id=space_id_of(WordEncoder.spec, tower),
        pooling=PoolingConfig(),
        ranker=replace(ranker, query_HDD=8 * eye),
        trained_until=START + timedelta(weeks=WEEKS - 4),
    )


def compare(events, candidate, live, **given):
    texts = events.select("item_id", "text").unique("item_id").sort("item_id")
    return compare_models(events, texts, candidate, live, lambda spec: WordEncoder(), **given)


def against(good, version="bad"):
    """A model that looks away from the interest vector."""
    ranker = replace(good.ranker, query_HDD=-good.ranker.query_HDD)
    return replace(good, model_version=version, ranker=ranker)


def test_a_model_that_looks_away_is_proven_worse_and_the_other_way_better(events, good):
    found = compare(events, against(good), good)
    assert found.against == "good"
    assert found.gain_low <= found.gain <= found.gain_high < 0
    assert found.gain == pytest.approx(found.candidate - found.live)
    assert found.users > 50
    assert (found.figure, found.split) == ("ndcg_at_10", "week 2026-W14 to 2026-W17, 1 ahead")
    other = compare(events, good, against(good))
    assert other.gain_low > 0
    assert other.data_sha256 == found.data_sha256


def test_the_same_weights_are_neither_and_a_seed_repeats(events, good):
    twin = replace(good, model_version="twin")
    found = compare(events, twin, good, user_limit=20, seed=3)
    assert (found.gain_low, found.gain, found.gain_high) == (0.0, 0.0, 0.0)
    assert compare(events, twin, good, user_limit=20, seed=3) == found


def test_who_learned_from_the_answers_is_named(events, good):
    late = replace(good, model_version="late", trained_until=START + timedelta(weeks=WEEKS))
    assert compare(events, late, good).saw_the_answers == ("late",)
    assert compare(events, good, late).saw_the_answers == ("late",)
    assert compare(events, against(good), good).saw_the_answers == ()
