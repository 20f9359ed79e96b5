"""The benchmark of workers judges speed and equality apart."""

import time

import pytest

from services.core.schema import DEFAULT_TENANT
from tests.bench.test_refresh_delta import Toy, planted
from tests.bench.work import Work
from tests.bench.workers import Side, filled, judged


def work(per_s):
    return [Work(per_s=per_s, per_cpu_s=per_s)]


@pytest.mark.parametrize(("other", "is_reached"), [("a", True), ("b", False)])
def test_a_faster_side_that_stores_otherwise_has_not_reached_the_goal(other, is_reached):
    runs = {"ours": work(18.0), "peer": work(10.0), "here": work(11.0)}
    found = judged(runs, {"ours": "a", "peer": other, "here": "a"}, 4)
    assert (found["ratio"], found["here"]["per_s"]) == (1.8, 11.0)
    assert found["reached"] is is_reached


def test_a_turn_publishes_its_buckets_and_only_once(tmp_path):
    from services.backfill.here import InThisProcess

    settings = filled(tmp_path, planted(), Toy(), 4)
    here = InThisProcess(settings, DEFAULT_TENANT)
    side = Side(settings=settings, compute=here, workers=1, cpu_s=time.process_time)
    assert side.run(range(4)).per_s > 0
    with pytest.raises(AssertionError, match="nothing was published"):
        side.run(range(4))
    assert side.digest() == side.digest()
