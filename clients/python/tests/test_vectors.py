import copy
import math
import subprocess
import sys
from array import array

import numpy as np
import pytest

from driftline import (
    Basis,
    BasisKind,
    Granularity,
    PeriodVector,
    SpaceMismatchError,
    Trajectory,
    Vector,
    cosine,
    distance,
    dot,
    mean,
    norm,
    normalise,
)


def test_arithmetic_of_one_space():
    a, b = Vector("s_1", [3.0, 4.0]), Vector("s_1", [4.0, -3.0])
    assert norm(a) == 5.0
    assert dot(a, b) == 0.0
    assert cosine(a, b) == 0.0
    assert cosine(a, a) == 1.0
    assert distance(a, b) == pytest.approx(math.sqrt(50))
    assert list(normalise(a).values) == pytest.approx([0.6, 0.8])
    assert mean([a, b]) == Vector("s_1", [3.5, 0.5])
    assert mean([a, b], [1, 3]) == Vector("s_1", [3.75, -1.25])


def as_trajectory(*vectors):
    """Return what a trajectory of these vectors gives as one array."""
    basis = Basis(kind=BasisKind.PERSONAL)
    times = {"period_start": None, "period_end": None, "event_count": 1, "computed_time": None}
    periods = tuple(
        PeriodVector(vector=one, granularity=Granularity.WEEK, period="2026-W47", **times)
        for one in vectors
    )
    return Trajectory(
        user_id="u", granularity=Granularity.WEEK, interests=periods, basis=basis
    ).to_array()


@pytest.mark.parametrize(
    "operation", [cosine, dot, distance, lambda a, b: mean([a, b]), as_trajectory]
)
def test_two_spaces_are_never_mixed(operation):
    with pytest.raises(SpaceMismatchError) as caught:
        operation(Vector("a_1", [1.0]), Vector("b_1", [1.0]))
    assert (caught.value.expected_space_id, caught.value.actual_space_id) == ("a_1", "b_1")


@pytest.mark.parametrize("operation", [cosine, dot, distance, lambda a, b: mean([a, b])])
def test_two_widths_are_refused(operation):
    with pytest.raises(ValueError, match="widths 1 and 2"):
        operation(Vector("a_1", [1.0]), Vector("a_1", [1.0, 2.0]))


def test_a_vector_of_zeros_is_near_nothing():
    zero, one = Vector("a_1", [0.0, 0.0]), Vector("a_1", [1.0, 0.0])
    assert cosine(zero, one) == 0.0
    with pytest.raises(ValueError, match="no direction"):
        normalise(zero)
    with pytest.raises(ValueError, match="no vectors"):
        mean([])
    with pytest.raises(ValueError, match="positive sum"):
        mean([one], [0.0])


def test_bytes_are_little_endian_float32():
    vector = Vector.from_bytes("a_1", b"\x00\x00\x80\x3f\x00\x00\x00\xc0")
    assert list(vector.values) == [1.0, -2.0]
    assert vector.to_bytes() == b"\x00\x00\x80\x3f\x00\x00\x00\xc0"
    with pytest.raises(ValueError, match="not float32"):
        Vector.from_bytes("a_1", b"abc")


def test_vectors_are_values():
    a, b = Vector("a_1", [1.0, 2.0]), Vector("a_1", array("f", [1.0, 2.0]))
    assert a == b == Vector("a_1", np.array([1, 2]))
    assert hash(a) == hash(b)
    assert a != Vector("b_1", [1.0, 2.0])
    assert copy.deepcopy(a) == a
    assert len(a) == 2
    assert repr(a) == "Vector(space_id='a_1', width=2)"
    assert isinstance(a.values, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        a.values[0] = 9.0


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None  # as if it were not installed
from array import array
from driftline import Vector, cosine, mean, normalise, distance
from driftline.testing import FakeClient
a, b = Vector("a_1", [3.0, 4.0]), Vector("a_1", [4.0, -3.0])
assert isinstance(a.values, array), type(a.values)
assert cosine(a, b) == 0.0 and mean([a, b]) == Vector("a_1", [3.5, 0.5])
assert distance(a, a) == 0.0
assert max(abs(x - y) for x, y in zip(normalise(a).values, [0.6, 0.8])) < 1e-6
a.values[0] = 9.0
assert a == Vector("a_1", [3.0, 4.0]), "a vector does not change"
client = FakeClient()
client.put_interest("u", [1.0, 0.0], period="2026-W40")
assert list(client.get_interest("u").vector.values) == [1.0, 0.0]
"""


def test_all_of_it_works_without_numpy():
    subprocess.run([sys.executable, "-c", WITHOUT_NUMPY], check=True, timeout=60)
