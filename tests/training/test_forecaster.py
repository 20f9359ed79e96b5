import numpy as np

from services.core.forecasters import forecaster_of
from services.core.recurrent import RecurrentConfig
from services.core.trajectories import TrajectoryBatch
from services.training.forecaster import ForecasterConfig, fit_forecaster
from services.training.local_level import fit_local_level

FAST = ForecasterConfig(
    horizons=2, validation=6, components=0, net=RecurrentConfig(hidden=8, epochs=2)
)
NO_NET = ForecasterConfig(horizons=2, validation=6, components=0, nets=())


def simulated(rho, level_var, noise_var, *, users=200, periods=30, width=3, gaps=0.2, seed=0):
    """AR(1) levels seen through noise."""
    rng = np.random.default_rng(seed)
    level = rng.normal(size=(users, width)) * level_var**0.5
    vec = np.empty((users, periods, width), np.float32)
    for t in range(periods):
        vec[:, t] = level + rng.normal(size=level.shape) * noise_var**0.5
        drift = rng.normal(size=level.shape) * (level_var * (1 - rho**2)) ** 0.5
        level = rho * level + drift
    mask = rng.random((users, periods)) >= gaps
    return TrajectoryBatch(
        vec_UTD=vec * mask[:, :, None], mask_UT=mask, count_UT=mask.astype(np.int64)
    )


def test_moments_find_the_level_and_the_noise_again():
    batch = simulated(rho=0.9, level_var=1.0, noise_var=2.0, users=800)
    level = fit_local_level(batch, np.zeros(3, np.float32))
    np.testing.assert_allclose(level.rho_K, 0.9, atol=0.02)
    squares = level.basis_DK**2
    np.testing.assert_allclose(squares @ level.variance_K, 1.0, atol=0.15)
    np.testing.assert_allclose(squares @ level.noise_K, 2.0, atol=0.15)


def test_a_forecaster_of_proven_skill_is_chosen_and_its_width_is_right():
    batch = simulated(rho=0.8, level_var=1.0, noise_var=1.0)
    spec = fit_forecaster(batch.until(24), NO_NET)
    auto = forecaster_of(spec)
    assert set(auto.choice_H) <= {"local_level", "shrunk_ema", "stack"}
    made = auto.forecast(batch.until(24), [1])
    seen = batch.mask_UT[:, 24]
    z = (batch.vec_UTD[seen, 24] - made.means_UHD[seen, 0]) / made.scales_UHD[seen, 0]
    assert 0.9 < z.std() < 1.1


def test_without_proven_skill_a_naive_one_serves():
    # A random walk seen without noise: its last value is all there is to know.
    batch = simulated(rho=0.9999, level_var=1.0, noise_var=1e-6, gaps=0.0)
    steps = np.random.default_rng(1).normal(size=batch.vec_UTD.shape).cumsum(axis=1)
    walk = TrajectoryBatch(
        vec_UTD=steps.astype(np.float32), mask_UT=batch.mask_UT, count_UT=batch.count_UT
    )
    spec = fit_forecaster(walk, NO_NET)
    assert spec.config["choice"] == ["persistence", "persistence"]
    assert spec.config["validation_skill"]["1"]["mean"][0] < 0


def test_the_net_is_fitted_saved_and_never_breaks_its_base():
    batch = simulated(rho=0.9, level_var=1.0, noise_var=1.0, users=60, periods=20)
    spec = fit_forecaster(batch, FAST)
    auto = forecaster_of(spec)
    gru, base = auto.members["gru"], auto.members["local_level"]
    made, plain = gru.forecast(batch, [1, 2, 5]), base.forecast(batch, [1, 2, 5])
    assert not np.allclose(made.means_UHD, plain.means_UHD)
    assert np.abs(made.means_UHD - plain.means_UHD).max() < 1.0
    again = fit_forecaster(batch, FAST)
    for name, array in spec.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])


def test_too_little_history_gives_no_forecaster():
    assert fit_forecaster(simulated(0.9, 1.0, 1.0, periods=5), NO_NET) is None
    assert fit_forecaster(simulated(0.9, 1.0, 1.0, users=4), NO_NET) is None


def test_users_beyond_the_limit_are_sampled_the_same_way_each_time():
    batch = simulated(0.9, 1.0, 1.0, users=120)
    config = ForecasterConfig(horizons=1, nets=(), components=0, user_limit=50)
    first, again = fit_forecaster(batch, config), fit_forecaster(batch, config)
    np.testing.assert_array_equal(first.arrays["centre_D"], again.arrays["centre_D"])
    whole = fit_forecaster(batch, ForecasterConfig(horizons=1, nets=(), components=0))
    assert not np.array_equal(first.arrays["centre_D"], whole.arrays["centre_D"])
