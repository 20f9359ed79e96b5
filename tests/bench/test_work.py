"""Batch work is measured in pairs, each on a part of its own."""

from types import SimpleNamespace

import pytest

from tests.bench.pairs import Bench, Goal
from tests.bench.work import Work, also, compared, each_part, timed

BENCH = Bench(name="b", what="w", peer_name="p", goals=(Goal(figure="per_s", at_least=2.0),))


def test_every_part_is_done_once_by_each_side_and_the_ratio_is_of_rates():
    done = {"ours": [], "peer": []}

    def side(name, rate):
        def run(part):
            done[name].append(part)
            return Work(per_s=rate, per_cpu_s=rate)

        return each_part(run, [0, 1, 2])

    found = compared(BENCH, side("ours", 6.0), side("peer", 2.0), 3, seen=lambda: len(done["ours"]))
    assert done == {"ours": [0, 1, 2], "peer": [0, 1, 2]}
    assert (found["ratio"], found["pairs"], found["reached"], found["seen"]) == (3.0, 3, True, 3)


def test_a_goal_that_is_no_ratio_counts_too():
    found = compared(BENCH, *[lambda: Work(per_s=1.0, per_cpu_s=1.0)] * 2, 1)
    assert not also(found | {"reached": True}, reached=False, goal="equal error")["reached"]
    assert also(found | {"reached": True}, reached=True, goal="equal error")["reached"]
    assert not also(found, reached=True, goal="equal error")["reached"]


def test_work_is_timed_by_the_clock_and_by_cpu(monkeypatch):
    # The real ones would count what other tests' threads do in this process.
    clock = {"wall": 100.0, "cpu": 7.0}
    fake = SimpleNamespace(perf_counter=lambda: clock["wall"], process_time=lambda: clock["cpu"])
    monkeypatch.setattr("tests.bench.work.time", fake)

    def run():
        clock["wall"] += 0.05
        clock["cpu"] += 0.01

    work = timed(10, run)
    assert work.per_s == pytest.approx(200)
    assert work.per_cpu_s == pytest.approx(1000)
    assert work.per_cpu_s > 4 * work.per_s
