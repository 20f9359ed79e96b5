"""What knowing of bursts does to forecasts: the likelihood inside planted bursts and outside.

One period ahead, from every period after the burn-in, the same forecaster without and with
`core.burst_forecasts`. Inside is a period of a planted burst after its first: the first one nobody
can foretell, so it stands apart as `onset`. Periods of machines are left out. All else is outside:
the same users before and after, controls, and everything that a false alarm does.

Shape suffixes: U = users, T = periods, S = samples.
"""

from collections.abc import Sequence

import numpy as np

from services.core.burst_forecasts import known_of, with_bursts
from services.core.burst_state import BurstModel, Bursts, BurstType
from services.core.forecast_metrics import Z80, joint_nll
from services.core.forecasts import ForecastBatch, Forecaster
from services.core.metrics import bootstrap_mean
from services.core.pooling import F64, I64
from services.core.trajectories import TrajectoryBatch
from services.evaluation.burst_scores import LEAST
from services.evaluation.planted_bursts import PlantedBurst

INSIDE, ONSET, SKIPPED = 1, 2, 3
PARTS = {"outside": 0, "inside": INSIDE, "onset": ONSET}


def forecast_figures(
    inner: Forecaster, model: BurstModel, batch: TrajectoryBatch, found: Bursts,
    planted: Sequence[PlantedBurst], users: I64, first: int, rng: np.random.Generator,
) -> dict[str, dict[str, object]]:  # fmt: skip
    """Return figures `without` and `with_bursts`, and their paired `gain`, by part.

    Args:
        inner: the forecaster that does not know of bursts.
        model: detection.
        batch: trajectories with planted bursts; rows are all users.
        found: what was detected in them.
        planted: the bursts.
        users: who is measured.
        first: first column that is forecast.
        rng: of the intervals.
    """
    part_UT = _parts(batch, planted)[users]
    known, of = batch.users(users), found.users(users)
    rows: list[tuple[I64, I64, F64, F64, F64, F64]] = []
    for column in range(first, batch.mask_UT.shape[1]):
        past = known.until(column)
        ready = np.flatnonzero(past.mask_UT.any(axis=1) & known.mask_UT[:, column])
        if not len(ready):
            continue
        past, before = past.users(ready), of.until(column).users(ready)
        plain = inner.forecast(past, [1])
        aware = with_bursts(plain, inner, model, past, known_of(before, past), [1])
        truth = known.vec_UTD[ready, column]
        rows.append(
            (ready, part_UT[ready, column], *_measured(truth, plain), *_measured(truth, aware))
        )
    user, part, nll, inside_80, nll_aware, inside_80_aware = (
        np.concatenate(column) for column in zip(*rows, strict=True)
    )
    report: dict[str, dict[str, object]] = {"without": {}, "with_bursts": {}, "gain": {}}
    for name, number in PARTS.items():
        at = part == number
        if not at.any():
            continue
        for side, nll_S, held_S in (
            ("without", nll[at], inside_80[at]),
            ("with_bursts", nll_aware[at], inside_80_aware[at]),
        ):
            mean = bootstrap_mean(nll_S, user[at], rng)
            report[side] |= {
                f"nll_{name}": mean.mean, f"nll_{name}_ci": [mean.low, mean.high],
                f"coverage_80_{name}": float(held_S.mean()),
            }  # fmt: skip
        gain = bootstrap_mean(nll[at] - nll_aware[at], user[at], rng)
        report["gain"] |= {
            name: gain.mean, f"{name}_ci": [gain.low, gain.high],
            f"{name}_share": gain.mean / abs(float(nll[at].mean())), f"{name}_periods": int(at.sum()),
        }  # fmt: skip
    return report


def _measured(truth: np.ndarray, made: ForecastBatch) -> tuple[F64, F64]:
    """Return each sample's negative log likelihood per component, and share inside 80%."""
    error, scale = truth - made.means_UHD[:, 0], made.scales_UHD[:, 0]
    inside: F64 = (np.abs(error) <= Z80 * scale).mean(axis=1)
    return joint_nll(error, scale, None), inside


def _parts(batch: TrajectoryBatch, planted: Sequence[PlantedBurst]) -> I64:
    """Return what each period is; bursts too small for the goal are left out."""
    part_UT = np.zeros(batch.mask_UT.shape, np.int64)
    for burst in planted:
        is_asked = burst.kind != BurstType.AUTOMATED and burst.size >= LEAST
        part_UT[burst.user, burst.onset : burst.end] = INSIDE if is_asked else SKIPPED
        part_UT[burst.user, burst.onset] = ONSET if is_asked else SKIPPED
    return part_UT
