"""From samples to the report's figures: means, intervals, paired gains, figures by origin.

Shape suffixes: S = (user, origin) samples, F = figures, M = resamples, C = columns.
"""

from collections.abc import Collection, Mapping

import numpy as np

from services.core.metrics import resampled_means
from services.core.pooling import F64
from services.evaluation.protocol import ACTIVITY, GAPS, SLICES, Split
from services.evaluation.recommendation import FIGURES, OURS, POSITIONS, Part, Samples

# Figures whose paired difference, ours minus theirs, is reported.
GAINS = ("recall_at_10", "ndcg_at_10", "recall_at_50", "ndcg_at_50")
ORDER = (*SLICES, *ACTIVITY, *GAPS)

Row = dict[str, object]
# {slice: {hH: {method: figures}}}
Tables = dict[str, dict[str, dict[str, Row]]]


def summarise(samples: Mapping[Part, Samples], rng: np.random.Generator) -> Tables:
    """Return the tables with 95% intervals; users are resampled whole.

    `driftline_gain_*` is ours minus the method's on the same users: paired, so narrower.
    """
    tables: Tables = {}
    for part, horizon in _ordered(samples):
        tables.setdefault(part, {})[f"h{horizon}"] = table(samples[part, horizon], rng)
    return tables


def table(found: Samples, rng: np.random.Generator) -> dict[str, Row]:
    """Return each method's row."""
    users_S = found.asked_users
    value_SC = np.concatenate([shown.values() for shown in found.methods.values()], axis=1)
    mean_C = value_SC.mean(axis=0, dtype=np.float64)
    mean_MC = resampled_means(value_SC, users_S, rng)
    low_C, high_C = np.quantile(mean_MC, [0.025, 0.975], axis=0)
    ours = list(found.methods).index(OURS) * len(FIGURES)
    rows: dict[str, Row] = {}
    for number, (name, shown) in enumerate(found.methods.items()):
        row: Row = {"users": len(np.unique(users_S)), "samples": len(users_S)}
        row |= {f"coverage_at_{depth}": shown.coverage(depth) for depth in POSITIONS}
        first = number * len(FIGURES)
        for at, figure in enumerate(FIGURES, first):
            row[figure] = float(mean_C[at])
            row[f"{figure}_ci"] = [float(low_C[at]), float(high_C[at])]
        if name != OURS:
            row |= _gains(mean_C, mean_MC, ours, first)
        rows[name] = row
    return rows


def by_origin(
    samples: Mapping[Part, Samples], split: Split
) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """Return NDCG@10 of each origin whose horizon fits; None where the slice asks nobody there."""
    column = FIGURES.index("ndcg_at_10")
    found: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    for part, horizon in _ordered(samples):
        of = samples[part, horizon]
        origins_S = of.asked_origins
        asked = [np.flatnonzero(origins_S == origin) for origin in split.origins_of(horizon)]
        found.setdefault(part, {})[f"h{horizon}"] = {
            name: [float(value_S[rows].mean()) if len(rows) else None for rows in asked]
            for name, shown in of.methods.items()
            for value_S in [shown.values()[:, column]]
        }
    return found


def origins_lost(
    tables: Tables,
    ndcg_by_origin: Mapping[str, Mapping[str, Mapping[str, list[float | None]]]],
    ours: Collection[str] = (OURS,),
) -> dict[str, dict[str, dict[str, object]]]:
    """Return the best rival of each table, and at how many origins ours stays below it.

    Args:
        tables: from `summarise`.
        ndcg_by_origin: from `by_origin`.
        ours: methods that are no rivals: ours, and its variants.
    """
    lost: dict[str, dict[str, dict[str, object]]] = {}
    for part, by_horizon in tables.items():
        for horizon, rows in by_horizon.items():
            rivals = [name for name in rows if name not in ours]
            if not rivals:
                continue
            rival = max(rivals, key=lambda name: float(str(rows[name]["ndcg_at_10"])))
            at = ndcg_by_origin[part][horizon]
            pairs = [
                (mine, theirs)
                for mine, theirs in zip(at[OURS], at[rival], strict=True)
                if mine is not None and theirs is not None
            ]
            lost.setdefault(part, {})[horizon] = {
                "rival": rival,
                "lost": sum(mine < theirs for mine, theirs in pairs),
                "origins": len(pairs),
            }
    return lost


def _gains(mean_C: F64, mean_MC: F64, ours: int, theirs: int) -> Row:
    gains: Row = {}
    for figure in GAINS:
        mine, other = ours + FIGURES.index(figure), theirs + FIGURES.index(figure)
        low, high = np.quantile(mean_MC[:, mine] - mean_MC[:, other], [0.025, 0.975])
        gains[f"driftline_gain_{figure}"] = float(mean_C[mine] - mean_C[other])
        gains[f"driftline_gain_{figure}_ci"] = [float(low), float(high)]
    return gains


def _ordered(samples: Mapping[Part, Samples]) -> list[Part]:
    return sorted(samples, key=lambda cell: (ORDER.index(cell[0]), cell[1]))
