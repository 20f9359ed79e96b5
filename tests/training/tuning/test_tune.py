"""Every mode and objective on tiny models of random weights, in about a second each."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from services.core.errors import InvalidArgument
from services.core.heads import LabelHead, Projection, ValueHead
from services.store.backbone import load_backbone
from services.store.heads import load_head
from services.training.tuning.config import Mode, Objective
from services.training.tuning.tune import tune_backbone
from tests.training.tuning.tiny import (
    planted_signals,
    planted_texts,
    quick,
    tiny_decoder,
    tiny_encoder,
)

TEXTS, TOPIC_N = planted_texts()
SIGNALS = planted_signals(TOPIC_N)
ENCODER_RUNS = [
    (mode, objective)
    for mode in Mode
    for objective in Objective
    if objective is not Objective.CAUSAL
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return tiny_decoder(tmp_path_factory.mktemp("decoder"))


def tuned(out, base, mode, objective, pooling=None, **given):
    config = quick(mode, objective, **given)
    return tune_backbone(TEXTS, SIGNALS, config, out=out, backbone=base, pooling=pooling)


@pytest.mark.parametrize(("mode", "objective"), ENCODER_RUNS)
def test_each_mode_and_objective_improves_its_held_out_metric(encoder, tmp_path, mode, objective):
    steps = 100 if mode is Mode.HEAD or objective is Objective.MLM else 40
    # The first token's vector: of a random model it says little of the words, so there is room.
    result = tuned(tmp_path / "out", encoder, mode, objective, pooling="cls", steps=steps)
    assert result.own.is_better, result.own
    assert load_backbone(str(tmp_path / "out")).spec.pooling == "cls"
    said = json.loads((tmp_path / "out" / "tuning.json").read_text())
    assert said["metric"]["is_better"]
    assert said["base"]["weights_sha256"] == load_backbone(encoder).weights_sha256
    assert said["weights_sha256"] == load_backbone(str(tmp_path / "out")).weights_sha256
    assert said["figures"][result.metric] == said["metric"]


@pytest.mark.parametrize("mode", [Mode.LORA, Mode.FULL])
@pytest.mark.parametrize("objective", [Objective.CAUSAL, Objective.CONTRASTIVE])
def test_decoders_are_tuned_too(decoder, tmp_path, mode, objective):
    result = tuned(tmp_path / "out", decoder, mode, objective)
    assert result.own.is_better, result.own
    assert load_backbone(str(tmp_path / "out")).spec.pooling == "last"


def test_contrastive_tuning_beats_what_is_popular(encoder, tmp_path):
    result = tuned(tmp_path / "out", encoder, Mode.FULL, Objective.CONTRASTIVE)
    assert result.own.after.low > result.baseline["new_ndcg_at_10"] > 0


@pytest.mark.parametrize("objective", [o for o in Objective if o is not Objective.CAUSAL])
def test_head_mode_leaves_every_weight_as_it_was(encoder, tmp_path, objective):
    tuned(tmp_path / "out", encoder, Mode.HEAD, objective, steps=5)
    base, kept = load_backbone(encoder), load_backbone(str(tmp_path / "out"))
    assert kept.weights_sha256 == base.weights_sha256
    assert np.array_equal(kept.encode(TEXTS), base.encode(TEXTS))


def test_what_tuning_does_not_reach_stays_bit_for_bit(encoder, tmp_path):
    tuned(tmp_path / "out", encoder, Mode.LORA, Objective.CLASSIFICATION, steps=5)
    before = load_file(f"{encoder}/model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved
    assert not [name for name in moved if "pooler" in name or "embeddings" in name]


@pytest.mark.parametrize(
    ("mode", "objective"), [(Mode.LORA, Objective.CONTRASTIVE), (Mode.FULL, Objective.MLM)]
)
def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    encoder, tmp_path, mode, objective
):
    first, again, other = (
        tuned(tmp_path / str(at), encoder, mode, objective, steps=4, seed=seed)
        for at, seed in enumerate([0, 0, 1])
    )
    assert first.report["weights_sha256"] == again.report["weights_sha256"]
    assert first.report["curves"] == again.report["curves"]
    assert first.report["weights_sha256"] != other.report["weights_sha256"]


def test_heads_are_read_back_as_they_were_learned(encoder, tmp_path):
    tuned(tmp_path / "labels", encoder, Mode.HEAD, Objective.CLASSIFICATION)
    tuned(tmp_path / "values", encoder, Mode.HEAD, Objective.REGRESSION)
    tuned(tmp_path / "next", encoder, Mode.HEAD, Objective.CONTRASTIVE, steps=5)
    text_NB = load_backbone(encoder).encode(TEXTS)
    labels = load_head(tmp_path / "labels", LabelHead)
    assert labels.labels == tuple(f"topic {topic}" for topic in range(4))
    assert (labels.predict(text_NB) == TOPIC_N).mean() > 0.8
    values = load_head(tmp_path / "values", ValueHead).predict(text_NB)
    assert np.corrcoef(values, SIGNALS.value_N)[0, 1] > 0.8
    assert load_head(tmp_path / "next", Projection).vectors(text_NB).shape == (len(TEXTS), 32)
    assert load_head(tmp_path / "values", LabelHead) is None


def test_weights_are_those_of_the_best_look_not_of_the_last(encoder, tmp_path):
    # A rate that breaks the model: nothing after step 0 is better.
    result = tuned(
        tmp_path / "out", encoder, Mode.FULL, Objective.CLASSIFICATION, rate=3.0, steps=12
    )
    assert result.curves.best_step == 0
    assert result.curves.stop[-1][1] > result.curves.stop[0][1]
    same = load_backbone(str(tmp_path / "out")).encode(TEXTS)
    assert np.abs(same - load_backbone(encoder).encode(TEXTS)).max() < 1e-6
    assert result.own.change.mean == 0


def test_training_stops_early_where_looks_bring_no_gain(encoder, tmp_path):
    result = tuned(
        tmp_path / "out", encoder, Mode.FULL, Objective.CLASSIFICATION,
        rate=3.0, steps=40, checks=10, patience=2,
    )  # fmt: skip
    assert len(result.curves.loss) == 8


def test_objectives_say_what_they_do_to_retrieval(encoder, tmp_path):
    result = tuned(tmp_path / "out", encoder, Mode.FULL, Objective.CLASSIFICATION)
    assert result.retrieval.metric == "new_ndcg_at_10"
    # Topics are what users follow: learning them moves items of one taste together.
    assert result.retrieval.is_better


def test_an_objective_that_the_model_cannot_have_is_named(encoder, decoder, tmp_path):
    with pytest.raises(InvalidArgument, match="encoder: it continues no text"):
        tuned(tmp_path / "out", encoder, Mode.FULL, Objective.CAUSAL)
    with pytest.raises(InvalidArgument, match="decoder: it fills no gaps"):
        tuned(tmp_path / "out", decoder, Mode.FULL, Objective.MLM)
    with pytest.raises(InvalidArgument, match="choose lora or full"):
        tuned(tmp_path / "out", decoder, Mode.HEAD, Objective.CAUSAL)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_files_is_left_alone(encoder, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidArgument, match="holds other files"):
        tuned(tmp_path, encoder, Mode.HEAD, Objective.CLASSIFICATION)
    assert (tmp_path / "thesis.txt").exists()
    with pytest.raises(InvalidArgument, match="name another"):
        tuned(tmp_path / "thesis.txt" / "out", encoder, Mode.HEAD, Objective.CLASSIFICATION)


def test_a_tuned_folder_is_replaced_and_nothing_is_left_beside_it(encoder, tmp_path):
    out = tmp_path / "out"
    tuned(out, encoder, Mode.HEAD, Objective.CLASSIFICATION)
    tuned(out, encoder, Mode.HEAD, Objective.REGRESSION)
    assert load_head(out, LabelHead) is None
    assert load_head(out, ValueHead) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_tuning_on_gaps_is_measured_against_a_head_taught_as_long(encoder, tmp_path):
    # A backbone that cannot move: what the head learns meanwhile is no gain of tuning.
    result = tuned(tmp_path / "out", encoder, Mode.FULL, Objective.MLM, rate=1e-12)
    assert result.own.change.mean == pytest.approx(0, abs=0.01 * result.own.before.mean)
    assert result.own.before.mean < result.baseline["perplexity"]
