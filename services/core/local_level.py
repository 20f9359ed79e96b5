"""A local level seen through noise: a Kalman filter in coordinates of their own.

A period's vector is centre + basis z. Each coordinate of z is an AR(1) level, seen through noise
of variance noise / n ** count_power in a period of n events:

    level' = rho level + drift        z = level + noise

The coordinates are those in which the levels of users and the noise of periods are both
uncorrelated, so that filtering one by one is filtering the whole vector: what one component says
about another is in the basis.

Shape suffixes: U = users, T = periods, D = width, K = coordinates, H = horizons, S = users seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from services.core.forecasts import COUNT_POWER, ForecastBatch, typical_count
from services.core.pooling import F64
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelState:
    """What `local_level` resumes from: its belief about each user's level at a period's close."""

    # Distance from the centre, in coordinates.
    mean_UK: F64
    variance_UK: F64
    # Typical events of an active period.
    count_U: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalLevel:
    """The fitted filter; see the module's text."""

    centre_D: F32
    # z -> vector - centre, and back.
    basis_DK: F32
    inverse_KD: F32
    # Correlation of the level with itself one period on, in (0, 1).
    rho_K: F32
    # Variance of levels across users.
    variance_K: F32
    # Noise variance of a period with one event.
    noise_K: F32
    count_power: float = COUNT_POWER
    name: str = "local_level"

    def coordinates(self, batch: TrajectoryBatch) -> F32:
        """Return z of every period [U, T, K]; zero in gaps."""
        centred_UTD = (batch.vec_UTD - self.centre_D) * batch.mask_UT[:, :, None]
        # One product, not one for each user: those are too small for a BLAS with threads.
        z_PK = centred_UTD.reshape(-1, centred_UTD.shape[2]) @ self.inverse_KD.T
        z_UTK: F32 = z_PK.reshape(*batch.mask_UT.shape, -1).astype(np.float32)
        return z_UTK

    def states(self, batch: TrajectoryBatch) -> Iterator[LevelState]:
        """Yield the belief at the close of every period, oldest first.

        The first one yielded is the belief before any period.
        """
        users, periods = batch.mask_UT.shape
        stationary_K = self.variance_K.astype(np.float64)
        z_UTK = self.coordinates(batch)
        mean_UK = np.zeros((users, len(stationary_K)))
        variance_UK = np.tile(stationary_K, (users, 1))
        count_U = typical_count(batch)
        yield LevelState(mean_UK=mean_UK, variance_UK=variance_UK, count_U=count_U)
        for t in range(periods):
            mean_UK, variance_UK = self.aged(mean_UK, variance_UK)
            seen = np.flatnonzero(batch.mask_UT[:, t])
            noise_SK = self.noise_K / self._events(batch.count_UT[seen, t])
            gain_SK = variance_UK[seen] / (variance_UK[seen] + noise_SK)
            mean_UK[seen] += gain_SK * (z_UTK[seen, t] - mean_UK[seen])
            variance_UK[seen] *= 1.0 - gain_SK
            yield LevelState(mean_UK=mean_UK, variance_UK=variance_UK, count_U=count_U)

    def state(self, batch: TrajectoryBatch) -> LevelState:
        """Return the belief at the close of the last period."""
        *_, last = self.states(batch)
        return last

    def aged(self, mean_UK: F64, variance_UK: F64) -> tuple[F64, F64]:
        """Return mean and variance of levels one period on, before anything of it was seen."""
        rho_K, stationary_K = self.rho_K.astype(np.float64), self.variance_K.astype(np.float64)
        return mean_UK * rho_K, stationary_K + rho_K**2 * (variance_UK - stationary_K)

    def belief(self, state: LevelState) -> tuple[F32, F32]:
        """Return mean and variance of each user's level as vector components [U, D]."""
        mean_UD = self.centre_D + state.mean_UK @ self.basis_DK.T
        variance_UD = state.variance_UK @ self.basis_DK.T**2
        return mean_UD.astype(np.float32), variance_UD.astype(np.float32)

    def resume(self, state: LevelState, horizons: Sequence[int]) -> ForecastBatch:
        """Forecast from a state, `horizons` periods after the period it was made at.

        A user who did nothing since needs no more: g empty periods on, ask for horizons g + h.
        """
        ahead_HK = self.rho_K.astype(np.float64) ** np.asarray(horizons)[:, None]
        shift_UHD = (ahead_HK * state.mean_UK[:, None]).astype(np.float32) @ self.basis_DK.T
        level_UHK = self.variance_K + ahead_HK**2 * (state.variance_UK[:, None] - self.variance_K)
        var_UHK = level_UHK + (self.noise_K / self._events(state.count_U))[:, None]
        var_UHD = var_UHK.astype(np.float32) @ (self.basis_DK.T**2)
        return ForecastBatch(
            means_UHD=(self.centre_D + shift_UHD).astype(np.float32),
            scales_UHD=np.sqrt(var_UHD).astype(np.float32),
        )

    def forecast(self, batch: TrajectoryBatch, horizons: Sequence[int]) -> ForecastBatch:
        """See Forecaster."""
        return self.resume(self.state(batch), horizons)

    def arrays(self) -> dict[str, F32]:
        """Return the weights under their names in a spec."""
        names = ("basis_DK", "inverse_KD", "rho_K", "variance_K", "noise_K")
        return {f"local_level.{name}": getattr(self, name) for name in names}

    def _events(self, count_S: np.ndarray[tuple[int], np.dtype[np.generic]]) -> F64:
        """Return how many times less the noise is than a single event's [S, 1]."""
        less: F64 = np.maximum(count_S, 1).astype(np.float64)[:, None] ** self.count_power
        return less
