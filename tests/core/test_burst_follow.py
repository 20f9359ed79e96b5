from dataclasses import replace

import numpy as np
import pytest

from services.core.burst_follow import follow
from services.core.burst_forecasts import known_from, known_of
from services.core.burst_state import BurstType
from services.core.bursts import detect, new_state
from services.core.trajectories import TrajectoryBatch
from tests.core.burst_model import batch, machine, model, with_burst


def planted():
    rng = np.random.default_rng(7)
    b = batch(users=5, periods=30, mask=rng.random((5, 30)) < 0.8)
    b = with_burst(b, 0, range(14, 20), topic=2, share=0.7)
    b = with_burst(b, 1, range(26, 30), topic=3, share=0.7)
    return machine(b, 2, int(np.flatnonzero(b.mask_UT[2])[20]))


def columns(b, start, stop):
    return TrajectoryBatch(
        vec_UTD=b.vec_UTD[:, start:stop], mask_UT=b.mask_UT[:, start:stop],
        count_UT=b.count_UT[:, start:stop],
    )  # fmt: skip


@pytest.mark.parametrize("step", [1, 4, 29])
def test_following_in_steps_is_following_at_once(step):
    m, b = model(), planted()
    whole = follow(m, new_state(m, 5, period=100), b)
    state, changes, moved = new_state(m, 5, period=100), [], {}
    for start in range(0, 30, step):
        part = follow(m, state, columns(b, start, start + step))
        state = part.state
        changes.append(part.changes)
        moved |= part.moved
    for name in state.__slots__:
        np.testing.assert_array_equal(getattr(state, name), getattr(whole.state, name))
    for name in whole.changes.__slots__:
        told = np.concatenate([getattr(one, name) for one in changes])
        np.testing.assert_array_equal(told, getattr(whole.changes, name))
    assert moved.keys() == whole.moved.keys()
    assert len(whole.changes.user_R) > 5


def test_changes_tell_of_onset_growth_and_end_with_what_was_known_then():
    m = model()
    b = with_burst(batch(), 2, range(15, 18), topic=3, share=0.6)
    changes = follow(m, new_state(m, 6), b).changes
    assert changes.user_R.tolist() == [2, 2, 2, 2]
    assert changes.period_R.tolist() == [15, 16, 17, 18]
    assert changes.past_RM4[:, 0, :3].tolist() == [
        [3, 15, 15],
        [3, 15, 16],
        [3, 15, 17],
        [3, 15, 17],
    ]
    assert changes.is_lasting_R.tolist() == [True, True, True, False]
    assert (np.diff(changes.peak_RM[:, 0]) >= 0).all()
    assert changes.peak_RM[-1, 0] > 0.4


def test_closes_that_are_asked_for_are_told_of_without_a_change():
    m, asked = model(), np.zeros((6, 30), bool)
    asked[4, 11] = True
    changes = follow(m, new_state(m, 6), batch(), asked_UT=asked).changes
    assert (changes.user_R.tolist(), changes.period_R.tolist()) == ([4], [11])
    assert (changes.past_RM4[0, :, 1] < 0).all()


def test_what_a_state_remembers_is_what_was_detected():
    m, b = model(), planted()
    remembered = known_from(follow(m, new_state(m, 5), b).state, b)
    detected = known_of(detect(m, b), b)
    assert detected.is_burst_UT.sum() > 5
    for name in remembered.__slots__:
        np.testing.assert_array_equal(getattr(remembered, name), getattr(detected, name))


def test_a_machine_is_remembered_beside_bursts_and_does_not_end_one():
    m, b = model(), with_burst(batch(), 2, range(15, 20), topic=3, share=0.6)
    b = machine(b, 2, 17)
    past_M4 = follow(m, new_state(m, 6), b).state.past_UM4[2]
    kinds = [BurstType(kind) for kind in past_M4[:2, 3].tolist()]
    assert kinds == [BurstType.AUTOMATED, BurstType.PERSONAL]
    assert past_M4[0, :3].tolist() == [-1, 17, 17]
    assert past_M4[1, :3].tolist() == [3, 15, 19]


def test_only_the_last_bursts_are_kept_newest_first():
    b = batch(periods=60)
    for start in range(10, 58, 8):
        b = with_burst(b, 1, range(start, start + 2), topic=1 + start % 3, share=0.7)
    m = replace(model(), seasons=())
    past_M4 = follow(m, new_state(m, 6), b).state.past_UM4[1]
    assert past_M4[:, 1].tolist() == [50, 42, 34, 26]
