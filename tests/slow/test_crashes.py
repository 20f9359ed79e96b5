"""kill -9 at random points of the write path: nothing acknowledged is lost, nothing is doubled or half done."""

import pytest

from tests.slow.crashing import STEPS, Crashes


def run(folder, trust, *, kills, verify_every, seed):
    trust("kills", 0)  # whatever ends the test before the count is one of theirs
    crashes = Crashes(folder, seed=seed)
    crashes.run(kills, verify_every)
    trust("kills", sum(crashes.kills.values()), len(crashes.losses))
    print(f"{crashes.acknowledged} events acknowledged; the doctor mended {dict(crashes.found)}")
    assert crashes.losses == []
    assert set(crashes.kills) == set(STEPS)
    assert crashes.acknowledged > 0


@pytest.mark.timeout(900)
def test_a_writer_killed_in_each_step_loses_and_doubles_nothing(tmp_path, trust):
    run(tmp_path, trust, kills=6, verify_every=6, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_hundred_kills_lose_and_double_nothing(tmp_path, trust):
    run(tmp_path, trust, kills=306, verify_every=18, seed=2)
