from pathlib import Path

import numpy as np
import pytest

from services.store.layout import Layout
from services.store.text_vectors import TextVectors


@pytest.fixture
def vectors(tmp_path: Path) -> TextVectors:
    return TextVectors(Layout(tmp_path, 2))


def test_a_space_without_vectors_is_empty(vectors: TextVectors):
    assert vectors.read("default", "toy_1") == {}


def test_what_was_added_is_read_back_exactly(vectors: TextVectors):
    made = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    vectors.add("default", "toy_1", ["a", "b"], made[:2])
    vectors.add("default", "toy_1", ["c"], made[2:])
    held = vectors.read("default", "toy_1")
    assert held.keys() == {"a", "b", "c"}
    assert np.array_equal(np.stack([held[name] for name in "abc"]), made)


def test_a_stored_vector_never_moves(vectors: TextVectors):
    vectors.add("default", "toy_1", ["a"], np.ones((1, 4), np.float32))
    vectors.add("default", "toy_1", ["a"], np.zeros((1, 4), np.float32))
    assert vectors.read("default", "toy_1")["a"].tolist() == [1, 1, 1, 1]


def test_spaces_and_tenants_are_apart(vectors: TextVectors):
    vectors.add("default", "toy_1", ["a"], np.ones((1, 4), np.float32))
    assert vectors.read("default", "toy_2") == {}
    assert vectors.read("other", "toy_1") == {}
