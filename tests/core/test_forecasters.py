import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from services.core.calibration import Calibrated, Calibration
from services.core.errors import InvalidArgument
from services.core.forecasters import forecaster_of, untrained_spec
from services.core.level_forecasters import ema_level, persistence_level
from services.core.local_level import LocalLevel
from services.core.model import ForecasterSpec
from services.core.recurrent import CELLS, RecurrentForecaster, RecurrentModel
from services.core.statistical import SHORTEST, StatisticalForecaster
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


def level(**changes):
    basis = np.array([[1.0, 0.2, 0.0], [0.0, 0.5, 0.1], [0.3, 0.0, 2.0]], np.float32)
    given = {
        "centre_D": CENTRE,
        "basis_DK": basis,
        "inverse_KD": np.linalg.inv(basis),
        "rho_K": np.array([0.9, 0.95, 0.99], np.float32),
        "variance_K": np.array([0.1, 0.2, 0.05], np.float32),
        "noise_K": np.array([0.3, 0.2, 0.4], np.float32),
    }
    return LocalLevel(**given | changes)


def net(cell):
    import torch

    torch.manual_seed(3)
    model = RecurrentModel(cell, WIDTH, 4, 5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.3)
    return RecurrentForecaster(cell=cell, model=model.eval(), base=level())


STACK = [{"gru": 0.5, "ema": 0.5}, {"local_level": 0.25, "lstm": 0.75}]


def spec(choice=("gru", "local_level", "shrunk_ema", "ema")):
    arrays = {"centre_D": CENTRE, "components_DK": np.eye(3, dtype=np.float32)[:, :2]}
    arrays |= level().arrays() | net("gru").arrays() | net("lstm").arrays()
    members = {
        "gru": {}, "lstm": {}, "local_level": {"count_power": 0.34}, "persistence": {}, "mean": {},
        "ema": {"half_life": 4.0}, "shrunk_ema": {"half_life": 8.0, "shrink": 2.0},
        "arima": {}, "ets": {}, "stack": {"weight_H": STACK},
    }  # fmt: skip
    widths = Calibration(
        factor_HG=((1.0, 1.1, 1.1, 1.2), (1.1, 1.1, 1.2, 1.3)), slope=-0.3, count=9.0
    )
    for name, params in members.items():
        params["calibration"] = widths.to_json()
        if name in ("persistence", "mean", "ema", "shrunk_ema"):
            arrays[f"{name}.var0_D"] = np.full(WIDTH, 0.2, np.float32)
            arrays[f"{name}.var1_D"] = np.full(WIDTH, 0.01, np.float32)
    return ForecasterSpec(config={"members": members, "choice": list(choice)}, arrays=arrays)


FAST = ("persistence", "mean", "ema", "shrunk_ema", "local_level", "gru", "lstm", "stack")
MEMBERS = (*FAST, "ets")


def member(name):
    return forecaster_of(spec()).members[name]


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
        alone = member(name).forecast(b.users([u]), HORIZONS)
        np.testing.assert_allclose(alone.means_UHD[0], together.means_UHD[u], atol=1e-5)
        np.testing.assert_allclose(alone.scales_UHD[0], together.scales_UHD[u], atol=1e-5)


@pytest.mark.parametrize("name", MEMBERS)
def test_empty_periods_widen_the_distribution(name):
    b = batch().users([0, 1])
    b = replace(b, mask_UT=b.mask_UT | (np.arange(10) == 9))
    scales = [
        member(name).forecast(padded(b, gap, at_end=True), [1]).scales_UHD for gap in range(7)
    ]
    for near, far in itertools.pairwise(scales):
        assert (far > near).all()


@pytest.mark.parametrize("name", MEMBERS)
def test_a_user_of_few_purchases_a_week_gets_a_wider_forecast_than_one_of_many(name):
    b = batch()
    few = replace(b, count_UT=np.where(b.mask_UT, 3, 0))
    many = replace(b, count_UT=np.where(b.mask_UT, 60, 0))
    wide, narrow = (member(name).forecast(each, HORIZONS).scales_UHD for each in (few, many))
    if name in ("gru", "lstm", "stack"):  # a net says so itself, and these weights are random
        wide, narrow = wide[:, :1].mean(), narrow[:, :1].mean()
    assert np.all(wide > narrow)


@pytest.mark.parametrize("name", ["shrunk_ema", "local_level"])
def test_a_week_of_three_purchases_weighs_less_than_a_week_of_sixty(name):
    vec = np.zeros((2, 10, WIDTH), np.float32)
    vec[:, :, 0] = 1.0
    vec[:, 9] = [0.0, 1.0, 0.0]
    count = np.full((2, 10), 15)
    count[:, 9] = [3, 60]
    b = TrajectoryBatch(vec_UTD=vec, mask_UT=np.ones((2, 10), bool), count_UT=count)
    before = member(name).forecast(b.until(9), [1]).means_UHD[:, 0, 1]
    moved = member(name).forecast(b, [1]).means_UHD[:, 0, 1] - before
    assert moved[1] > 1.3 * moved[0] > 0


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
    if name not in ("gru", "lstm", "stack"):
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
        centre_D=np.zeros(1, np.float32), basis_DK=np.array([[2.0]], np.float32),
        inverse_KD=np.array([[0.5]], np.float32), rho_K=np.array([0.5], np.float32),
        variance_K=np.array([1.0], np.float32), noise_K=np.array([4**0.34], np.float32),
    )  # fmt: skip
    state = one.state(line(2.0, None))
    # Gain 1 / (1 + 1); then a gap halves the level and brings the variance back by three quarters.
    np.testing.assert_allclose(state.mean_UK, [[0.25]], rtol=1e-6)
    np.testing.assert_allclose(state.variance_UK, [[1 + 0.25 * (0.5 - 1)]], rtol=1e-6)
    mean, variance = one.belief(state)
    np.testing.assert_allclose([mean, variance], [[[0.5]], [[4 * 0.875]]], rtol=1e-6)


def test_a_level_filtered_in_its_coordinates_is_the_filter_of_the_whole_vector():
    b, of = batch(), level(count_power=0.0)
    basis = of.basis_DK.astype(np.float64)
    rho, noise = np.diag(of.rho_K), basis @ np.diag(of.noise_K) @ basis.T
    turn = basis @ rho @ np.linalg.inv(basis)
    stationary = basis @ np.diag(of.variance_K) @ basis.T
    for u in range(6):
        mean, cov = np.zeros(WIDTH), stationary
        for t in range(10):
            mean, cov = turn @ mean, stationary + turn @ (cov - stationary) @ turn.T
            if b.mask_UT[u, t]:
                gain = cov @ np.linalg.inv(cov + noise)
                mean = mean + gain @ (b.vec_UTD[u, t] - CENTRE - mean)
                cov = cov - gain @ cov
        made = of.forecast(b.users([u]), [1])
        np.testing.assert_allclose(made.means_UHD[0, 0], CENTRE + turn @ mean, atol=1e-5)
        ahead = stationary + turn @ (cov - stationary) @ turn.T + noise
        np.testing.assert_allclose(made.scales_UHD[0, 0] ** 2, np.diag(ahead), rtol=1e-4)


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
    assert auto.name == "gru:1+local_level:2+shrunk_ema:3+ema:4-"


def test_a_spec_survives_json_with_sorted_keys():
    made = spec()
    read = ForecasterSpec(
        config=json.loads(json.dumps(made.config, sort_keys=True)), arrays=made.arrays
    )
    assert_equal(
        forecaster_of(made).forecast(batch(), HORIZONS),
        forecaster_of(read).forecast(batch(), HORIZONS),
    )


def test_a_name_says_who_serves_which_horizon():
    assert forecaster_of(spec(["gru"])).name == "gru"
    assert forecaster_of(spec(["gru", "gru"])).name == "gru"
    assert forecaster_of(spec(["gru", "gru", "ema", "ema"])).name == "gru:1-2+ema:3-"


def test_a_stack_is_the_weighted_mean_of_members_that_are_not_calibrated():
    auto = forecaster_of(spec(["stack"]))
    stack = auto.members["stack"].inner
    for horizon, weights in ((1, STACK[0]), (2, STACK[1]), (5, STACK[1])):
        made = stack.forecast(batch(), [horizon])
        parts = {n: auto.members[n].inner.forecast(batch(), [horizon]) for n in weights}
        mean = sum(w * parts[n].means_UHD for n, w in weights.items())
        variance = sum(w * parts[n].scales_UHD ** 2 for n, w in weights.items())
        np.testing.assert_allclose(made.means_UHD, mean, atol=1e-6)
        np.testing.assert_allclose(made.scales_UHD**2, variance, rtol=1e-5)


def test_a_calibration_multiplies_variances_by_horizon_gap_and_count():
    b = replace(line(1.0, 0.5, None), count_UT=np.array([[16, 4, 0]]))
    plain = level_line()
    widths = Calibration(
        factor_HG=((1.0, 4.0, 1.0, 1.0), (1.0, 9.0, 1.0, 1.0)), slope=0.5, count=2.5
    )
    made = Calibrated(inner=plain, calibration=widths).forecast(b, [1, 2, 7])
    ratio = made.scales_UHD / plain.forecast(b, [1, 2, 7]).scales_UHD
    # A gap of one period; the mean count is 10, four times 2.5.
    np.testing.assert_allclose(ratio[0, :, 0] ** 2, [4 * 2, 9 * 2, 9 * 2], rtol=1e-5)


def level_line():
    unit = np.ones(1, np.float32)
    return LocalLevel(
        centre_D=0 * unit, basis_DK=unit[:, None], inverse_KD=unit[:, None], rho_K=0.9 * unit,
        variance_K=unit, noise_K=unit,
    )  # fmt: skip


@pytest.mark.parametrize("cell", CELLS)
def test_an_untouched_net_is_its_base(cell):
    model = RecurrentModel(cell, WIDTH, 4, 5).eval()
    made = RecurrentForecaster(cell=cell, model=model, base=level()).forecast(batch(), [1, 3])
    plain = level().forecast(batch(), [1, 3])
    np.testing.assert_allclose(made.means_UHD, plain.means_UHD, atol=1e-6)


def test_arima_finds_the_swing_that_a_mean_misses():
    # +1, -1, +1, ...: the next one is the last one's opposite.
    signs = np.where(np.arange(40) % 2, -1.0, 1.0)
    noise = np.random.default_rng(0).normal(size=40) * 0.1
    b = line(*(signs + noise))
    base = forecaster_of(one_wide_spec()).members["shrunk_ema"]
    made = StatisticalForecaster(
        kind="arima", base=base, centre_D=np.zeros(1, np.float32),
        components_DK=np.ones((1, 1), np.float32),
    ).forecast(b, [1, 2])  # fmt: skip
    assert made.means_UHD[0, 0, 0] > 0.7 and made.means_UHD[0, 1, 0] < -0.7
    assert 0 < made.scales_UHD[0, 0, 0] < 0.5
    short = b.until(SHORTEST - 1)
    arima = StatisticalForecaster(
        kind="arima", base=base, centre_D=np.zeros(1, np.float32),
        components_DK=np.ones((1, 1), np.float32),
    )  # fmt: skip
    assert_equal(arima.forecast(short, [1]), base.forecast(short, [1]))


def one_wide_spec():
    arrays = {"centre_D": np.zeros(1, np.float32)}
    arrays |= {f"shrunk_ema.{name}": np.ones(1, np.float32) for name in ("var0_D", "var1_D")}
    params = {"half_life": 8.0, "shrink": 2.0, "calibration": Calibration().to_json()}
    return ForecasterSpec(
        config={"members": {"shrunk_ema": params}, "choice": ["shrunk_ema"]}, arrays=arrays
    )


def test_a_choice_that_was_not_fitted_is_refused():
    with pytest.raises(InvalidArgument, match="wavelet"):
        forecaster_of(spec(choice=("wavelet",)))


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
