"""Forecasts of a few users drawn out in time: what was, what was foretold and how surely, what came.

Shape suffixes: U = users, T = periods, D = width, H = periods ahead, R = common factors.
"""

import numpy as np

from services.core.forecasters import forecaster_of
from services.core.model import Model
from services.core.pooling import F64
from services.core.records import F32
from services.evaluation.protocol import Split
from services.evaluation.trajectories import Trajectories

# Periods before and after the origin.
PAST, AHEAD = 26, 8
# Of users by their active periods: who is drawn.
QUANTILES = (0.95, 0.5, 0.1)


def forecast_fans(split: Split, model: Model, seen: Trajectories) -> list[dict[str, object]]:
    """Return fans from the first origin, of users with many, some and few active periods.

    Each is drawn along the direction in which users differ most (the first principal component of
    the training data): `past` and `came` are [period, position] pairs, period 0 the first one
    forecast; `mean` and `scale` are of periods 0, 1, ... No user is named.
    """
    spec = model.forecasters.get(split.granularity)
    if spec is None:
        return []
    origin, batch = split.origins[0], seen.batch
    column, known = seen.column(origin), seen.before(origin)
    ahead = min(AHEAD, batch.mask_UT.shape[1] - column)
    able = np.flatnonzero(
        (known.mask_UT.sum(axis=1) >= 2) & batch.mask_UT[:, column : column + ahead].any(axis=1)
    )
    if not len(able):
        return []
    auto, centre_D = forecaster_of(spec), spec.arrays["centre_D"]
    seen_PD = known.vec_UTD[known.mask_UT] - centre_D
    axis_D = np.linalg.eigh((seen_PD.T @ seen_PD).astype(np.float64))[1][:, -1]
    active = known.mask_UT[able].sum(axis=1)
    by_activity = able[np.argsort(active, kind="stable")]
    chosen = dict.fromkeys(by_activity[int(q * (len(by_activity) - 1))] for q in QUANTILES)
    fans: list[dict[str, object]] = []
    for user in chosen:
        made = auto.forecast(known.users(np.array([user])), list(range(1, ahead + 1)))
        position_T = (batch.vec_UTD[user] - centre_D) @ axis_D
        mask_T, count = batch.mask_UT[user], int(known.mask_UT[user].sum())
        fans.append(
            {
                "active_periods": count,
                "past": [
                    [t - column, float(position_T[t])]
                    for t in range(max(column - PAST, 0), column)
                    if mask_T[t]
                ],
                "came": [
                    [h, float(position_T[column + h])] for h in range(ahead) if mask_T[column + h]
                ],
                "mean": ((made.means_UHD[0] - centre_D) @ axis_D).tolist(),
                "scale": _along(axis_D, made.scales_UHD[0], auto.loadings_DR).tolist(),
            }
        )
    return fans


def _along(axis_D: F64, scale_HD: F32, loadings_DR: F32 | None) -> F64:
    """Return the standard deviation along a direction at each horizon [H]."""
    part_HD = scale_HD.astype(np.float64) * axis_D
    if loadings_DR is None:
        alone_H: F64 = np.sqrt((part_HD**2).sum(axis=1))
        return alone_H
    own_D = np.maximum(1.0 - (loadings_DR.astype(np.float64) ** 2).sum(axis=1), 0.0)
    shared_HR = part_HD @ loadings_DR
    together_H: F64 = np.sqrt(part_HD**2 @ own_D + (shared_HR**2).sum(axis=1))
    return together_H
