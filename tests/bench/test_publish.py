"""The benchmark of publishing writes the same bytes both ways."""

from tests.bench.publish import measure


def test_both_sides_store_every_row_and_the_same_bytes(tmp_path):
    found = measure(40, 2, tmp_path)  # compares what both stored
    assert (found["name"], found["pairs"]) == ("publish", 2)
    assert all(run["per_s"] > 0 for side in found["runs"].values() for run in side)
