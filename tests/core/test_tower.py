import re
from dataclasses import replace

import numpy as np

from services.core.tower import BackboneSpec, ItemTower, space_id_of

BACKBONE = BackboneSpec(name="sentence-transformers/all-MiniLM-L6-v2", weights_sha256="ab", width=3)


def tower(scale=1.0):
    return ItemTower(
        mean_B=np.array([1, 0, 0], np.float32),
        projection_BD=np.array([[scale, 0], [0, 1], [0, 0]], np.float32),
    )


def test_an_item_vector_is_the_projected_difference_from_the_mean_at_unit_length():
    vec_ND = tower().text_parts(np.array([[4, 4, 9], [1, 2, 0]], np.float32))
    np.testing.assert_allclose(vec_ND, [[0.6, 0.8], [0, 1]], atol=1e-7)


def test_a_text_at_the_mean_stays_zero():
    assert tower().text_parts(np.array([[1, 0, 5]], np.float32)).tolist() == [[0, 0]]


def test_what_is_known_of_an_item_is_added_to_its_text_part():
    known = replace(tower(), known_ids=("b", "d"), known_KD=np.array([[0, 1], [9, 9]], np.float32))
    text = np.array([[2, 0, 0], [2, 0, 0]], np.float32)
    items = known.item_vectors(text, ["a", "b"])
    np.testing.assert_allclose(items, [[1, 0], [0.5**0.5, 0.5**0.5]], atol=1e-7)
    assert space_id_of(BACKBONE, known) != space_id_of(BACKBONE, tower())


def test_int8_makes_another_space():
    assert space_id_of(replace(BACKBONE, is_int8=True), tower()) != space_id_of(BACKBONE, tower())


def test_a_space_id_is_short_stable_and_names_the_backbone():
    space = space_id_of(BACKBONE, tower())
    assert re.fullmatch(r"minilm_[0-9a-f]{8}", space)
    assert space == space_id_of(BACKBONE, tower())
    assert re.fullmatch(
        r"qwen3embeddi_[0-9a-f]{8}",
        space_id_of(replace(BACKBONE, name="Qwen/Qwen3-Embedding-0.6B"), tower()),
    )


def test_whatever_moves_a_vector_makes_another_space():
    spaces = {
        space_id_of(BACKBONE, tower()),
        space_id_of(BACKBONE, tower(2.0)),
        space_id_of(replace(BACKBONE, weights_sha256="cd"), tower()),
        space_id_of(replace(BACKBONE, pooling="cls"), tower()),
        space_id_of(replace(BACKBONE, max_tokens=64), tower()),
    }
    assert len(spaces) == 5
