"""Feast's stored bytes, read and written without Feast: entity keys (v3) and protobuf `Value`s.

A contract test holds these functions equal to Feast's own writer.
"""

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import mmh3
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

# ValueType.STRING of Feast's entity keys.
_STRING = 2
_LENGTH = struct.Struct("<I")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Tag of `float_list_val`: field 16, a message.
_FLOATS = b"\x82\x01"
# Bytes of a value that is kept once it is decoded.
_SMALL = 24
# What comes before the numbers of a list of floats, by the length of the whole; see `float_bytes`.
_HEADS: dict[int, bytes] = {}
_MAX_HEADS = 4096

# A decoded feature: array, tuple, string, number, bool, instant or None.
Value = Any


def entity_key(join_key: str, entity_id: str) -> bytes:
    """Return the serialized key of one string entity, version 3."""
    value = entity_id.encode()
    return _key_head(join_key) + _LENGTH.pack(len(value)) + value


@lru_cache(maxsize=16)
def _key_head(join_key: str) -> bytes:
    name = join_key.encode()
    return struct.pack("<III", 1, _STRING, len(name)) + name + struct.pack("<I", _STRING)


def redis_key(project: str, key: bytes) -> bytes:
    """Return the key of the hash that holds every view of an entity."""
    return key + project.encode()


def redis_field(view: str, feature: str) -> bytes:
    """Return the hash field of a feature: its Murmur3, little-endian."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def redis_time_field(view: str) -> bytes:
    """Return the hash field of a row's timestamp."""
    return f"_ts:{view}".encode()


def varint(number: int) -> bytes:
    """Return a number, >= 0, as protobuf writes it."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


@lru_cache(maxsize=8192)
def decode_timestamp(data: bytes) -> datetime:
    """Return the instant of a serialized `google.protobuf.Timestamp`, UTC; many rows share one."""
    stamp = Timestamp.FromString(data)
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def decode_value(data: bytes) -> Value:
    """Return what a serialized Feast `Value` holds; None for an empty one.

    Float lists come as float32 arrays (read-only), double lists and integer lists as tuples.

    Raises:
        ValueError: it holds a type that no view of ours uses.
    """
    # Versions, counts and periods: the same few for many users, and immutable.
    if len(data) <= _SMALL:
        return _decode_small(data)
    if data[:2] == _FLOATS:
        # A vector, which is most of what is read: its list is the message's only field.
        size, position = _varint(data, 2)
        if position + size == len(data):
            return np.frombuffer(_packed(data[position:]), "<f4")
    return _decode(data)


def float_bytes(data: bytes) -> bytes:
    """Return the numbers of a serialized list of floats as they lie there: little-endian float32.

    Raises:
        ValueError: it is no such list.
    """
    # A list of one length has one head; with that head it can be nothing else.
    head = _HEADS.get(len(data))
    if head is not None and data.startswith(head):
        return data[len(head) :]
    values = decode_value(data)
    if not isinstance(values, np.ndarray):
        raise ValueError("a value is no list of floats")
    packed = values.tobytes()
    if len(_HEADS) >= _MAX_HEADS:
        _HEADS.clear()
    _HEADS[len(data)] = data[: len(data) - len(packed)]
    return packed


def _decode(data: bytes) -> Value:
    if not data:
        return None
    number, _, value = next(_fields(data))
    decode = _DECODERS.get(number)
    if decode is None:
        raise ValueError(f"field {number} of Feast's Value is not one that our views use")
    return decode(value)


_decode_small = lru_cache(maxsize=8192)(_decode)


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Walk a message: (field number, wire type, value)."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        kind = tag & 7
        value: Any
        if kind == _BYTES:
            size, position = _varint(data, position)
            value = data[position : position + size]
            position += size
        elif kind == _VARINT:
            value, position = _varint(data, position)
        elif kind == _FIXED64:
            value = data[position : position + 8]
            position += 8
        elif kind == _FIXED32:
            value = data[position : position + 4]
            position += 4
        else:
            raise ValueError(f"wire type {kind} is not protobuf's")
        yield tag >> 3, kind, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while True:
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _packed(data: bytes) -> bytes:
    """Return the payload of a list message; protobuf writes numbers packed, so it is one field."""
    if not data:
        return b""
    size, position = _varint(data, 1)
    if data[0] != (1 << 3 | _BYTES) or position + size != len(data):
        raise ValueError("a list of numbers is not packed as Feast writes it")
    return data[position:]


def _integers(data: bytes) -> tuple[int, ...]:
    """Decode packed varints all at once: a loop over a long list would cost a millisecond."""
    packed = _packed(data)
    if packed.isascii():  # each is one byte, itself
        return tuple(packed)
    raw = np.frombuffer(packed, np.uint8)
    starts = np.flatnonzero(np.concatenate(([True], raw[:-1] < 0x80)))
    place = np.arange(len(raw)) - np.repeat(starts, np.diff(np.append(starts, len(raw))))
    parts: NDArray[np.uint64] = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    values = np.add.reduceat(parts, starts).view(np.int64).tolist()
    return tuple(values)


def _strings(data: bytes) -> tuple[str, ...]:
    return tuple(value.decode() for _, _, value in _fields(data))


_DECODERS: dict[int, Callable[[Any], Value]] = {
    1: bytes,
    2: bytes.decode,
    3: _signed,
    4: _signed,
    5: lambda data: struct.unpack("<d", data)[0],
    6: lambda data: struct.unpack("<f", data)[0],
    7: bool,
    8: lambda value: datetime.fromtimestamp(_signed(value), UTC),
    12: _strings,
    13: _integers,
    14: _integers,
    15: lambda data: tuple(np.frombuffer(_packed(data), "<f8").tolist()),
    16: lambda data: np.frombuffer(_packed(data), "<f4"),
    19: lambda value: None,
}
