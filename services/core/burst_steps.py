"""The steps of `bursts.advance`: automated counts, the level, types, and the bursts kept.

Shape suffixes: U = users, K = coordinates, G = topics, M = bursts kept.
"""

from dataclasses import replace

import numpy as np

from services.core.burst_state import (
    AUTOMATED,
    AUTOMATED_EVENTS,
    COUNT_PRIOR,
    COUNT_SPREAD,
    LUMPIEST,
    PAUSE,
    Bools,
    BurstModel,
    Bursts,
    BurstState,
    BurstType,
    Measured,
)
from services.core.pooling import F64, I64


def automated(counts_U3: F64, count_U: I64, bulk_U: Bools) -> tuple[Bools, F64]:
    """Tell which periods a machine made, and take the others' log counts in.

    The spread of a user's log counts is shrunk to COUNT_SPREAD with the weight of COUNT_PRIOR
    periods; without any period before, only a bulk day tells.
    """
    weight_U, sum_U, square_U = counts_U3.T
    known_U = np.maximum(weight_U, 1.0)
    mean_U = sum_U / known_U
    own_U = np.maximum(square_U - weight_U * mean_U**2, 0.0)
    spread_U = np.sqrt((own_U + COUNT_PRIOR * COUNT_SPREAD**2) / (weight_U + COUNT_PRIOR))
    log_U = np.log(np.maximum(count_U, 1))
    is_far_U = (log_U - mean_U > AUTOMATED * spread_U) & (weight_U >= 3)
    is_auto_U: Bools = bulk_U | (is_far_U & (count_U >= AUTOMATED_EVENTS))
    taken_U = (count_U > 0) & ~is_auto_U
    return is_auto_U, counts_U3 + taken_U[:, None] * np.stack(
        [np.ones_like(log_U), log_U, log_U**2], axis=1
    )


def moved_level(
    model: BurstModel, state: BurstState, found: Measured, scale_U: F64, *,
    is_still_U: Bools, is_new_U: Bools,
) -> BurstState:  # fmt: skip
    """Return the state with level and noise scale at the period's close.

    A burst leaves the level still; where one became a new level, it is learned from here.
    """
    stationary_K = model.level.variance_K.astype(np.float64)
    mean_UK, variance_UK = model.level.aged(state.mean_UK, state.variance_UK)
    seen = found.seen
    before_UK = variance_UK[seen]
    noise_UK = 1.0 / found.weight_UK - before_UK
    before_UK = np.where(is_new_U[:, None], np.maximum(stationary_K, before_UK), before_UK)
    gain_UK = before_UK / (before_UK + noise_UK) * ~is_still_U[:, None]
    mean_UK[seen] += gain_UK * found.innovation_UK
    variance_UK[seen] = before_UK * (1.0 - gain_UK)
    lumps_U2 = state.lumps_U2.copy()
    lump_U = np.minimum(found.lump_U, LUMPIEST * scale_U)
    taken_U = ~(is_still_U | is_new_U)
    lumps_U2[seen] += taken_U[:, None] * np.stack([lump_U, np.ones_like(lump_U)], axis=1)
    return replace(state, mean_UK=mean_UK, variance_UK=variance_UK, lumps_U2=lumps_U2)


def typed(
    model: BurstModel, state: BurstState, topic_U: I64, is_alarm_U: Bools, risen_G: Bools
) -> tuple[Bools, I64]:
    """Return which alarms go on with the user's last burst, and the type of each user's burst."""
    past_UM, first_UM, last_UM, _ = np.moveaxis(state.past_UM4, 2, 0)
    row_U = np.maximum(topic_U, 0)
    alike_UM = model.alike_GG[row_U[:, None], np.maximum(past_UM, 0)] & (past_UM >= 0)
    at = (np.arange(len(topic_U)), _newest(past_UM >= 0))
    is_same_U: Bools = is_alarm_U & alike_UM[at] & (state.period - last_UM[at] <= PAUSE)
    gap_UM = state.period - first_UM
    in_season_U = np.zeros(len(topic_U), bool)
    for season in model.seasons:
        years_UM = np.maximum(np.rint(gap_UM / season), 1)
        near_UM = np.abs(gap_UM - years_UM * season) <= model.season_slack
        in_season_U |= (alike_UM & near_UM).any(axis=1)
    risen_U = (model.alike_GG[row_U] & risen_G).any(axis=1)
    kind_U = np.where(risen_U, BurstType.POPULATION, BurstType.PERSONAL)
    kind_U = np.where(in_season_U, BurstType.SEASONAL, kind_U)
    kept_U = np.where(state.kind_U == BurstType.AUTOMATED, BurstType.PERSONAL, state.kind_U)
    return is_same_U, np.where(is_alarm_U, kind_U, kept_U)


def recorded(
    state: BurstState, found: Bursts, *, is_new_U: Bools, goes_on_U: Bools, is_auto_U: Bools
) -> tuple[I64, F64]:
    """Return the bursts kept and their largest shares: new ones in front, what lasts made longer.

    A burst and a period of a machine may meet in one period; the machine's then stands in front.
    """
    past_UM4, peak_UM = state.past_UM4.copy(), state.peak_UM.copy()
    period = np.full(len(is_new_U), state.period)
    fresh_U4 = np.stack([found.topic, period, period, found.kind], axis=1)
    past_UM4, peak_UM = _pushed(past_UM4, peak_UM, fresh_U4, is_new_U)
    row = np.flatnonzero(goes_on_U & (past_UM4[:, :, 0] >= 0).any(axis=1))
    at = _newest(past_UM4[row, :, 0] >= 0)
    past_UM4[row, at, 2] = state.period
    peak_UM[row, at] = np.maximum(peak_UM[row, at], found.share[row])
    is_machine_UM = past_UM4[:, :, 3] == BurstType.AUTOMATED
    newest_U = _newest(is_machine_UM)
    users = np.arange(len(is_new_U))
    is_run_U = is_auto_U & is_machine_UM.any(axis=1)
    is_run_U &= past_UM4[users, newest_U, 2] == state.period - 1
    past_UM4[users[is_run_U], newest_U[is_run_U], 2] = state.period
    machine_U4 = np.stack(
        [np.full_like(period, -1), period, period, np.full_like(period, BurstType.AUTOMATED)],
        axis=1,
    )
    return _pushed(past_UM4, peak_UM, machine_U4, is_auto_U & ~is_run_U)


def _newest(is_one_UM: Bools) -> I64:
    """Return each row's first true column; 0 where there is none."""
    return np.asarray(is_one_UM.argmax(axis=1), np.int64)


def _pushed(past_UM4: I64, peak_UM: F64, fresh_U4: I64, is_new_U: Bools) -> tuple[I64, F64]:
    pushed_UM4 = np.concatenate([fresh_U4[:, None], past_UM4[:, :-1]], axis=1)
    zero_U1 = np.zeros((len(peak_UM), 1))
    pushed_UM = np.concatenate([zero_U1, peak_UM[:, :-1]], axis=1)
    return (
        np.where(is_new_U[:, None, None], pushed_UM4, past_UM4),
        np.where(is_new_U[:, None], pushed_UM, peak_UM),
    )
