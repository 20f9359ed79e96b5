"""Requests of the right structure and of every content: valid, at the bounds, beyond them, hostile.

What is chosen comes from bytes (a fuzzer's, so that it can steer) or from a seeded generator.
"""

import random
from typing import Any, Protocol

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

TEXTS = (
    "", "u", "u1", "user-common", "item-common", "jam", "2026-W48", "2026-11", "2026-11-24",
    "x" * 256, "x" * 257, "ü" * 128, "ü" * 129, "\x00", "a\nb", "a\tb\r", "../../etc/passwd",
    "/etc/passwd", "C:\\x", "%s%n%d", "{0.__class__}", "${jndi:ldap://x}", "'; DROP TABLE x; --",
    "<script>", "\u202e\u0000", "\U0001f98a", "NaN", "-1", "(a+)+$", "a" * 4096 + "!", " ", "\ufeff",
    "x" * 16_384, "x" * 20_000,
)  # fmt: skip
INTS = (0, 1, -1, 2, 3, 7, 20, 100, 199, 200, 201, 500, 1000, 1001, 2**31 - 1, -(2**31))
LONGS = (*INTS, 2**53, 2**63 - 1, -(2**63), 253_402_300_799, 253_402_300_800, -62_135_596_801)
FLOATS = (
    0.0,
    -0.0,
    0.5,
    1.0,
    1.0000001,
    -1.0,
    5e-324,
    3e38,
    float("inf"),
    -float("inf"),
    float("nan"),
)
# What a well-meaning caller would send, by field; half of the requests are made of these alone.
TAME: dict[str, tuple[Any, ...]] = {
    "user_id": ("user-common", "user-acme_", "u1", "nobody"),
    "user_ids": ("user-common", "user-acme_", "u1", "nobody"),
    "excluded_item_ids": ("jam",),
    "allowed_item_ids": ("item-common", "item-acme_"),
    "other_item_ids": ("item-acme_", "item-birch"),
    "item_id": ("item-common", "item-acme_", "jam"),
    "event_id": tuple(f"e{number}" for number in range(40)),
    "period": ("", "2026-W46", "2026-W47", "2026-W48", "2026-W49"),
    "page_token": ("",),
    "topic_id": ("t1", "MARK-acme_"),
    "title": ("Jam", "Tea"),
    "categories": ("food", "home"),
    "declared_categories": ("food", "home"),
    "expected_space_id": ("",),
    "tenant": ("", "default"),
    "diversity": (0.0, 0.5, 1.0),
    "exploration_share": (0.0, 0.3),
    "exploration_seed": (0, 7),
    "page_size": (0, 1, 5, 200),
    "seconds": (1_795_521_600 - 3600, 1_795_521_600 - 864_000, 1_790_000_000),
    "nanos": (0, 999_999_999),
}
# Seconds of a replayed now, and around it.
TIMES = (0, 1, -1, 1_795_521_600, 1_795_521_600 + 299, 1_795_521_600 + 301, 1_490_000_000, *LONGS)
MOST_PARTS = 6
_LONG = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}
_UNSIGNED = {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64}


class Choices(Protocol):
    """Where choices come from."""

    def below(self, count: int) -> int:
        """Return one of 0 to count - 1."""
        ...

    def some_bytes(self) -> bytes:
        """Return a few bytes."""
        ...


class ByteChoices:
    """Choices that bytes make; where they have run out, the first of each."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def below(self, count: int) -> int:
        """Take one byte (two where there are more than 256 to choose from)."""
        width = 1 if count <= 256 else 2
        taken = self._data[self._at : self._at + width]
        self._at += width
        return int.from_bytes(taken, "little") % count if taken else 0

    def some_bytes(self) -> bytes:
        """Take up to as many bytes as the next one says."""
        length = self.below(256)
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken


class RandomChoices:
    """Choices of a seeded generator."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def below(self, count: int) -> int:
        """Draw."""
        return self._rng.randrange(count)

    def some_bytes(self) -> bytes:
        """Draw up to 64 bytes."""
        return self._rng.randbytes(self._rng.randrange(65))


def message(kind: Any, choices: Choices) -> Any:
    """Return a message of a class with some of its fields set: half of them tame, half of them wild."""
    return _Maker(choices, is_tame=choices.below(2) == 0).message(kind)


class _Maker:
    def __init__(self, choices: Choices, *, is_tame: bool) -> None:
        self._choices, self._is_tame = choices, is_tame

    def message(self, kind: Any, depth: int = 0) -> Any:
        made = kind()
        for field in kind.DESCRIPTOR.fields:
            # Most fields are set, so that most requests get somewhere.
            roll = self._choices.below(4)
            if self._is_tame and field.name == "as_of" and roll:
                continue
            if roll == 3 and not (self._is_tame and field.name in TAME):
                continue
            if field.is_repeated:
                self._fill_list(made, field, depth)
            elif field.message_type:
                if depth < 4:
                    inner = self.message(GetMessageClass(field.message_type), depth + 1)
                    getattr(made, field.name).CopyFrom(inner)
            else:
                setattr(made, field.name, self._value(field))
        if self._is_tame and kind.DESCRIPTOR.name == "EraseUserRequest":
            # Else nobody would be left to ask for.
            made.user_id = "user-gone"
        return made

    def _fill_list(self, made: Any, field: Any, depth: int) -> None:
        count, values = self._choices.below(MOST_PARTS), getattr(made, field.name)
        # Rarely more than anything allows.
        if not self._is_tame and self._choices.below(64) == 63:
            count = 1001
        if self._is_tame and field.name in TAME:
            # Many lists must be sets.
            values.extend(TAME[field.name][: count or 1])
            return
        for number in range(count):
            of = self
            if number >= MOST_PARTS:
                of = _Maker(ByteChoices(number.to_bytes(2, "little")), is_tame=False)
            if field.message_type:
                values.append(of.message(GetMessageClass(field.message_type), depth + 1))
            else:
                values.append(of._value(field))

    def _value(self, field: Any) -> Any:
        kind, choices = field.cpp_type, self._choices
        if field.type == FieldDescriptor.TYPE_BYTES:
            return choices.some_bytes()
        of = self._candidates(field)
        if kind == FieldDescriptor.CPPTYPE_STRING and not self._is_tame and choices.below(8) == 7:
            return choices.some_bytes().decode("utf-8", "replace")
        drawn = of[choices.below(len(of))]
        return abs(drawn) if kind in _UNSIGNED else drawn

    def _candidates(self, field: Any) -> tuple[Any, ...]:
        kind, wild = field.cpp_type, not self._is_tame
        of: tuple[Any, ...] = (LONGS if kind in _LONG else INTS) if wild else (0, 1, 2)
        if self._is_tame and field.name in TAME:
            of = TAME[field.name]
        elif kind == FieldDescriptor.CPPTYPE_STRING:
            of = TEXTS if wild else ("user-gone", "item-common")
        elif kind == FieldDescriptor.CPPTYPE_BOOL:
            of = (False, True)
        elif kind == FieldDescriptor.CPPTYPE_ENUM:
            # Proto3 enums are open: numbers that nobody named travel too.
            named = tuple(value.number for value in field.enum_type.values)
            of = (*named, 99, -1) if wild else named[1:]
        elif kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            of = FLOATS if wild else (1.0, 2.0)
        elif field.name == "seconds":
            of = TIMES
        return of
