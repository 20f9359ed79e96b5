from datetime import timedelta

import numpy as np
import pytest

from services.core.schema import Granularity
from services.training.evaluated import EvaluatedTrainer, FrozenTrainer, variants
from tests.planted import START, WordEncoder, planted_events


def test_further_seeds_and_the_ablation_are_named_for_what_they_are():
    assert variants(seeds=1, is_ablated=False) == {}
    found = variants(seeds=3, is_ablated=True)
    assert list(found) == ["driftline_seed_1", "driftline_seed_2", "driftline_without_vector"]
    assert found["driftline_seed_2"].seed == 2
    assert not found["driftline_without_vector"].has_interest
    # They are compared by their rankings alone.
    assert not any(trainer.has_forecasters for trainer in found.values())


@pytest.fixture(scope="module")
def without_vector():
    trainer = EvaluatedTrainer(has_interest=False, has_forecasters=False)
    return trainer(
        planted_events(users=8, weeks=9), WordEncoder(),
        granularity=Granularity.WEEK, until=START + timedelta(weeks=8),
        on_progress=lambda stage, done, total: None,
    )  # fmt: skip


def test_a_model_without_the_vector_asks_for_nothing_of_it(without_vector):
    ranker = without_vector.ranker
    for name in ("query_HDD", "query_bias_D", "query_out_KD"):
        assert not np.any(getattr(ranker, name))
    assert np.any(ranker.repeat_item_DH)


def test_a_model_without_forecasters_has_none_and_saw_nothing_late(without_vector):
    assert without_vector.forecasters == {}
    assert without_vector.trained_until == START + timedelta(weeks=8)


def test_the_frozen_space_is_the_texts_own_and_is_foretold_without_nets():
    encoder, until = WordEncoder(), START + timedelta(weeks=24)
    model = FrozenTrainer()(
        planted_events(users=40, weeks=26), encoder,
        granularity=Granularity.WEEK, until=until, on_progress=lambda stage, done, total: None,
    )  # fmt: skip
    text_NV = encoder.encode(["jazz vinyl", "garden rake"])
    np.testing.assert_allclose(
        model.tower.item_vectors(text_NV, ("a", "b")), text_NV, rtol=0, atol=1e-6
    )
    spec = model.forecasters[Granularity.WEEK]
    assert len(spec.arrays["centre_D"]) == encoder.spec.width
    assert not {"gru", "lstm", "arima", "ets"} & set(spec.config["members"])
    assert model.trained_until == until
