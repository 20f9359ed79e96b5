"""How a text model is fed. What only a GPU can show is tried where there is one."""

import shutil

import numpy as np
import pytest
import torch

from services.store.backbone import Backbone, load_backbone
from services.store.feed import Feed, feed_of
from tests.training.tuning.tiny import FILLER, WORDS, tiny_encoder

TEXTS = [" ".join((WORDS[n % 4] + FILLER)[: n % 14]) for n in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def plain(folder):
    return load_backbone(folder)


def fed(plain, **limits):
    """Return the same weights, fed otherwise."""
    feed = Feed(**{"device": "cpu", "rows": 32, "tokens": 1024} | limits)
    return Backbone(plain.spec, plain._tokenizer, plain._model, feed)


@pytest.mark.parametrize("limits", [{"rows": 1}, {"rows": 3}, {"tokens": 20}, {"tokens": 1}])
def test_how_much_goes_at_once_changes_no_vector(plain, limits):
    assert np.abs(fed(plain, **limits).encode(TEXTS) - plain.encode(TEXTS)).max() < 1e-5


class Tardy(Feed):
    """A device that has a result ready only when it is waited for, and tells what was done when."""

    def fetch(self, made_NB):
        TOLD.append("given")

        def wait():
            TOLD.append("waited")
            return made_NB.numpy()

        return wait


TOLD: list[str] = []


def test_the_next_pass_is_given_to_the_device_before_the_last_one_is_waited_for(plain):
    TOLD.clear()
    tardy = Backbone(
        plain.spec, plain._tokenizer, plain._model, Tardy(device="cpu", rows=16, tokens=1024)
    )
    distinct = sorted(set(TEXTS))
    made = tardy.encode(distinct)
    assert len(distinct) > 16
    assert TOLD[:3] == ["given", "given", "waited"]
    assert TOLD.count("waited") == TOLD.count("given")
    assert np.abs(made - plain.encode(distinct)).max() < 1e-5


def test_a_gpu_is_given_more_at_once_than_the_caches_of_a_cpu_hold():
    cpu, gpu = feed_of("cpu"), feed_of("cuda:0")
    assert gpu.rows > cpu.rows
    assert gpu.tokens > cpu.tokens


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: pinned copies need one")
def test_on_a_gpu_in_bf16_vectors_are_those_of_float32(folder, plain):
    half = load_backbone(folder, device="cuda", is_bf16=True).encode(TEXTS)
    assert (half * plain.encode(TEXTS)).sum(axis=1).min() > 0.999


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler: torch.compile needs one")
def test_compiled_code_gives_the_same_vectors_of_any_length(folder, plain):
    compiled = load_backbone(folder, is_compiled=True)
    for texts in (TEXTS, TEXTS[:3], TEXTS[5:6]):
        assert np.abs(compiled.encode(texts) - plain.encode(texts)).max() < 1e-4
