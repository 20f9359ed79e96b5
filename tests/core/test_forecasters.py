import json
from dataclasses import replace

import numpy as np
import pytest

from services.core.errors import InvalidArgument
from services.core.forecasters import (
    LocalLevel,
    ema_level,
    forecaster_of,
    persistence_level,
    untrained_spec,
)
from services.core.gru import GruForecaster, GruModel
from services.core.model import ForecasterSpec
from services.core.trajectories import TrajectoryBatch, build_batch, grid

WIDTH = 3
HORIZONS = [1, 2, 4, 9]
CENTRE = np.array([0.2, 0.1, 0.0], np.float32)


def batch(seed=0, users=6, periods=10):
    rng = np.random.default_rng(seed)
    mask = rng.random((users, periods)) < 0.6
    mask[:, 0] = True
    vec = rng.normal(size=(users, periods, WIDTH))
    vec /= np.linalg.norm(vec, axis=2, keepdims=True)
    count = rng.integers(1, 20, (users, periods)) * mask
    return TrajectoryBatch(
        vec_UTD=(vec * mask[:, :, None]).astype(np.float32), mask_UT=mask, count_UT=count
    )


def level():
    return LocalLevel(
        centre_D=CENTRE,
        rho_D=np.array([0.9, 0.95, 0.99], np.float32),
        variance_D=np.array([0.1, 0.2, 0.05], np.float32),
        noise_D=np.array([0.3, 0.2, 0.4], np.float32),
    )


def spec(choice=("gru", "local_level", "shrunk_ema", "ema")):
    import torch

    torch.manual_seed(3)
    model = GruModel(WIDTH, 4, 5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.3)
    arrays = {"centre_D": CENTRE, **GruForecaster(model=model, base=level()).arrays()}
    for part in ("rho_D", "variance_D", "noise_D"):
        arrays[f"local_level.{part}"] = getattr(level(), part)
    members = {
        "gru": {}, "local_level": {}, "persistence": {}, "mean": {}, "ema": {"half_life": 4.0},
        "shrunk_ema": {"half_life": 8.0, "shrink": 2.0},
    }  # fmt: skip
    for name, params in members.items():
        params["factors"] = [1.0, 1.1, 1.2, 1.3]
        if name not in ("gru", "local_level"):
            arrays[f"{name}.var0_D"] = np.full(WIDTH, 0.2, np.float32)
            arrays[f"{name}.var1_D"] = np.full(WIDTH, 0.01, np.float32)
    return ForecasterSpec(config={"members": members, "choice": list(choice)}, arrays=arrays)


MEMBERS = ("persistence", "mean", "ema", "shrunk_ema", "local_level", "gru")


def member(name):
    return forecaster_of(spec()).members[name]


def users(b, rows):
    return TrajectoryBatch(
        vec_UTD=b.vec_UTD[rows], mask_UT=b.mask_UT[rows], count_UT=b.count_UT[rows]
    )


def padded(b, columns, *, at_end=False):
    widths = (0, columns) if at_end else (columns, 0)
    return TrajectoryBatch(
        vec_UTD=np.pad(b.vec_UTD, ((0, 0), widths, (0, 0))),
        mask_UT=np.pad(b.mask_UT, ((0, 0), widths)),
        count_UT=np.pad(b.count_UT, ((0, 0), widths)),
    )


def assert_equal(a, b):
    np.testing.assert_allclose(a.means_UHD, b.means_UHD, atol=1e-5)
    np.testing.assert_allclose(a.scales_UHD, b.scales_UHD, atol=1e-5)


@pytest.mark.parametrize("name", MEMBERS)
def test_empty_periods_in_front_change_nothing(name):
    assert_equal(
        member(name).forecast(batch(), HORIZONS),
        member(name).forecast(padded(batch(), 7), HORIZONS),
    )


@pytest.mark.parametrize("name", MEMBERS)
def test_what_a_gap_holds_changes_nothing(name):
    b = batch()
    dirty = replace(
        b,
        vec_UTD=np.where(b.mask_UT[:, :, None], b.vec_UTD, np.float32(7.0)),
        count_UT=np.where(b.mask_UT, b.count_UT, 99),
    )
    assert_equal(member(name).forecast(b, HORIZONS), member(name).forecast(dirty, HORIZONS))


@pytest.mark.parametrize("name", MEMBERS)
def test_a_user_alone_gets_the_row_of_the_batch(name):
    b = batch()
    together = member(name).forecast(b, HORIZONS)
    for u in range(6):
        alone = member(name).forecast(users(b, [u]), HORIZONS)
        np.testing.assert_allclose(alone.means_UHD[0], together.means_UHD[u], atol=1e-5)
        np.testing.assert_allclose(alone.scales_UHD[0], together.scales_UHD[u], atol=1e-5)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_gap_and_a_longer_horizon_widen_the_scale(name):
    b = users(batch(), [0, 1])
    b = replace(b, mask_UT=b.mask_UT | (np.arange(10) == 9))
    near = member(name).forecast(b, [1]).scales_UHD
    after_gap = member(name).forecast(padded(b, 3, at_end=True), [1]).scales_UHD
    assert (after_gap > near).all()
    if name != "gru":  # its head says so itself for each horizon
        flat = member(name).forecast(b, [1, 5]).scales_UHD / np.sqrt([[[1.0], [1.3]]])
        assert (flat[:, 1] > flat[:, 0]).all()


@pytest.mark.parametrize("name", MEMBERS)
def test_what_comes_later_changes_nothing(name):
    b = batch()
    later = replace(b, vec_UTD=b.vec_UTD.copy(), mask_UT=b.mask_UT.copy())
    later.vec_UTD[:, 6:], later.mask_UT[:, 6:] = 1.0, True
    assert_equal(
        member(name).forecast(b.until(6), HORIZONS), member(name).forecast(later.until(6), HORIZONS)
    )


@pytest.mark.parametrize("name", MEMBERS)
def test_a_user_without_vectors_gets_a_finite_wide_forecast(name):
    b = batch()
    empty = TrajectoryBatch(
        vec_UTD=np.zeros_like(b.vec_UTD),
        mask_UT=np.zeros_like(b.mask_UT),
        count_UT=np.zeros_like(b.count_UT),
    )
    made = member(name).forecast(empty, HORIZONS)
    assert np.isfinite(made.means_UHD).all()
    assert (made.scales_UHD > 0).all()
    if name != "gru":
        np.testing.assert_allclose(
            made.means_UHD, np.broadcast_to(CENTRE, made.means_UHD.shape), atol=1e-6
        )


def line(*values):
    """One user, width 1; None is a gap."""
    vec = np.array([[[0.0 if v is None else v] for v in values]], np.float32)
    mask = np.array([[v is not None for v in values]])
    return TrajectoryBatch(vec_UTD=vec, mask_UT=mask, count_UT=mask.astype(np.int64) * 4)


def test_levels_by_hand():
    zero = np.zeros(1, np.float32)
    assert persistence_level(line(1.0, 0.5, None), zero).tolist() == [[0.5]]
    np.testing.assert_allclose(ema_level(line(1.0, None, 0.5), zero, np.inf), [[0.75]])
    # Weights 1/4 and 1 at a half-life of one period.
    np.testing.assert_allclose(ema_level(line(1.0, None, 0.5), zero, 1.0), [[0.75 / 1.25]])
    # Shrunk: the same weights times 4 ** .34, and 2 at zero.
    power = 4**0.34
    np.testing.assert_allclose(
        ema_level(line(1.0, None, 0.5), zero, 1.0, 2.0),
        [[0.75 * power / (1.25 * power + 2)]],
        rtol=1e-6,
    )


def test_a_local_level_by_hand():
    one = LocalLevel(
        centre_D=np.zeros(1, np.float32), rho_D=np.array([0.5], np.float32),
        variance_D=np.array([1.0], np.float32), noise_D=np.array([4**0.34], np.float32),
    )  # fmt: skip
    state = one.state(line(1.0, None))
    # Gain 1 / (1 + 1); then a gap halves the level and brings the variance back by three quarters.
    np.testing.assert_allclose(state.mean_UD, [[0.25]], rtol=1e-6)
    np.testing.assert_allclose(state.variance_UD, [[1 + 0.25 * (0.5 - 1)]], rtol=1e-6)


def test_a_state_resumes_as_if_the_empty_periods_had_been_filtered():
    b = batch()
    resumed = level().resume(level().state(b), [3 + h for h in HORIZONS])
    assert_equal(level().forecast(padded(b, 3, at_end=True), HORIZONS), resumed)


def test_auto_uses_the_choice_of_each_horizon_and_the_last_one_beyond():
    auto = forecaster_of(spec())
    made = auto.forecast(batch(), [4, 1, 2, 7])
    for column, name, horizon in (
        (0, "ema", 4),
        (1, "gru", 1),
        (2, "local_level", 2),
        (3, "ema", 7),
    ):
        alone = auto.members[name].forecast(batch(), [horizon])
        np.testing.assert_array_equal(made.means_UHD[:, column], alone.means_UHD[:, 0])
        np.testing.assert_array_equal(made.scales_UHD[:, column], alone.scales_UHD[:, 0])
    assert auto.name == "gru+local_level+shrunk_ema+ema"


def test_a_spec_survives_json_with_sorted_keys():
    made = spec()
    read = ForecasterSpec(
        config=json.loads(json.dumps(made.config, sort_keys=True)), arrays=made.arrays
    )
    assert_equal(
        forecaster_of(made).forecast(batch(), HORIZONS),
        forecaster_of(read).forecast(batch(), HORIZONS),
    )


def test_a_choice_that_was_not_fitted_is_refused():
    with pytest.raises(InvalidArgument, match="arima"):
        forecaster_of(spec(choice=("arima",)))


def test_without_training_an_ema_is_served():
    auto = forecaster_of(untrained_spec(WIDTH))
    assert auto.name == "ema"
    assert np.isfinite(auto.forecast(batch(), [1, 4]).means_UHD).all()


def test_ragged_trajectories_are_aligned_at_each_users_last_period():
    vec = np.eye(3, dtype=np.float32)
    made = build_batch(
        [
            (np.array([10, 12]), vec[:2], np.array([3, 4])),
            (np.array([7]), vec[2:], np.array([5])),
            (np.zeros(0, np.int64), vec[:0], np.zeros(0, np.int64)),
        ],
        [13, 7, 2],
    )
    assert made.mask_UT.astype(int).tolist() == [[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert made.count_UT[0].tolist() == [3, 0, 4, 0]
    np.testing.assert_array_equal(made.vec_UTD[1, 3], vec[2])
    assert made.gap_U().tolist() == [1, 0, 4]


def test_vectors_after_the_last_period_are_left_out():
    made = build_batch([(np.array([1, 3]), np.eye(2, dtype=np.float32), np.array([1, 1]))], [2])
    assert made.mask_UT.tolist() == [[True, False]]


def test_a_grid_keeps_its_periods_only():
    made = grid(
        np.array([0, 0, 1]), np.array([4, 9, 5]), np.eye(3, dtype=np.float32), np.array([1, 2, 3]),
        users=2, first=4, last=6,
    )  # fmt: skip
    assert made.mask_UT.tolist() == [[True, False, False], [False, True, False]]
