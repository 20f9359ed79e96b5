"""Heads of a folder are measured on what tuning held out, and on nothing else."""

import json

import numpy as np
import pytest

from services.core.errors import InvalidArgument
from services.core.heads import LabelHead, ValueHead, part_of
from services.evaluation.classification import head_report
from services.store.heads import save_head

TEXTS = [f"{('tea', 'chess')[i % 2]} thing {i}" for i in range(200)]
LABELS = [text.split()[0] for text in TEXTS]
VALUE_N = np.arange(200, dtype=np.float64)


def encode(texts):
    """[number is odd, number / 200]: what the heads below read."""
    numbers = np.array([int(text.split()[-1]) for text in texts])
    return np.stack([numbers % 2, numbers / 200], axis=1).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tuning.json").write_text('{"config": {"seed": 3, "held_out_share": 0.3}}')
    weight = np.float32([[-1, 1], [0, 0]])
    save_head(
        tmp_path, LabelHead(labels=("tea", "chess"), weight_BC=weight, bias_C=np.float32([0.5, 0]))
    )
    save_head(tmp_path, ValueHead(weight_B=np.float32([0, 200]), bias=0.0, centre=0.0, scale=1.0))
    return tmp_path


def test_a_perfect_head_reaches_one_everywhere(folder):
    report = head_report(folder, encode, TEXTS, labels=LABELS, value_N=VALUE_N)
    for figure in ("accuracy", "precision", "recall", "f1"):
        assert report["classification"][figure] == 1
        assert report["classification"][f"{figure}_ci"] == [1, 1]
    assert report["regression"]["r2"] == pytest.approx(1, abs=1e-6)
    assert report["regression"]["mae"] < 1e-4
    assert 0.5 <= report["classification"]["majority_accuracy"] < 0.7


def test_only_held_out_items_are_read_and_without_their_label(folder):
    read = []

    def spy(texts):
        read.extend(texts)
        return encode(texts)

    report = head_report(folder, spy, TEXTS, labels=LABELS)
    held = [f"thing {i}" for i in range(200) if part_of(f"thing {i}", 3) < 0.3]
    assert read == held
    assert report["classification"]["items"] == len(held)


def test_wrong_labels_lower_the_figures_of_held_out_items(folder):
    wrong = [{"tea": "chess", "chess": "tea"}[label] if i < 100 else label
             for i, label in enumerate(LABELS)]  # fmt: skip
    texts = [f"thing {i}" for i in range(200)]  # no label to cut
    held = [i for i in range(200) if part_of(texts[i], 3) < 0.3]
    expected = np.mean([i >= 100 for i in held])
    report = head_report(folder, encode, texts, labels=wrong)
    assert report["classification"]["accuracy"] == pytest.approx(expected)
    low, high = report["classification"]["accuracy_ci"]
    assert low < expected < high


def test_labels_the_head_never_learned_are_counted_apart(folder):
    labels = [label if i % 10 else "rare" for i, label in enumerate(LABELS)]
    said = head_report(folder, encode, TEXTS, labels=labels)["classification"]
    assert said["items_of_rare_labels_left_out"] > 0
    assert said["accuracy"] == 1


def test_a_folder_that_was_not_tuned_has_no_figures(tmp_path):
    assert head_report(tmp_path, encode, TEXTS, labels=LABELS, value_N=VALUE_N) == {}


def test_files_that_are_not_whole_are_named(folder):
    (folder / "heads/classification.safetensors").write_bytes(b"\0")
    with pytest.raises(InvalidArgument, match="tune again"):
        head_report(folder, encode, TEXTS, labels=LABELS)
    (folder / "tuning.json").write_text(json.dumps({"config": {}}))
    with pytest.raises(InvalidArgument, match="tune again"):
        head_report(folder, encode, TEXTS, labels=LABELS)
