"""Fits detection of bursts: the level, how noise falls with events, and the alarm's threshold.

No burst is needed to learn from: the threshold is the lowest at which users as they are raise no
more alarms a year than asked.

Shape suffixes: D = width, G = topics, P = periods seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from services.core.burst_spec import with_burst_model
from services.core.burst_state import BurstModel
from services.core.burst_topics import category_groups, cluster_groups, topic_vectors
from services.core.bursts import advance, detect, measure, new_state
from services.core.calibration import Calibrated
from services.core.dataset import Dataset
from services.core.forecasts import Forecaster
from services.core.model import ForecasterSpec
from services.core.periods import PERIODS_A_YEAR
from services.core.records import F32
from services.core.schema import Granularity
from services.core.trajectories import TrajectoryBatch
from services.training.backtest import backtest, calibrate
from services.training.local_level import choose_local_level, fit_local_level

OFFSETS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
# Halvings of the interval that the threshold is searched in, and that interval, nats.
STEPS, LOWEST, HIGHEST = 11, 1.0, 2000.0
# First period whose alarms count; a model's detection needs twice as many periods, and these users.
BURN_IN, LEAST_USERS = 12, 50
# Periods at the end that calibrate a forecaster; cut to a third of what there is.
VALIDATION = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstFitConfig:
    """What the fit aims at."""

    granularity: Granularity = Granularity.WEEK
    # Alarms per user-year of periods, gaps included.
    alarms_a_year: float = 0.1
    # Chosen on other bursts than those that are reported, like the rate of alarms.
    shift: float = 0.15
    seasons: tuple[int, ...] = (52,)
    # Users that a model's detection is fitted on, at most, and active periods each needs.
    user_limit: int = 400
    least_active: int = 6
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstSource:
    """What a training fits detection of bursts with."""

    config: BurstFitConfig
    # See core.dataset.first_categories.
    category_of: Mapping[str, str]

    def fitted(
        self, spec: ForecasterSpec, data: Dataset, items_ND: F32, batch: TrajectoryBatch
    ) -> ForecasterSpec:
        """Return the spec with detection in it; unchanged where there is too little to fit it on.

        Args:
            spec: a granularity's forecaster.
            data: the events behind the trajectories.
            items_ND: item vectors of the space.
            batch: trajectories of all users.
        """
        config = self.config
        able = np.flatnonzero(batch.mask_UT.sum(axis=1) >= config.least_active)
        if len(able) < LEAST_USERS or batch.mask_UT.shape[1] < 2 * BURN_IN:
            return spec
        popularity_N = np.bincount(data.item_ix_E, minlength=data.item_count).astype(np.float64)
        group_N, names = category_groups(data.item_ids, self.category_of, popularity_N)
        if not names:
            group_N = cluster_groups(items_ND, config.seed)
        topics_GD = topic_vectors(items_ND, group_N, popularity_N)
        rng = np.random.default_rng(config.seed)
        users = np.sort(rng.permutation(able)[: config.user_limit])
        model = fit_bursts(batch.users(users), topics_GD, config)
        return with_burst_model(spec, replace(model, names_G=names))


def fit_bursts(batch: TrajectoryBatch, topics_GD: F32, config: BurstFitConfig) -> BurstModel:
    """Fit on users as they are.

    Args:
        batch: trajectories of the users that choose.
        topics_GD: what interest can burst for, categories or clusters of items.
        config: what the fit aims at.
    """
    centre_D = batch.vec_UTD[batch.mask_UT].mean(axis=0)
    model = BurstModel(
        level=fit_local_level(batch, centre_D, 1.0), topics_GD=topics_GD, count_offset=0.0,
        threshold=np.inf, shift=config.shift, seasons=config.seasons,
    )  # fmt: skip
    model = replace(model, count_offset=_offset(model, batch))
    return replace(model, threshold=_threshold(model, batch, config))


def fit_burst_forecaster(batch: TrajectoryBatch) -> Forecaster:
    """Return a calibrated local level: what a space without a trained forecaster is forecast by."""
    periods = batch.mask_UT.shape[1]
    cut = periods - min(VALIDATION, periods // 3)
    fit = batch.until(cut)
    centre_D = fit.vec_UTD[fit.mask_UT].mean(axis=0)
    level, _ = choose_local_level(fit, batch, centre_D)
    return Calibrated(inner=level, calibration=calibrate(backtest(level, batch, cut, 2)))


def fit_burst_detection(
    batch: TrajectoryBatch, topics_GD: F32, *, granularity: Granularity, season: int,
    alarms_a_year: float, has_forecaster: bool,
) -> tuple[BurstModel, Forecaster | None]:  # fmt: skip
    """Return what the benchmark asks for; the command line joins the two packages."""
    config = BurstFitConfig(granularity=granularity, alarms_a_year=alarms_a_year, seasons=(season,))
    forecaster = fit_burst_forecaster(batch) if has_forecaster else None
    return fit_bursts(batch, topics_GD, config), forecaster


def _offset(model: BurstModel, batch: TrajectoryBatch) -> float:
    """Return the offset under which innovations are as large as foretold, whatever the count."""
    # The level does not depend on the topics while nothing alarms: one is enough.
    bare = replace(model, topics_GD=model.topics_GD[:1])
    return min(OFFSETS, key=lambda offset: _unevenness(replace(bare, count_offset=offset), batch))


def _unevenness(model: BurstModel, batch: TrajectoryBatch) -> float:
    state = new_state(model, len(batch.mask_UT))
    none_G, counts, lumps = np.zeros(len(model.topics_GD), bool), [], []
    none_U = np.zeros(len(batch.mask_UT), bool)
    for t in range(batch.mask_UT.shape[1]):
        count_U = batch.count_UT[:, t] * batch.mask_UT[:, t]
        found = measure(model, state, batch.vec_UTD[:, t], batch.mask_UT[:, t], count_U)
        counts.append(count_U[found.seen])
        lumps.append(found.lump_U)
        state, _ = advance(model, state, found, count_U, risen_G=none_G, bulk_U=none_U)
    count_P, lump_P = np.concatenate(counts), np.concatenate(lumps)
    bin_P = np.log2(count_P).astype(np.int64)
    size = np.bincount(bin_P)
    mean = np.bincount(bin_P, weights=lump_P) / np.maximum(size, 1)
    log = np.log(np.maximum(mean, 1e-9))
    centre = np.average(log, weights=size)
    return float(np.average((log - centre) ** 2, weights=np.sqrt(size)))


def _threshold(model: BurstModel, batch: TrajectoryBatch, config: BurstFitConfig) -> float:
    """Return the lowest threshold that keeps the rate of alarms, by halving an interval."""
    users, periods = batch.mask_UT.shape
    first = min(BURN_IN, periods // 2)
    years = users * (periods - first) / PERIODS_A_YEAR[config.granularity]
    low, high = LOWEST, HIGHEST
    for _ in range(STEPS):
        middle = float(np.sqrt(low * high))
        found = detect(replace(model, threshold=middle), batch)
        is_quiet = found.onset[:, first:].sum() <= config.alarms_a_year * years
        low, high = (low, middle) if is_quiet else (middle, high)
    return high
