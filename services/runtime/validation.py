"""Checks requests against the rules that stand in the protos (`buf.validate`).

The SDK's stubs carry no rules, so the full contracts (`rules.binpb`, made by `make proto`) live
here in a descriptor pool of their own, and a request's bytes are parsed there once more.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from protovalidate import Validator

from services.runtime.crowds import Shape, crowded, shape_of
from services.runtime.errors import InvalidRequest
from services.runtime.plain_rules import Plain, plain_of

RULES_PATH = Path(__file__).with_name("rules.binpb")
# Larger messages are looked through for lists that are too long before they are parsed.
LARGE_BYTES = 64 << 10
# Of a larger message one violation is named: finding all of a list of bad entries takes seconds.
SMALL_BYTES = 1 << 10


class Rules:
    """The rules of every message. Making one takes some 50 ms; share it. Safe between threads."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        files = descriptor_pb2.FileDescriptorSet.FromString(RULES_PATH.read_bytes())
        for file in files.file:
            self._pool.Add(file)
        self._validator = Validator()
        self._type_named = lru_cache(maxsize=None)(self._find)
        self._shape_named = lru_cache(maxsize=None)(self._shape)
        self._plain_named = lru_cache(maxsize=None)(self._plain)

    def warm(self, *full_names: str) -> None:
        """Compile the rules of these messages now instead of at the first calls."""
        for name in full_names:
            self._validator.collect_violations(self._type_named(name)())
            self._shape_named(name)
            self._plain_named(name)

    def requests_of(self, service: str) -> tuple[str, ...]:
        """Return the request messages of a service, like driftline.v1.InterestService."""
        methods = self._pool.FindServiceByName(service).methods
        return tuple(method.input_type.full_name for method in methods)

    def check(self, message: Message) -> None:
        """Check a message of the stubs.

        Raises:
            InvalidRequest: names every bad field and what is allowed.
        """
        self.check_bytes(message.DESCRIPTOR.full_name, message.SerializeToString())

    def parsed(self, full_name: str, data: bytes, parse: Callable[[bytes], Any]) -> Any:
        """Return a request of the stubs that keeps its rules. Raises as `check_bytes`.

        Args:
            full_name: of the message, like driftline.v1.GetInterestRequest.
            data: it, serialized.
            parse: makes the stubs' message of it.
        """
        plain = self._plain_named(full_name)
        if plain is not None and len(data) <= LARGE_BYTES:
            with suppress(DecodeError):  # `check_bytes` says it
                request = parse(data)
                if plain.holds(request):
                    return request
        self.check_bytes(full_name, data)
        return parse(data)

    def check_bytes(self, full_name: str, data: bytes) -> None:
        """Check a serialized message, like driftline.v1.GetInterestRequest.

        Raises:
            InvalidRequest: names every bad field of a small message and the first of a large one,
                and what is allowed; or says that the bytes do not parse.
        """
        if len(data) > LARGE_BYTES:
            found = crowded(memoryview(data), self._shape_named(full_name))
            if found:
                field, most = found
                raise InvalidRequest(((field, f"must contain no more than {most} item(s)"),))
        try:
            message = self._type_named(full_name).FromString(data)
        except DecodeError:
            raise InvalidRequest((("request", f"is not a valid {full_name}"),)) from None
        first = self._violations(message, fail_fast=True)
        if first:
            raise InvalidRequest(self._violations(message) if len(data) <= SMALL_BYTES else first)

    def violations(self, full_name: str, data: bytes) -> tuple[tuple[str, str], ...]:
        """Return every (field path, what is allowed) of bytes that parse, however many there are."""
        return self._violations(self._type_named(full_name).FromString(data))

    def _violations(
        self, message: Message, *, fail_fast: bool = False
    ) -> tuple[tuple[str, str], ...]:
        found = self._validator.collect_violations(message, fail_fast=fail_fast)
        return tuple(_named(message.DESCRIPTOR, violation.proto) for violation in found)

    def _shape(self, full_name: str) -> Shape:
        return shape_of(self._pool.FindMessageTypeByName(full_name), self._pool)

    def _plain(self, full_name: str) -> Plain | None:
        """Return which messages of a type need no validator."""
        kind = self._type_named(full_name)
        needed = {path.partition("[")[0] for path, _ in self._violations(kind())}
        return plain_of(kind.DESCRIPTOR, self._pool, needed)

    def _find(self, full_name: str) -> type[Message]:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(full_name))


@cache
def shared_rules() -> Rules:
    """Return this process's rules."""
    return Rules()


def validate(message: Message) -> None:
    """Check a message of the stubs with this process's rules; see `Rules.check`."""
    shared_rules().check(message)


def _named(descriptor: Any, violation: Any) -> tuple[str, str]:
    """Return (field path, what is allowed) of one violation."""
    path, enum = "", None
    at = descriptor
    for element in violation.field.elements if violation.field else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
        # A rule of a oneof names the oneof, which is no field.
        field = at.fields_by_name.get(element.field_name) if at else None
        at = field.message_type if field else None
        enum = field.enum_type if field else None
    problem = violation.message or violation.rule_id
    if enum is not None and violation.rule_id.startswith("enum."):
        problem = f"must be one of {', '.join(v.name for v in enum.values if v.number)}"
    return path or "request", problem
