from tests.bench.processes import measure


def test_both_sides_answer_every_call_and_all_processes_are_counted():
    found = measure(pairs=1, seconds=0.4, users=20)
    assert found["ours"]["calls_per_s"] > 0
    assert found["peer"]["cpu_ms_per_call"] > 0
    assert (
        found["ratio"]
        == found["runs"]["ours"][0]["calls_per_s"] / found["runs"]["peer"][0]["calls_per_s"]
    )
