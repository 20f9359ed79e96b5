"""What is plainly right is right: protovalidate finds nothing in it, whatever the message."""

import random

import pytest
from driftline.v1 import interest_service_pb2 as pb
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor as Field

from services.core.access import RPC_SCOPES
from services.runtime.errors import InvalidRequest
from services.runtime.validation import shared_rules

RULES = shared_rules()
SERVICES = sorted({name.split("/")[0] for name in RPC_SCOPES if name.startswith("driftline.")})
REQUESTS = sorted({name for service in SERVICES for name in RULES.requests_of(service)})
# Around every bound that the contracts have, and the bytes of characters.
SIZES = (0, 1, 2, 9, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 600)
INTEGERS = (-(2**31), -1, 0, 1, 2, 52, 53, 100, 200, 201, 365, 366, 367, 500, 501, 2**31 - 1)
FLOATS = (float("nan"), float("inf"), -1.0, 0.0, 0.5, 1.0, 1.5)
READS = [
    pb.GetInterestRequest(user_id="u"),
    pb.GetInterestRequest(user_id="é" * 64, granularity=3, period="2026"),
    pb.GetTrajectoryRequest(user_id="u", granularity=2, page_size=366, page_token="t" * 16),
    pb.BatchGetInterestsRequest(user_ids=[f"user-{n}" for n in range(500)], granularity=1),
]
NOT_PLAIN = [
    pb.GetInterestRequest(),
    pb.GetInterestRequest(user_id="u", granularity=9),
    pb.GetInterestRequest(user_id="u", period="2026-W48-and-more"),
    pb.GetInterestRequest(user_id="é" * 129),
    pb.GetTrajectoryRequest(user_id="u", page_size=-1),
    pb.GetTrajectoryRequest(user_id="u", page_size=367),
    pb.BatchGetInterestsRequest(),
    pb.BatchGetInterestsRequest(user_ids=["a", "b", "a"]),
    pb.BatchGetInterestsRequest(user_ids=["a", ""]),
    pb.BatchGetInterestsRequest(user_ids=["a", "b" * 257]),
    pb.BatchGetInterestsRequest(user_ids=[f"user-{n}" for n in range(501)]),
]


def message_type(full_name: str):
    found = descriptor_pool.Default().FindMessageTypeByName(full_name)
    return message_factory.GetMessageClass(found)


VALUES = {
    Field.TYPE_STRING: lambda rng: rng.choice("aé🦊") * rng.choice(SIZES),
    Field.TYPE_BYTES: lambda rng: b"x" * rng.choice(SIZES),
    Field.TYPE_BOOL: lambda rng: rng.random() < 0.5,
    Field.TYPE_ENUM: lambda rng: rng.choice((0, 1, 2, 3, 7, 99)),
    Field.TYPE_FLOAT: lambda rng: rng.choice(FLOATS),
    Field.TYPE_DOUBLE: lambda rng: rng.choice(FLOATS),
}


def some_value(field, rng: random.Random):
    if field.type == Field.TYPE_MESSAGE:
        return some_message(message_factory.GetMessageClass(field.message_type), rng)
    return VALUES.get(field.type, lambda rng: rng.choice(INTEGERS))(rng)


def some_message(kind, rng: random.Random):
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if rng.random() < 0.5:
            continue
        if not field.is_repeated:
            value = some_value(field, rng)
            if field.type == Field.TYPE_MESSAGE:
                getattr(message, field.name).CopyFrom(value)
            else:
                setattr(message, field.name, value)
        else:
            values = [some_value(field, rng) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
            getattr(message, field.name).extend(values)
    return message


def is_plain(message) -> bool:
    """Tell whether a message passes without the validator, which is asked where it does not."""
    plain = RULES._plain_named(message.DESCRIPTOR.full_name)
    return plain is not None and plain.holds(message)


@pytest.mark.parametrize("full_name", REQUESTS)
def test_nothing_is_wrong_with_what_is_plain(full_name):
    rng, kind = random.Random(full_name), message_type(full_name)
    for _ in range(300):
        message = some_message(kind, rng)
        if is_plain(message):
            assert RULES.violations(full_name, message.SerializeToString()) == (), message


@pytest.mark.parametrize("request_", READS)
def test_usual_reads_are_plain(request_):
    assert is_plain(request_)
    data = request_.SerializeToString()
    assert RULES.parsed(request_.DESCRIPTOR.full_name, data, type(request_).FromString) == request_


@pytest.mark.parametrize("request_", NOT_PLAIN)
def test_what_breaks_a_rule_is_not_plain_and_refused(request_):
    assert not is_plain(request_)
    data = request_.SerializeToString()
    with pytest.raises(InvalidRequest):
        RULES.parsed(request_.DESCRIPTOR.full_name, data, type(request_).FromString)


def test_what_is_right_but_not_plain_passes_too():
    request = pb.GetInterestRequest(user_id="é" * 128, as_of={"event_time": {"seconds": 5}})
    assert not is_plain(request)
    data = request.SerializeToString()
    assert RULES.parsed(request.DESCRIPTOR.full_name, data, type(request).FromString) == request


@pytest.mark.parametrize("data", [b"\x0a\xff", b"\x0a\x01\xff", b"\x0a"])
def test_bytes_that_do_not_parse_are_refused(data):
    name = pb.GetInterestRequest.DESCRIPTOR.full_name
    with pytest.raises(InvalidRequest, match="is not a valid"):
        RULES.parsed(name, data, pb.GetInterestRequest.FromString)
