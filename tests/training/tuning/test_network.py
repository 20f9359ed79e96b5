import numpy as np
import pytest
import torch

from services.store.backbone import load_backbone
from services.training.tuning.config import Mode, Objective
from services.training.tuning.network import Network
from tests.training.tuning.tiny import planted_texts, quick, tiny_decoder, tiny_encoder

TEXTS, _ = planted_texts(12)


@pytest.fixture(scope="module", params=[tiny_encoder, tiny_decoder])
def base(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("base"))


def opened(base, mode, objective=Objective.CONTRASTIVE):
    network = Network(TEXTS, quick(mode, objective), backbone=base)
    return network, network.let_move(mode)


def test_vectors_are_those_that_serving_makes(base):
    network, _ = opened(base, Mode.FULL)
    served = load_backbone(base).encode(TEXTS)
    assert np.abs(network.vectors(np.arange(12)).detach().numpy() - served).max() < 1e-5
    assert np.abs(network.fixed_vectors() - served).max() < 1e-5


def test_a_merged_folder_encodes_as_the_model_with_adapters_did(base, tmp_path):
    network, moving = opened(base, Mode.LORA)
    untouched = network.fixed_vectors().copy()
    with torch.no_grad():
        for parameter in moving:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    network.weights_moved()
    adapted = network.fixed_vectors()
    assert np.abs(adapted - untouched).max() > 0.05
    network.save(tmp_path)
    assert np.abs(load_backbone(str(tmp_path)).encode(TEXTS) - adapted).max() < 1e-5


@pytest.mark.parametrize(("mode", "share"), [(Mode.HEAD, 0.0), (Mode.LORA, 0.5), (Mode.FULL, 1.0)])
def test_a_mode_moves_its_share_of_the_weights(base, mode, share):
    network, moving = opened(base, mode)
    moved = sum(parameter.numel() for parameter in moving)
    every = sum(p.numel() for n, p in network.backbone.named_parameters() if "lora" not in n)
    assert moved == share * every if share in (0.0, 1.0) else 0 < moved < share * every


def test_gradients_reach_what_moves_and_nothing_else(base):
    network, moving = opened(base, Mode.LORA)
    network.vectors(np.array([0, 1])).sum().backward()
    assert any(parameter.grad is not None for parameter in moving)
    still = [p for p in network.backbone.parameters() if not p.requires_grad]
    assert still
    assert all(parameter.grad is None for parameter in still)


@pytest.mark.xdist_group("smollm2")
def test_a_decoder_of_a_gguf_file_is_saved_whole(smollm2_cut, tmp_path):
    network, moving = opened(str(smollm2_cut), Mode.LORA, Objective.CAUSAL)
    untouched = network.encode(["red tea", "oat milk"])
    with torch.no_grad():
        for parameter in moving:
            parameter.add_(0.1)
    network.weights_moved()
    adapted = network.encode(["red tea", "oat milk"])
    network.save(tmp_path / "tuned")
    tuned = load_backbone(str(tmp_path / "tuned"))
    assert np.abs(tuned.encode(["red tea", "oat milk"]) - adapted).max() < 1e-5
    assert np.abs(untouched - adapted).max() > 0.01
