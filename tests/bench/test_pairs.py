"""Pairs, ratios, goals, and the page made of them."""

import json

import pytest

from tests.bench import page, pairs
from tests.bench.pairs import Bench, Figures, Goal


def figures(rate=100.0, cpu=1.0):
    return Figures(calls_per_s=rate, cpu_ms_per_call=cpu, p50_ms=2.0, p99_ms=4.0)


BENCH = Bench(
    name="b",
    what="w <x>",
    peer_name="p",
    goals=(Goal(figure="calls_per_s", at_least=3.0), Goal(figure="cpu_ms_per_call", at_least=2.0)),
)


def test_sides_take_turns_in_going_first():
    order = []

    def side(name):
        order.append(name)
        return figures()

    ours, peer = pairs.in_pairs(lambda: side("ours"), lambda: side("peer"), 3)
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert len(ours) == len(peer) == 3


def test_a_ratio_is_the_median_of_the_pairs_and_less_cpu_counts_for_ours():
    ours = [figures(300, 0.5), figures(400, 0.5), figures(100, 0.25)]
    peer = [figures(100, 1.0), figures(100, 2.0), figures(100, 0.5)]
    found = pairs.report(BENCH, ours, peer)
    assert found["ratio"] == 3.0
    assert found["spread"] == [1.0, 4.0]
    assert found["ratios"]["cpu_ms_per_call"] == {"median": 2.0, "low": 2.0, "high": 4.0}
    assert found["ours"]["calls_per_s"] == 300
    assert found["reached"] is True


@pytest.mark.parametrize(("rate", "cpu"), [(299.0, 0.5), (300.0, 0.51)])
def test_a_bench_is_reached_only_where_every_goal_is(rate, cpu):
    found = pairs.report(BENCH, [figures(rate, cpu)], [figures(100, 1.0)])
    assert found["reached"] is False
    assert "NOT reached" in pairs.line(found)


def test_a_result_says_all_that_is_asked_of_it_and_makes_a_page(tmp_path):
    path = pairs.write(pairs.report(BENCH, [figures(350)] * 5, [figures()] * 5), tmp_path)
    found = json.loads(path.read_text())
    assert {"name", "ours", "peer", "ratio", "pairs", "machine", "versions", "goal", "reached"} <= (
        found.keys()
    )
    (tmp_path / "other.json").write_text('{"name": "other", "ratio": 2.5}')
    (tmp_path / "freshness.json").write_text('{"name": "freshness"}')
    text = page.write_page(tmp_path).read_text()
    assert text.count("<circle") == 5 + 1
    assert "3.50x" in text
    assert "2.50x" in text
    assert "w &lt;x&gt;" in text
    assert "freshness" not in text


def test_a_page_of_nothing_says_so(tmp_path):
    assert "Nothing was measured" in page.write_page(tmp_path).read_text()
