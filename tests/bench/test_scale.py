"""The benchmark of growth copies what it says, and its two figures are judged apart."""

from dataclasses import replace

import polars as pl

from tests.bench.scale import Cost, copy_of, measure, result, slope_of
from tests.bench.test_refresh_delta import Toy, planted


def cost(size, cpu_s, peak_mib):
    return Cost(
        size=size, events=1000 * size, cpu_s=cpu_s, wall_s=cpu_s, peak_mib=peak_mib, vectors=0,
        forecasts=0, cpu_s_by_step={},
    )  # fmt: skip


def test_copies_are_other_users_with_as_many_events_none_after_the_last():
    events = planted().drop("text", "categories")
    copies = [copy_of(events, number) for number in range(2)]
    both = pl.concat(copies)
    assert both["user_id"].n_unique() == 2 * events["user_id"].n_unique()
    assert both["event_id"].n_unique() == 2 * len(events)
    assert both["event_time"].max() <= events["event_time"].max()
    assert copies[0]["event_time"].to_list() != copies[1]["event_time"].to_list()
    assert copy_of(events, 1).equals(copies[1])


def test_linear_cost_has_slope_one_and_growing_memory_is_told():
    costs = [cost(size, 2.0 * size, 100 + size) for size in (1, 4, 16)]
    assert abs(slope_of(costs) - 1) < 1e-9
    assert result(costs, 10)["reached"]
    costs[-1] = replace(costs[-1], peak_mib=250)
    assert not result(costs, 10)["reached"]
    costs[-1] = replace(costs[-1], peak_mib=100, cpu_s=64.0)
    assert not result(costs, 10)["reached"]


def test_a_size_publishes_vectors_and_forecasts_of_all_its_copies(tmp_path):
    (found,) = measure(tmp_path, planted(), (2,), Toy())
    assert found.events == 2 * len(planted())
    assert found.vectors > 0
    assert found.forecasts > 0
    assert set(found.cpu_s_by_step) == {"inbox", "intake", "items", "interests", "forecasts"}
    assert 0 < sum(found.cpu_s_by_step.values()) <= found.cpu_s * 1.01
