"""Requests that keep their rules at a glance: most need no look by protovalidate.

A message is plain where each field that is set keeps a simple rule, checked here, and each that must be set is.
One that is not plain may still be right: protovalidate decides, and says what is wrong. The checks are read from
the same contracts; a field whose rules are of another kind makes every message with it not plain.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

Check = Callable[[Any], bool]

# A character of a text takes so many bytes at most.
_CHARACTER = 4
_UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True)
class Plain:
    """Which messages of one type are plainly right."""

    # By field number; a message with a field that is not here is not plain.
    checks: dict[int, Check]
    # Fields that must be set.
    needed: frozenset[int]

    def holds(self, message: Any) -> bool:
        """Tell whether a message keeps its rules at a glance; False says nothing."""
        found = 0
        for field, value in message.ListFields():
            number = field.number
            check = self.checks.get(number)
            if check is None or not check(value):
                return False
            if number in self.needed:
                found += 1
        return found == len(self.needed)


def plain_of(descriptor: Any, pool: DescriptorPool, needed: Collection[str]) -> Plain | None:
    """Return which messages of a type are plain; None where none can be known to be.

    Args:
        descriptor: of the type, with the rules of its contract.
        pool: what holds it, and buf.validate.
        needed: fields of which protovalidate says that an empty message breaks their rules.
    """
    # Rules of whole messages and of oneofs join fields.
    if descriptor.oneofs or _rules(descriptor, pool, "MessageOptions", "message").ListFields():
        return None
    checks: dict[int, Check] = {}
    for field in descriptor.fields:
        check = _check(field, _rules(field, pool, "FieldOptions", "field"))
        if check is not None:
            checks[field.number] = check
    numbers = {field.name: field.number for field in descriptor.fields}
    if not all(numbers.get(name) in checks for name in needed):
        return None
    return Plain(checks, frozenset(numbers[name] for name in needed))


def _rules(of: Any, pool: DescriptorPool, options: str, kind: str) -> Any:
    """Return the buf.validate rules of a field or a message."""
    found = pool.FindMessageTypeByName(f"google.protobuf.{options}")
    parsed: Any = message_factory.GetMessageClass(found).FromString(
        of.GetOptions().SerializeToString()
    )
    extension: Any = pool.FindExtensionByName(f"buf.validate.{kind}")
    return parsed.Extensions[extension]


def _check(field: Any, rules: Any) -> Check | None:
    if field.message_type is not None:
        return None
    kinds = {kind.name: said for kind, said in rules.ListFields()}
    if not kinds:
        return lambda value: True
    if len(kinds) > 1:
        return None
    ((kind, said),) = kinds.items()
    names = {name.name for name, _ in said.ListFields()} if kind in _CHECKS else set()
    if kind not in _CHECKS or field.is_repeated != (kind == "repeated"):
        return None
    known, make = _CHECKS[kind]
    return make(field, said) if names <= known else None


def _text(field: Any, said: Any) -> Check | None:
    least, most = _bytes_allowed(said)
    return lambda text: least <= len(text) <= most


def _texts(field: Any, said: Any) -> Check | None:
    """Check a list of distinct texts, as protovalidate would: all at once."""
    each = {kind.name: rules for kind, rules in said.items.ListFields()}
    if field.type != FieldDescriptor.TYPE_STRING or each.keys() != {"string"}:
        return None
    if not {name.name for name, _ in each["string"].ListFields()} <= _TEXT_RULES:
        return None
    least, most = _bytes_allowed(each["string"])
    most_items = said.max_items if said.HasField("max_items") else _UNLIMITED
    least_items, is_distinct = said.min_items, said.unique

    def check(texts: Any) -> bool:
        if not least_items <= len(texts) <= most_items:
            return False
        sizes = [*map(len, texts)]
        if sizes and not (least <= min(sizes) and max(sizes) <= most):
            return False
        return not is_distinct or len({*texts}) == len(sizes)

    return check


def _bytes_allowed(said: Any) -> tuple[int, int]:
    """Return the fewest and the most characters that are within a rule on bytes, whatever they are."""
    most = said.max_bytes // _CHARACTER if said.HasField("max_bytes") else _UNLIMITED
    return said.min_bytes, most


def _enum(field: Any, said: Any) -> Check | None:
    if field.enum_type is None or not said.defined_only:
        return None
    defined = frozenset(value.number for value in field.enum_type.values)
    return lambda number: number in defined


def _integer(field: Any, said: Any) -> Check | None:
    least = said.gte if said.HasField("gte") else -_UNLIMITED
    most = said.lte if said.HasField("lte") else _UNLIMITED
    # The other way round they mean what lies outside.
    return (lambda number: least <= number <= most) if least <= most else None


_TEXT_RULES = {"min_bytes", "max_bytes"}
# By kind of rule: the names that are known, and what makes the check.
_CHECKS: dict[str, tuple[set[str], Callable[[Any, Any], Check | None]]] = {
    "string": (_TEXT_RULES, _text),
    "enum": ({"defined_only"}, _enum),
    "int32": ({"gte", "lte"}, _integer),
    "int64": ({"gte", "lte"}, _integer),
    "repeated": ({"min_items", "max_items", "unique", "items"}, _texts),
}
