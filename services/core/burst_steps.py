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
    NEVER,
    PAUSE,
    Bools,
    BurstModel,
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
    past_UM, first_UM, last_UM = np.moveaxis(state.past_UM3, 2, 0)
    row_U = np.maximum(topic_U, 0)
    alike_UM = model.alike_GG[row_U[:, None], np.maximum(past_UM, 0)] & (past_UM >= 0)
    is_same_U: Bools = is_alarm_U & alike_UM[:, 0] & (state.period - last_UM[:, 0] <= PAUSE)
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


def recorded(state: BurstState, topic_U: I64, is_new_U: Bools, goes_on_U: Bools) -> I64:
    """Return the bursts kept, with those that are new in front and the last period of what lasts."""
    period = np.full(len(topic_U), state.period)
    fresh_U3 = np.stack([topic_U, period, period], axis=1)
    pushed_UM3 = np.concatenate([fresh_U3[:, None], state.past_UM3[:, :-1]], axis=1)
    past_UM3: I64 = np.where(is_new_U[:, None, None], pushed_UM3, state.past_UM3)
    is_kept_U = goes_on_U & (past_UM3[:, 0, 1] != NEVER)
    past_UM3[is_kept_U, 0, 2] = state.period
    return past_UM3
