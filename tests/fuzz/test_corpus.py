"""What fuzzing kept is replayed, and random inputs beside it: a find that was mended stays mended."""

import random
from pathlib import Path

import pytest

from services.core.access import INTERNAL_SERVICES, RPC_SCOPES
from tests.fuzz.generate import RandomChoices, message
from tests.fuzz.targets import REQUESTS, TARGETS

CORPUS = Path(__file__).parent / "corpus"


def entries(target: str) -> list[Path]:
    return sorted((CORPUS / target).iterdir())


@pytest.mark.parametrize("target", TARGETS)
def test_the_kept_corpus_ends_in_an_answer_or_a_named_refusal(target):
    outcomes = {path.name: TARGETS[target](path.read_bytes()) for path in entries(target)}
    assert len(outcomes) > 10
    # Both happen: a corpus that is refused at the door would test nothing.
    assert len(set(outcomes.values())) > 1
    assert "taken" in outcomes.values()


def test_every_request_of_the_contracts_is_fuzzed():
    from tests.core.test_access import rpcs

    services = rpcs()
    methods = sum(len(names) for names in services.values())
    assert len(REQUESTS) == methods
    assert len(RPC_SCOPES) - 1 == methods - sum(len(services[name]) for name in INTERNAL_SERVICES)


def test_structured_random_requests_are_answered_or_refused():
    outcomes = set()
    for seed in range(600):
        row = seed % len(REQUESTS)
        wire = message(REQUESTS[row][0], RandomChoices(seed)).SerializeToString()
        outcomes.add(TARGETS["requests"](bytes([row, 0]) + wire))
    assert {"taken", "InvalidRequest"} <= outcomes


def test_random_bytes_are_answered_or_refused():
    rng = random.Random(7)
    for _ in range(600):
        TARGETS["requests"](rng.randbytes(rng.randrange(120)))
    seeds = [path.read_bytes() for path in entries("files")]
    for _ in range(60):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        TARGETS["files"](bytes(data))
