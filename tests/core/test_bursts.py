from dataclasses import replace

import numpy as np
import pytest

from services.core.burst_forecasts import BurstAware
from services.core.burst_state import BurstType
from services.core.bursts import (
    advance_population,
    detect,
    measure,
    new_population,
    new_state,
    update,
)
from tests.core.burst_model import (
    TOPIC_VECS,
    WIDTH,
    batch,
    model,
    with_burst,
)


def test_a_large_burst_is_found_where_it_starts_and_ends_where_it_ends():
    found = detect(model(), with_burst(batch(), 2, range(15, 18), topic=3, share=0.6))
    assert np.argwhere(found.onset).tolist() == [[2, 15]]
    assert found.topic[2, 15:18].tolist() == [3, 3, 3]
    assert found.kind[2, 14:19].tolist() == [0, 1, 1, 1, 0]
    assert 0.4 < found.share[2, 16] < 0.9


def test_users_as_they_are_raise_no_alarm():
    assert not detect(model(), batch(users=40)).onset.any()


def test_few_events_are_wide_noise_and_the_same_move_is_no_burst():
    moved = with_burst(batch(events=20), 2, [15], topic=3, share=0.6)
    few = replace(moved, count_UT=np.ones_like(moved.count_UT))
    assert detect(model(), moved).onset[2, 15]
    assert not detect(model(), few).onset.any()


def test_evidence_of_a_burst_too_small_to_tell_at_once_adds_up():
    slow = replace(model().level, rho_K=np.full(WIDTH, 0.999, np.float32))
    m, b = model(level=slow, threshold=np.inf), with_burst(batch(), 1, range(20, 24), 4, 0.35)
    state, evidence = new_state(m, 6), []
    for t in range(24):
        state, _ = update(m, state, b.vec_UTD[:, t], b.mask_UT[:, t], b.count_UT[:, t])
        evidence.append(state.evidence_UG[1, 4])
    assert evidence[19] < evidence[20] < evidence[22]
    assert evidence[22] > 1.3 * evidence[20]


def test_online_and_batch_are_equal_user_by_user():
    rng = np.random.default_rng(7)
    b = batch(users=5, periods=24, mask=rng.random((5, 24)) < 0.6)
    b = with_burst(b, 0, range(14, 20), topic=2, share=0.7)
    bulk_UT = np.zeros((5, 24), bool)
    bulk_UT[3, 9] = True
    m = model(threshold=2.0)
    whole = detect(m, b, bulk_UT=bulk_UT)
    everyone, of_all, risen = new_population(m), new_state(m, 5), []
    for t in range(24):
        found = measure(m, of_all, b.vec_UTD[:, t], b.mask_UT[:, t], b.count_UT[:, t])
        everyone, risen_G = advance_population(everyone, found.moved())
        risen.append(risen_G)
        of_all, _ = update(
            m, of_all, b.vec_UTD[:, t], b.mask_UT[:, t], b.count_UT[:, t],
            risen_G=risen_G, bulk_U=bulk_UT[:, t],
        )  # fmt: skip
    assert whole.onset.any()
    for user in range(5):
        state, one = new_state(m, 1), slice(user, user + 1)
        for t in range(24):
            state, told = update(
                m, state, b.vec_UTD[one, t], b.mask_UT[one, t], b.count_UT[one, t],
                risen_G=risen[t], bulk_U=bulk_UT[one, t],
            )  # fmt: skip
            assert told.kind[0] == whole.kind[user, t]
            assert told.onset[0] == whole.onset[user, t]
            assert told.topic[0] == whole.topic[user, t]
            assert told.share[0] == pytest.approx(whole.share[user, t], abs=1e-9)


def test_a_state_stays_as_large_as_it_was():
    m, b = model(), batch(users=1, periods=60)
    state = new_state(m, 1)
    sizes = {name: np.shape(getattr(state, name)) for name in state.__slots__}
    for t in range(60):
        state, _ = update(m, state, b.vec_UTD[:, t], b.mask_UT[:, t], b.count_UT[:, t])
    assert {name: np.shape(getattr(state, name)) for name in state.__slots__} == sizes


def test_nothing_later_changes_what_was_said():
    b = with_burst(batch(), 2, range(15, 18), topic=3, share=0.6)
    m = model(threshold=3.0)
    early, late = detect(m, b.until(17)), detect(m, b).until(17)
    for name in ("kind", "onset", "topic", "share"):
        np.testing.assert_array_equal(getattr(early, name), getattr(late, name))


def test_what_a_gap_holds_changes_nothing():
    mask = np.random.default_rng(3).random((6, 30)) < 0.7
    b = batch(mask=mask)
    dirty = replace(
        b,
        vec_UTD=np.where(mask[:, :, None], b.vec_UTD, np.float32(5.0)),
        count_UT=np.where(mask, b.count_UT, 999),
    )
    clean, same = detect(model(threshold=1.0), b), detect(model(threshold=1.0), dirty)
    np.testing.assert_array_equal(clean.kind, same.kind)
    assert (clean.kind[~mask] == BurstType.NONE).all()


def test_what_lasts_becomes_the_level_and_is_not_told_of_again():
    b = with_burst(batch(periods=50), 0, range(15, 50), topic=3, share=0.7)
    found = detect(model(longest=5), b)
    assert found.onset[0].sum() == 1
    assert found.kind[0, 25:].max() == BurstType.NONE


def test_the_same_topic_for_everyone_is_population_wide():
    b = batch(users=20)
    for user in range(12):
        b = with_burst(b, user, [15], topic=3, share=0.6)
    b = with_burst(b, 15, [20], topic=4, share=0.6)
    found = detect(model(), b)
    assert (found.kind[:12, 15] == BurstType.POPULATION).all()
    assert found.kind[15, 20] == BurstType.PERSONAL


def test_a_burst_a_season_after_the_same_one_is_seasonal():
    b = with_burst(batch(), 0, [8], topic=3, share=0.6)
    b = with_burst(with_burst(b, 0, [18], topic=3, share=0.6), 0, [28], topic=4, share=0.6)
    found = detect(model(), b)
    assert found.kind[0, [8, 18, 28]].tolist() == [
        BurstType.PERSONAL, BurstType.SEASONAL, BurstType.PERSONAL,
    ]  # fmt: skip


def test_bulk_days_and_counts_beyond_a_person_are_automated():
    b = batch()
    count = b.count_UT.copy()
    count[1, 15] = 800
    bulk_UT = np.zeros(count.shape, bool)
    bulk_UT[2, 16] = True
    found = detect(model(), replace(b, count_UT=count), bulk_UT=bulk_UT)
    assert found.kind[1, 15] == found.kind[2, 16] == BurstType.AUTOMATED
    assert np.argwhere(found.onset).tolist() == [[1, 15], [2, 16]]


def test_forecasts_without_a_burst_are_the_inner_ones_number_for_number():
    m = model()
    inner = m.level
    plain, aware = (
        inner.forecast(batch(), [1, 4]),
        BurstAware(inner=inner, model=m).forecast(batch(), [1, 4]),
    )
    np.testing.assert_array_equal(plain.means_UHD, aware.means_UHD)
    np.testing.assert_array_equal(plain.scales_UHD, aware.scales_UHD)


def test_a_forecast_widens_in_a_burst_and_recovers_after_it():
    m = model()
    b = with_burst(batch(), 2, range(15, 18), topic=3, share=0.6)
    aware = BurstAware(inner=m.level, model=m)
    width = {
        column: aware.forecast(b.until(column), [1]).scales_UHD[2].mean() for column in (15, 16, 24)
    }
    assert width[16] > 1.05 * width[15]
    assert width[24] < 1.01 * width[15]
    plain, told = m.level.forecast(b.until(16), [1]), aware.forecast(b.until(16), [1])
    towards = lambda made: float(made.means_UHD[2, 0] @ TOPIC_VECS[3])  # noqa: E731
    assert towards(told) > towards(plain) + 0.05
    others = np.arange(6) != 2
    np.testing.assert_array_equal(told.means_UHD[others], plain.means_UHD[others])
