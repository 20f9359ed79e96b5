"""The benchmark of encoding compares like with like."""

import numpy as np
import pytest

from tests.bench.encode import least_cosines, measure, titles


def test_both_sides_give_the_same_vectors_and_both_results_say_what_was_reached():
    texts, source = titles(24)
    assert len(set(texts)) == 24
    half, small = measure(texts, source, 2)
    assert (half["name"], small["name"], half["pairs"]) == ("encode", "encode-int8", 2)
    assert half["cosine_to_float32"]["texts"] == 24
    assert half["cosine_to_float32"]["least"] > 0.999
    assert 0.99 < small["cosine_to_float32"]["least"] < half["cosine_to_float32"]["least"]
    for found in (half, small):
        ratio = found["runs"]["ours"][0]["per_s"] / found["runs"]["peer"][0]["per_s"]
        assert found["spread"][0] <= ratio * (1 + 1e-9)
        assert found["reached"] == (found["ratio"] >= found["goal"]["per_s"])


def test_the_worst_text_is_what_cosine_is_judged_by():
    truth = {0: np.eye(2, dtype=np.float32), 1: np.eye(2, dtype=np.float32)[:1]}
    ours = {0: np.array([[1, 0], [0.8, 0.6]], np.float32), 1: truth[1]}
    assert least_cosines(ours, truth)["least"] == pytest.approx(0.6)
