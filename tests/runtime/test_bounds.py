"""Whatever can be long in a request has a bound, and what is longer is refused by name."""

from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from services.core.access import INTERNAL_SERVICES
from services.runtime.errors import InvalidRequest
from services.runtime.validation import RULES_PATH, shared_rules

# The longest text of an item, the most users of an export, the most bytes of packed vectors.
MOST_CHARACTERS, MOST_PARTS, MOST_BYTES = 16_384, 10_000, 32 << 20
LENGTHS = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}


def requests() -> list[str]:
    files = descriptor_pb2.FileDescriptorSet.FromString(RULES_PATH.read_bytes()).file
    return sorted(
        method.input_type.lstrip(".")
        for file in files
        for service in file.service
        for method in service.method
    )


def message_of(name: str) -> Any:
    return shared_rules()._type_named(name)


def fields_of(descriptor: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every field that can be long, through messages that lie in others."""
    found: list[tuple[Any, ...]] = []
    for field in descriptor.fields:
        here = (*path, field)
        if field.is_repeated or field.type in LENGTHS:
            found.append(here)
        if field.message_type and not field.message_type.full_name.startswith("google."):
            found.extend(fields_of(field.message_type, here))
    return found


def long_value(field: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"x" * (MOST_BYTES + 1)
    return "x" * (MOST_CHARACTERS + 1)


def overlong(name: str, path: tuple[Any, ...], *, parts: bool) -> Any:
    """Return a request in which one field is longer than anything may be."""
    request = at = message_of(name)()
    for field in path[:-1]:
        at = getattr(at, field.name).add() if field.is_repeated else getattr(at, field.name)
        at.SetInParent()
    field = path[-1]
    if parts:
        # All different: some lists must be sets.
        kind = GetMessageClass(field.message_type) if field.message_type else None
        is_text = field.type in LENGTHS
        for number in range(MOST_PARTS + 1):
            part = kind() if kind else str(number) if is_text else number
            getattr(at, field.name).append(part)
    elif field.is_repeated:
        getattr(at, field.name).append(long_value(field))
    else:
        setattr(at, field.name, long_value(field))
    return request


CASES = [
    pytest.param(name, path, parts, id=f"{name}:{'.'.join(f.name for f in path)}:{parts}")
    for name in requests()
    for path in fields_of(message_of(name).DESCRIPTOR)
    for parts in (
        *((True,) if path[-1].is_repeated else ()),
        *((False,) if path[-1].type in LENGTHS else ()),
    )
]


@pytest.mark.parametrize(("name", "path", "parts"), CASES)
def test_every_string_every_bytes_and_every_list_of_a_request_has_a_bound(name, path, parts):
    request = overlong(name, path, parts=parts).SerializeToString()
    with pytest.raises(InvalidRequest):
        shared_rules().check_bytes(name, request)
    wanted = ".".join(field.name for field in path)
    said = [
        problem
        for field, problem in shared_rules().violations(name, request)
        if "".join(piece.split("]")[-1] for piece in field.split("[")) == wanted
    ]
    bounds = ("at most", "no more than", "exactly")
    assert any(word in problem for word in bounds for problem in said), said


def test_the_scan_sees_every_service():
    services = {name.rpartition(".")[0] for name in requests()}
    assert services == {"driftline.v1"}
    assert len(CASES) > 30
    assert INTERNAL_SERVICES
