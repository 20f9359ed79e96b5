"""The real MiniLM from PyPI, on a CPU."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from services.core.errors import DependencyUnavailable, InvalidArgument
from services.store import backbone as module
from services.store.backbone import Backbone, load_backbone, load_spec, pool_tokens
from services.store.backbone_files import DEFAULT_NAME, DEFAULT_SHA256, find_files, weights_sha256

LONG = "a long description of roasted coffee beans from the highlands " * 12


@pytest.fixture(scope="module")
def minilm() -> Backbone:
    return load_backbone()


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_the_default_has_the_weights_its_authors_published(minilm: Backbone):
    assert (minilm.name, minilm.weights_sha256, minilm.width) == (DEFAULT_NAME, DEFAULT_SHA256, 384)


def test_a_text_gets_the_same_vector_alone_and_beside_a_long_one(minilm: Backbone):
    alone = minilm.encode(["red wine"])[0]
    beside = minilm.encode([LONG, "red wine", "oat milk"])[1]
    assert np.abs(alone - beside).max() < 1e-5


def test_rows_are_unit_norm_and_in_the_order_asked(minilm: Backbone):
    texts = ["tea", LONG, "coffee", "tea"]
    rows = minilm.encode(texts)
    assert rows.shape == (4, 384)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.array_equal(rows[0], rows[3])
    assert np.abs(rows[1] - minilm.encode([LONG])[0]).max() < 1e-5


def test_equals_the_mean_over_the_mask_by_hand(minilm: Backbone):
    from transformers import AutoModel, AutoTokenizer

    folder = find_files().folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    batch = tokenizer(["dark chocolate", LONG], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state.numpy()
    mask = batch["attention_mask"].numpy()
    for row, text in enumerate(["dark chocolate", LONG]):
        mean = hidden[row, mask[row] == 1].mean(axis=0)
        assert np.abs(minilm.encode([text])[0] - mean / np.linalg.norm(mean)).max() < 1e-5


def test_like_texts_are_nearer_than_unlike_ones(minilm: Backbone):
    red, white, socks = minilm.encode(["red wine", "white wine", "wool socks"])
    assert red @ white > red @ socks + 0.2


def test_all_blank_texts_get_one_finite_unit_vector(minilm: Backbone):
    empty, blank, word = minilm.encode(["", "  \n", "tea"])
    assert np.array_equal(empty, blank)
    assert np.linalg.norm(empty) == pytest.approx(1, abs=1e-5)
    assert cosine(empty, word) < 0.99


def test_no_texts_give_no_rows(minilm: Backbone):
    assert minilm.encode([]).shape == (0, 384)


def test_each_distinct_text_is_encoded_once_and_progress_ends_at_their_number(minilm: Backbone):
    seen = []
    minilm.encode(
        ["tea", "milk"] * 50 + [f"item {i}" for i in range(98)], lambda *at: seen.append(at)
    )
    done = [at for at, _ in seen]
    assert done == sorted(set(done))
    assert len(seen) > 1
    assert seen[-1] == (100, 100)
    assert {total for _, total in seen} == {100}


def test_batches_hold_like_lengths_within_both_limits():
    lengths = [3, 250, 5] * 60
    batches = list(module.length_batches(lengths, 16, 2000))
    assert sorted(row for batch in batches for row in batch) == list(range(180))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) <= 16
        assert longest * len(batch) <= 2000
    assert max(map(len, batches)) == 16


def test_a_text_longer_than_the_budget_is_a_pass_of_its_own():
    assert list(module.length_batches([5, 9, 9, 1], 64, 8)) == [[1], [2], [0], [3]]


@pytest.mark.parametrize(
    ("pooling", "expected"), [("mean", [2.0, 3.0]), ("cls", [1.0, 2.0]), ("last", [3.0, 4.0])]
)
def test_padding_changes_nothing_in_any_pooling(pooling, expected):
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool_tokens(hidden, mask, pooling)[0].tolist() == expected


def test_bf16_stays_within_cosine_999(minilm: Backbone):
    texts = ["red wine", LONG, "wool socks", ""]
    half = load_backbone(is_bf16=True).encode(texts)
    assert half.dtype == np.float32
    assert all(cosine(a, b) > 0.999 for a, b in zip(half, minilm.encode(texts), strict=True))


def test_int8_stays_within_cosine_99_and_a_text_keeps_its_vector_beside_others(minilm: Backbone):
    texts = ["red wine", LONG, "wool socks", "frozen peas", "a 12oz can of cola"]
    small = load_backbone(is_int8=True)
    rows = small.encode(texts)
    assert rows.dtype == np.float32
    assert all(cosine(a, b) > 0.99 for a, b in zip(rows, minilm.encode(texts), strict=True))
    assert not np.allclose(rows, minilm.encode(texts), atol=1e-3)
    assert np.abs(small.encode(["red wine"])[0] - rows[0]).max() < 1e-3
    assert load_spec(small.spec).spec == small.spec != minilm.spec


def test_int8_is_for_a_cpu():
    with pytest.raises(InvalidArgument, match="use bf16"):
        load_backbone(is_int8=True, device="cuda")


def test_the_spec_of_a_backbone_loads_it_again(minilm: Backbone):
    assert load_spec(minilm.spec).spec == minilm.spec


def test_other_weights_than_a_model_was_trained_on_are_refused():
    with pytest.raises(InvalidArgument, match="train again"):
        load_backbone(expected_sha256="0" * 64)


def test_a_folder_of_pickled_weights_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InvalidArgument, match="pickled"):
        load_backbone(str(tmp_path))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="no folder"):
        load_backbone(str(tmp_path / "absent"))


def test_a_hub_model_that_cannot_be_had_says_so(monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DependencyUnavailable, match="hub"):
        load_backbone("nobody-xyz/no-such-model")


def test_the_hash_of_shards_depends_on_each(tmp_path: Path):
    (tmp_path / "model-1-of-2.safetensors").write_bytes(b"a")
    (tmp_path / "model-2-of-2.safetensors").write_bytes(b"b")
    before = weights_sha256(tmp_path)
    (tmp_path / "model-2-of-2.safetensors").write_bytes(b"c")
    assert weights_sha256(tmp_path) != before


@pytest.fixture(scope="module")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A GPT-2 of random weights whose tokenizer adds nothing, saved as safetensors."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("decoder")
    words = {word: i for i, word in enumerate(["<end>", "<unk>", "red", "wine", "tea"])}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<end>", unk_token="<unk>", model_max_length=32
    ).save_pretrained(folder)
    torch.manual_seed(0)
    GPT2Model(
        GPT2Config(vocab_size=5, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    ).save_pretrained(folder, safe_serialization=True)
    return load_backbone(str(folder), pooling="last", max_tokens=64)


def test_a_decoder_with_last_token_pooling_ignores_padding_and_knows_its_limit(
    tiny_decoder: Backbone,
):
    alone = tiny_decoder.encode(["red wine"])[0]
    beside = tiny_decoder.encode(["tea " * 20, "red wine"])[1]
    assert np.abs(alone - beside).max() < 1e-5
    assert tiny_decoder.spec.max_tokens == 32


def test_a_decoder_gives_no_words_a_finite_vector(tiny_decoder: Backbone):
    assert np.isfinite(tiny_decoder.encode([""])).all()
