"""Columns of features as the bytes that Feast stores of them: serialized protobuf `Value`s.

The other half of wire.py; a contract test holds both equal to Feast's own writer.
"""

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from services.core.views import FeatureType
from services.store.wire import varint

_US = 1_000_000
# Tags of Value's fields.
_STRING, _INT, _DOUBLE, _BOOL, _TIME = b"\x12", b"\x20", b"\x29", b"\x38", b"\x40"
_STRINGS, _INTS, _DOUBLES, _FLOATS = b"\x62", b"\x72", b"\x7a", b"\x82\x01"


def encode_timestamp(micros: int) -> bytes:
    """Return microseconds since 1970, >= 0, as a serialized `google.protobuf.Timestamp`."""
    seconds, rest = divmod(micros, _US)
    said = b"\x08" + varint(seconds) if seconds else b""
    return said + (b"\x10" + varint(rest * 1000) if rest else b"")


def encode_column(kind: FeatureType, column: pl.Series) -> list[bytes]:
    """Return a `Value` for each row of a column without nulls."""
    match kind:
        case FeatureType.VECTOR:
            return list(_numbers(_FLOATS, column, np.dtype("<f4")))
        case FeatureType.FLOATS:
            return list(_numbers(_DOUBLES, column, np.dtype("<f8")))
        case FeatureType.TIME:
            return _each_once(column.dt.timestamp("us").to_list(), _time)
    return _each_once(column.to_list(), _ONE[kind])


def _each_once(values: list[Any], encode: Callable[[Any], bytes]) -> list[bytes]:
    """Encode equal values once: versions, counts and periods are the same for many rows."""
    if values and isinstance(values[0], list):
        return [encode(value) for value in values]
    made = {value: encode(value) for value in set(values)}
    return [made[value] for value in values]


def _numbers(tag: bytes, column: pl.Series, dtype: "np.dtype[Any]") -> Iterator[bytes]:
    """Yield lists of floats: their bytes as they lie in memory."""
    flat = np.ascontiguousarray(column.explode(empty_as_null=False).to_numpy(), dtype).tobytes()
    heads: dict[int, bytes] = {}
    start = 0
    for length in column.list.len().to_list():
        size = length * dtype.itemsize
        if length not in heads:
            packed = b"\x0a" + varint(size) if size else b""
            heads[length] = tag + varint(len(packed) + size) + packed
        yield heads[length] + flat[start : start + size]
        start += size


def _integers(values: list[int]) -> bytes:
    if values and min(values) >= 0 and max(values) < 1 << 7:
        packed = bytes(values)
    else:
        packed = b"".join(map(_signed_varint, values))
    return _nested(_INTS, b"\x0a" + varint(len(packed)) + packed if packed else b"")


@lru_cache(maxsize=1 << 16)
def _signed_varint(value: int) -> bytes:
    # Weeks, counts and items of a year: the same few numbers for many users.
    return varint(value % 2**64)


def _strings(values: list[str]) -> bytes:
    return _nested(_STRINGS, b"".join(map(_string, values)))


@lru_cache(maxsize=1 << 16)
def _string(value: str) -> bytes:
    # Items and periods: many users have the same.
    return _nested(b"\x0a", value.encode())


def _nested(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content


def _time(micros: int) -> bytes:
    # Towards zero, as int() of a float does.
    seconds = micros // _US if micros >= 0 else -(-micros // _US)
    return _TIME + varint(seconds % 2**64)


_ONE: dict[FeatureType, Callable[[Any], bytes]] = {
    FeatureType.STRING: lambda value: _nested(_STRING, value.encode()),
    FeatureType.INT: lambda value: _INT + varint(value % 2**64),
    FeatureType.FLOAT: lambda value: _DOUBLE + struct.pack("<d", value),
    FeatureType.BOOL: lambda value: _BOOL + (b"\x01" if value else b"\x00"),
    FeatureType.STRINGS: _strings,
    FeatureType.INTS: _integers,
}
