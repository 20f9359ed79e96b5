"""Finds lists that are too long in a message's bytes, before anything is made of them.

Two bytes of a request can be a whole empty message: 32 MiB of them would become gigabytes when they
are parsed. Only large messages are looked through, and only up to the first list that is too long.
"""

from dataclasses import dataclass, field
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
_RULES = "buf.validate.field"
# A varint has seven bits a byte, and at most ten bytes.
_MORE, _BITS, _LONGEST = 0x80, 7, 70


@dataclass(frozen=True, slots=True)
class Part:
    """A field that may hold, or lead to, a list."""

    name: str
    # Most entries that its rule allows; None where it is no list.
    most: int | None
    # Of the messages that it holds; None for other values.
    shape: "Shape | None"
    # Whether it holds numbers, which may come packed.
    is_number: bool


@dataclass(slots=True)
class Shape:
    """What can be long in a message, by field number."""

    parts: dict[int, Part] = field(default_factory=dict)


def shape_of(descriptor: Any, pool: DescriptorPool) -> Shape:
    """Return what can be long in a message, by the rules that stand in its contract."""
    options = pool.FindMessageTypeByName("google.protobuf.FieldOptions")
    kind: Any = message_factory.GetMessageClass(options)
    rules: Any = pool.FindExtensionByName(_RULES)
    shape = Shape()
    for one in descriptor.fields:
        below = None
        if one.message_type and not one.message_type.full_name.startswith("google."):
            below = shape_of(one.message_type, pool)
        most = None
        if one.is_repeated:
            said = kind.FromString(one.GetOptions().SerializeToString()).Extensions[rules]
            most = int(said.repeated.max_items) or None
        if most is not None or (below is not None and below.parts):
            shape.parts[one.number] = Part(one.name, most, below, one.type not in _TEXTS)
    return shape


def crowded(data: memoryview, shape: Shape) -> tuple[str, int] | None:
    """Return (field path, most entries) of the first list that is too long; None where there is none.

    Bytes that are no message are left to the parser, which refuses them.
    """
    counts: dict[int, int] = dict.fromkeys(shape.parts, 0)
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == BYTES:
            length, at = _varint(data, at)
            if length > end - at:
                return None
            part = shape.parts.get(number)
            if part is not None:
                found = _count(data[at : at + length], part, counts, number)
                if found:
                    return found
            at += length
        elif wire == VARINT:
            _, at = _varint(data, at)
            part = shape.parts.get(number)
            if part is not None and (found := _more(1, part, counts, number)):
                return found
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            return None
        if at < 0:
            return None
    return None


def _count(
    value: memoryview, part: Part, counts: dict[int, int], number: int
) -> tuple[str, int] | None:
    # A packed list of numbers is one value; each takes ten bytes at most.
    is_packed = part.shape is None and part.is_number
    entries = max(1, len(value) // 10) if is_packed else 1
    if found := _more(entries, part, counts, number):
        return found
    if part.shape is None or not part.shape.parts:
        return None
    below = crowded(value, part.shape)
    if below is None:
        return None
    index = f"[{counts[number] - 1}]" if part.most is not None else ""
    return f"{part.name}{index}.{below[0]}", below[1]


def _more(entries: int, part: Part, counts: dict[int, int], number: int) -> tuple[str, int] | None:
    counts[number] += entries
    if part.most is not None and counts[number] > part.most:
        return part.name, part.most
    return None


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a number and where it ends; an end below 0 where there is none."""
    value = shift = 0
    while 0 <= at < len(data) and shift < _LONGEST:
        byte = data[at]
        at += 1
        value |= (byte & ~_MORE) << shift
        if byte < _MORE:
            return value, at
        shift += _BITS
    return 0, -1
