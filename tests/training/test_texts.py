import numpy as np

from services.core.tower import BackboneSpec
from services.store.layout import Layout
from services.store.text_vectors import TextVectors
from services.training.texts import KeptTexts, place_of
from tests.planted import WordEncoder


def kept(tmp_path, encoder, **kwargs):
    return KeptTexts(encoder, TextVectors(Layout(tmp_path, 2)), "default", **kwargs)


def test_a_text_is_encoded_once_whoever_asks(tmp_path):
    texts = ["tea green", "chess", "tea green"]
    encoder = WordEncoder()
    first = kept(tmp_path, encoder).encode(texts)
    assert encoder.asked == ["tea green", "chess"]
    np.testing.assert_array_equal(first, WordEncoder().encode(texts))
    told = []
    later = WordEncoder()
    again = kept(tmp_path, later).encode(
        ["garden", *texts], lambda done, total: told.append((done, total))
    )
    assert later.asked == ["garden"]
    np.testing.assert_array_equal(again[1:], first)
    assert told[-1] == (3, 3)


def test_fresh_neither_reads_nor_keeps(tmp_path):
    encoder = WordEncoder()
    for _ in range(2):
        kept(tmp_path, encoder, is_fresh=True).encode(["tea"])
    assert encoder.asked == ["tea", "tea"]


def test_what_moves_a_vector_is_in_the_name_of_its_place_and_the_backbones_name_is_not():
    spec = BackboneSpec(name="a", weights_sha256="00", width=4)
    places = {
        place_of(BackboneSpec(**{"name": "a", "weights_sha256": "00", "width": 4, **change}))
        for change in ({}, {"weights_sha256": "01"}, {"pooling": "cls"}, {"max_tokens": 8})
    }
    assert len(places) == 4
    assert place_of(spec) == place_of(BackboneSpec(name="b", weights_sha256="00", width=4))
