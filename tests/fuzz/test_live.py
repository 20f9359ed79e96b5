"""A short form of `make fuzz-live`."""

import random

import pytest

from tests.fuzz.live import Outcome, _bent, run

COUNT = 1500


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_requests_find_no_fault_and_no_growth(tmp_path, trust):
    outcome = run(tmp_path, 100_000, seed=0)
    trust("requests fuzzed", outcome.sent, outcome.losses)
    assert outcome.faults == []
    assert outcome.is_alive
    assert not outcome.has_grown, outcome.rss_mib


def test_random_requests_find_no_fault_and_leave_the_gateway_as_it_was(tmp_path, trust):
    outcome = run(tmp_path, COUNT, seed=20261124)
    trust("requests fuzzed", outcome.sent, outcome.losses)
    assert outcome.faults == []
    assert outcome.is_alive
    assert not outcome.has_grown, outcome.rss_mib
    assert outcome.sent == COUNT
    codes = {name.split()[1] for name in outcome.codes}
    # It got past every door, not only up to the first.
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED"} <= codes
    answered = {name.split()[0] for name in outcome.codes if name.endswith(" OK")}
    assert {"RecordEvents", "GetInterest", "RecommendItems", "ListModels"} <= answered


def test_growth_and_death_are_losses():
    flat = Outcome(rss_mib=[90.0, 100.0, 101.0, 100.0, 102.0, 101.0], is_alive=True)
    assert (flat.has_grown, flat.losses) == (False, 0)
    leak = Outcome(rss_mib=[90.0, 100.0, 120.0, 140.0, 160.0, 180.0], is_alive=True)
    assert (leak.has_grown, leak.losses) == (True, 1)
    assert Outcome(rss_mib=[90.0, 90.0]).losses == 1
    assert Outcome(rss_mib=[90.0, 90.0], faults=["x"], is_alive=True).losses == 1


def test_bent_bytes_differ_from_the_message():
    rng = random.Random(1)
    assert sum(_bent(b"\x0a\x03abc", rng) != b"\x0a\x03abc" for _ in range(50)) == 50
