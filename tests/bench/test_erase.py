"""The benchmark of erasure erases whom it says, and rewrites what they lie in."""

from tests.bench.erase import measure


def test_both_benches_run_and_leave_no_receipt_pending(tmp_path):
    one, many = measure(40, 5, 2, tmp_path)  # looks for events and pending receipts after each run
    assert (one["name"], many["name"]) == ("erase-one", "erase-many")
    assert all(run["per_s"] > 0 for side in many["runs"].values() for run in side)
