"""Vectors that know their space, and the arithmetic that refuses to mix two.

Values are numpy float32 arrays where numpy is installed, else `array.array("f")`; both index,
iterate, slice and have a length, so code that keeps to that runs with either.
"""

import math
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from .errors import SpaceMismatchError

try:
    import numpy as np
except ImportError:  # the SDK needs no numpy
    np = None  # type: ignore[assignment]

# `numpy.ndarray` of float32 (read-only) where numpy is installed, else `array.array("f")`.
Values: TypeAlias = Any


class Vector:
    """An immutable dense float32 vector and the identity of the space it lives in.

    Two vectors are equal where both space and every component are. `len(vector)` is its width.
    """

    __slots__ = ("_space_id", "_values")

    def __init__(self, space_id: str, values: Iterable[float]) -> None:
        self._space_id = space_id
        self._values = values_from_bytes(_packed(values))

    @classmethod
    def from_bytes(cls, space_id: str, data: bytes) -> "Vector":
        """Make one from little-endian float32, as it travels.

        Raises:
            ValueError: the length is not a multiple of four.
        """
        made = cls.__new__(cls)
        made._space_id = space_id
        made._values = values_from_bytes(data)
        return made

    @property
    def space_id(self) -> str:
        """Name of the space, like minilm_1f3c9a2b."""
        return self._space_id

    @property
    def values(self) -> Values:
        """The components: a read-only numpy array where numpy is installed, else an `array`."""
        return self._values if np is not None else self._values[:]

    def to_bytes(self) -> bytes:
        """Return little-endian float32, four bytes each."""
        return values_to_bytes(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vector):
            return NotImplemented
        return self._space_id == other._space_id and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash((self._space_id, self.to_bytes()))

    def __repr__(self) -> str:
        return f"Vector(space_id={self._space_id!r}, width={len(self)})"

    def __reduce__(self) -> tuple[Any, tuple[str, bytes]]:
        return (Vector.from_bytes, (self._space_id, self.to_bytes()))


def require_same_space(first: Vector, *others: Vector) -> str:
    """Return the space all vectors share.

    Raises:
        SpaceMismatchError: two spaces met.
        ValueError: one space, two widths: one of the vectors was made by hand.
    """
    for other in others:
        if other.space_id != first.space_id:
            raise SpaceMismatchError(
                f"a vector of space {other.space_id} met one of {first.space_id}; "
                "read both again from the live model",
                expected_space_id=first.space_id,
                actual_space_id=other.space_id,
            )
        if len(other) != len(first):
            raise ValueError(f"widths {len(first)} and {len(other)} in space {first.space_id}")
    return first.space_id


def dot(a: Vector, b: Vector) -> float:
    """Return the inner product. Raises like `require_same_space`."""
    require_same_space(a, b)
    return _dot(a.values, b.values)


def norm(vector: Vector) -> float:
    """Return the Euclidean length."""
    return math.sqrt(_dot(vector.values, vector.values))


def cosine(a: Vector, b: Vector) -> float:
    """Return the cosine similarity in [-1, 1]; 0 where one of the two is all zeros.

    Raises:
        SpaceMismatchError: the vectors live in two spaces.
    """
    require_same_space(a, b)
    lengths = norm(a) * norm(b)
    return max(-1.0, min(1.0, _dot(a.values, b.values) / lengths)) if lengths else 0.0


def distance(a: Vector, b: Vector) -> float:
    """Return the Euclidean distance. Raises like `require_same_space`."""
    require_same_space(a, b)
    return math.dist(list(map(float, a.values)), list(map(float, b.values)))


def mean(vectors: Sequence[Vector], weights: Sequence[float] | None = None) -> "Vector":
    """Return the weighted mean, not normalised.

    Args:
        vectors: at least one, all of one space.
        weights: one per vector, with a positive sum; all the same where left out.

    Raises:
        SpaceMismatchError: the vectors live in more than one space.
        ValueError: no vectors, or weights that do not fit.
    """
    if not vectors:
        raise ValueError("no vectors to average")
    space_id = require_same_space(*vectors)
    shares = [1.0] * len(vectors) if weights is None else list(weights)
    if len(shares) != len(vectors) or sum(shares) <= 0:
        raise ValueError("give one weight per vector, with a positive sum")
    total = sum(shares)
    columns = zip(*(v.values for v in vectors), strict=True)
    return Vector(
        space_id,
        [
            sum(w * float(x) for w, x in zip(shares, column, strict=True)) / total
            for column in columns
        ],
    )


def stacked(vectors: Sequence[Vector]) -> Any:
    """Return vectors as rows of a new float32 array; needs numpy. Raises like `require_same_space`."""
    import numpy

    if vectors:
        require_same_space(*vectors)
    return numpy.array([one.values for one in vectors], numpy.float32)


def normalise(vector: Vector) -> "Vector":
    """Return the vector at length one.

    Raises:
        ValueError: it is all zeros.
    """
    length = norm(vector)
    if not length:
        raise ValueError("a vector of zeros has no direction")
    return Vector(vector.space_id, [float(x) / length for x in vector.values])


def values_from_bytes(data: bytes) -> Values:
    """Return little-endian float32 bytes as values.

    Raises:
        ValueError: the length is not a multiple of four.
    """
    if len(data) % 4:
        raise ValueError(f"{len(data)} bytes are not float32 values")
    if np is not None:
        return np.frombuffer(data, "<f4")
    values = array("f", data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def values_to_bytes(values: Values) -> bytes:
    """Return values as little-endian float32 bytes."""
    if np is not None and isinstance(values, np.ndarray):
        return values.astype("<f4", copy=False).tobytes()
    return _packed(values)


def _packed(values: Iterable[float]) -> bytes:
    if np is not None and isinstance(values, np.ndarray):
        return np.ascontiguousarray(values, "<f4").reshape(-1).tobytes()
    numbers = list(map(float, values))
    return struct.pack(f"<{len(numbers)}f", *numbers)


def _dot(a: Values, b: Values) -> float:
    if np is not None:
        return float(np.dot(a.astype(np.float64), b.astype(np.float64)))
    return math.fsum(x * y for x, y in zip(a, b, strict=True))
