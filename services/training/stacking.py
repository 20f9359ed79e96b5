"""Which forecaster serves which horizon, and combinations of several, by what data prove.

Shape suffixes: M = members, S = (user, close) samples, D = width, R = common factors.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from services.core.forecast_metrics import fit_loadings, joint_nll
from services.core.level_forecasters import NAIVE
from services.core.metrics import bootstrap_mean
from services.core.pooling import F64, I64
from services.core.records import F32
from services.training.backtest import Errors

# Weights under this are dropped: a member costs time whatever its weight.
LEAST_WEIGHT = 0.03
RESAMPLES = 300
STACK = "stack"
COMMON_FACTORS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Who serves one horizon."""

    name: str
    weight: dict[str, float]
    # By name, `stack` too: share of the best naive one's squared error saved, with its 95% interval.
    gains: dict[str, list[float]]


def choose(errors: dict[str, Errors], rng: np.random.Generator) -> Chosen:
    """Return the best forecaster of proven skill, else the best naive one.

    The stack's gain is measured on users who had no part in its weights: each half of the users
    judges the weights of the other half. It serves only where it is proven better than the best
    single one, too. Then its weights are fitted on all.

    Args:
        errors: of one horizon, by member; all have the same samples.
        rng: of the bootstrap.
    """
    squared = {name: e.squared() for name, e in errors.items()}
    user_S = next(iter(errors.values())).user_S
    naive = min(NAIVE, key=lambda name: float(squared[name].mean()))
    scale = float(squared[naive].mean())
    stacked_S = _held_out(errors, user_S, rng)
    gains = {
        name: _interval((squared[naive] - squared_S) / scale, user_S, rng)
        for name, squared_S in {**squared, STACK: stacked_S}.items()
    }
    proven = [name for name in squared if gains[name][1] > 0.0]
    single = max(proven, key=lambda name: gains[name][0], default=naive)
    over_single = _interval((squared[single] - stacked_S) / scale, user_S, rng)
    weight = stack_weights(errors)
    is_stack = gains[STACK][1] > 0.0 and over_single[1] > 0.0 and len(weight) > 1
    return Chosen(name=STACK if is_stack else single, weight=weight, gains=gains)


def stack_weights(errors: dict[str, Errors]) -> dict[str, float]:
    """Return the convex weights with the least squared error; small ones are dropped."""
    names = list(errors)
    error_MX = np.stack([e.error_SD.ravel() for e in errors.values()])
    gram_MM = (error_MX @ error_MX.T).astype(np.float64)
    weight_M = _convex(gram_MM)
    kept = weight_M >= LEAST_WEIGHT
    weight_M[kept] = _convex(gram_MM[np.ix_(kept, kept)])
    return {
        name: round(float(weight), 4)
        for name, weight, keep in zip(names, weight_M, kept, strict=True)
        if keep and weight > 0.0
    }


def combined(errors: dict[str, Errors], weight: dict[str, float]) -> Errors:
    """Return the errors of a combination."""
    first = next(iter(errors.values()))
    error_SD, variance_SD = np.zeros_like(first.error_SD), np.zeros_like(first.scale_SD)
    for name, share in weight.items():
        error_SD += share * errors[name].error_SD
        variance_SD += share * errors[name].scale_SD ** 2
    return Errors(
        user_S=first.user_S, gap_S=first.gap_S, count_S=first.count_S,
        error_SD=error_SD, scale_SD=np.sqrt(variance_SD),
    )  # fmt: skip


def common_factors(
    errors: Errors, rng: np.random.Generator
) -> tuple[F32 | None, dict[str, list[float]]]:
    """Return loadings of the errors' common factors, where they help users that they never saw.

    Returns:
        Loadings [D, R] or None, and per component the saving in joint negative log likelihood on
        the held-out half of the users, with its 95% interval.
    """
    z_SD = errors.error_SD / errors.scale_SD
    half_S = errors.user_S % 2 == 0
    width = z_SD.shape[1]
    if min(half_S.sum(), (~half_S).sum()) < 4 * width or width < 3:
        return None, {}
    rank = min(COMMON_FACTORS, width // 3)
    saved_S = np.zeros(len(z_SD))
    for learns_S in (half_S, ~half_S):
        loadings_DR = fit_loadings(z_SD[learns_S], rank)
        alone_S = joint_nll(errors.error_SD[~learns_S], errors.scale_SD[~learns_S], None)
        together_S = joint_nll(errors.error_SD[~learns_S], errors.scale_SD[~learns_S], loadings_DR)
        saved_S[~learns_S] = alone_S - together_S
    saving = _interval(saved_S, errors.user_S, rng)
    return (fit_loadings(z_SD, rank) if saving[1] > 0.0 else None), {"nll_saved": saving}


def _held_out(errors: dict[str, Errors], user_S: I64, rng: np.random.Generator) -> F64:
    """Return squared errors of stacks whose weights the other half of the users gave."""
    users = np.unique(user_S)
    first = np.isin(user_S, rng.permutation(users)[: len(users) // 2])
    squared_S = np.empty(len(user_S))
    for judges_S in (first, ~first):
        weight = stack_weights({name: _part(e, ~judges_S) for name, e in errors.items()})
        judged = {name: _part(errors[name], judges_S) for name in weight}
        squared_S[judges_S] = combined(judged, weight).squared()
    return squared_S


def _part(errors: Errors, rows_S: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Errors:
    return Errors(
        user_S=errors.user_S[rows_S], gap_S=errors.gap_S[rows_S], count_S=errors.count_S[rows_S],
        error_SD=errors.error_SD[rows_S], scale_SD=errors.scale_SD[rows_S],
    )  # fmt: skip


def _convex(gram_MM: F64) -> F64:
    """Minimise w' G w with w >= 0 and sum w = 1."""
    size_M, axes_MM = np.linalg.eigh(gram_MM / max(float(np.trace(gram_MM)), 1e-300))
    root_MM = np.sqrt(np.maximum(size_M, 0.0))[:, None] * axes_MM.T
    # The sum is a row of its own, heavy beside the errors, whose trace is 1.
    heavy = 1e3
    rows = np.vstack([root_MM, np.full(len(gram_MM), heavy)])
    weight_M, _ = nnls(rows, np.append(np.zeros(len(gram_MM)), heavy))
    weight: F64 = weight_M / weight_M.sum()
    return weight


def _interval(value_S: F64, user_S: I64, rng: np.random.Generator) -> list[float]:
    found = bootstrap_mean(value_S, user_S, rng, RESAMPLES)
    return [round(v, 5) for v in (found.mean, found.low, found.high)]
