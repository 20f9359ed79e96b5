"""Ranks all items for every user at every origin, by every method, and measures.

Shape suffixes: B = users of a chunk, N = items, K = positions, S = (user, origin) samples,
C = columns, W = head of the ranking, R = users of a chunk that a slice asks about.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from services.core.dataset import Dataset
from services.core.metrics import bootstrap_means, rank_metrics
from services.core.pooling import F64, I64
from services.evaluation.protocol import SLICES, OriginView, Split, first_seen, view_at
from services.evaluation.scorers import Method, Scorer, top_allowed, top_rows

POSITIONS = 10
# Positions of the whole ranking that are searched for a slice's best, before it is ranked alone.
HEAD = 64
# Users scored at once; bounds the memory at this many times N scores.
CHUNK = 2048
OURS = "driftline"

Progress = Callable[[str, int, int], None]
Cell = tuple[str, int, str]


@dataclass(slots=True)
class Samples:
    """Per-user figures of one (slice, horizon, method), gathered over origins."""

    users: list[I64] = field(default_factory=list)
    recall: list[F64] = field(default_factory=list)
    ndcg: list[F64] = field(default_factory=list)
    # Distinct items shown at each origin, as a share of the catalogue.
    coverage: list[float] = field(default_factory=list)


def rank_all(
    data: Dataset,
    split: Split,
    methods: Mapping[str, Method],
    horizons: tuple[int, ...],
    *,
    origins: tuple[int, ...],
    user_limit: int = 5000,
    seed: int = 0,
    slices: tuple[str, ...] = SLICES,
    on_progress: Progress = lambda stage, done, total: None,
) -> dict[Cell, Samples]:
    """Measure every method on every slice and horizon, from each origin.

    Args:
        data: all events; what a method sees is cut at each origin.
        split: where the origins stand.
        methods: by name.
        horizons: periods ahead.
        origins: ordinals to rank at.
        user_limit: more users than this at an origin are sampled.
        seed: of the sample.
        slices: of SLICES.
        on_progress: called with stage, done, total.
    """
    samples: dict[Cell, Samples] = {}
    seen_N = first_seen(data)
    done, total = 0, len(origins) * len(methods)
    for origin in origins:
        view = view_at(
            data, split, origin, horizons, first_seen_N=seen_N, user_limit=user_limit, seed=seed
        )
        for name, method in methods.items():
            _measure(view, method(view.past, view.now), name, slices, samples)
            done += 1
            on_progress("rank", done, total)
    return samples


def _measure(
    view: OriginView, scorer: Scorer, name: str, slices: tuple[str, ...],
    samples: dict[Cell, Samples],
) -> None:  # fmt: skip
    shown: dict[Cell, list[I64]] = {}
    for start in range(0, len(view.users), CHUNK):
        users_B = view.users[start : start + CHUNK]
        score_BN = scorer(users_B)
        head_BW = top_rows(score_BN, HEAD)
        truths = {h: truth_UN[users_B].toarray() > 0 for h, truth_UN in view.truth_UN.items()}
        for part in slices:
            allowed_BN = view.allowed(part, users_B)
            asked_BN = np.logical_or.reduce(list(truths.values())) & allowed_BN
            rows = np.flatnonzero(asked_BN.any(axis=1))
            top_RK = top_allowed(score_BN[rows], allowed_BN[rows], head_BW[rows], POSITIONS)
            for horizon, truth_BN in truths.items():
                truth_RN = truth_BN[rows] & allowed_BN[rows]
                count_R = truth_RN.sum(axis=1)
                has = np.flatnonzero(count_R)
                if not len(has):
                    continue
                hit_RK = np.take_along_axis(truth_RN, top_RK, axis=1)[has]
                recall, ndcg = rank_metrics(hit_RK, count_R[has])
                cell = samples.setdefault((part, horizon, name), Samples())
                cell.users.append(users_B[rows[has]])
                cell.recall.append(recall)
                cell.ndcg.append(ndcg)
                shown.setdefault((part, horizon, name), []).append(np.unique(top_RK[has]))
    for key, tops in shown.items():
        distinct = len(np.unique(np.concatenate(tops)))
        samples[key].coverage.append(distinct / view.past.item_count)


def mean_ndcg(samples: Samples) -> float:
    """Return NDCG over all samples."""
    return float(np.concatenate(samples.ndcg).mean())


def summarise(
    samples: dict[Cell, Samples], rng: np.random.Generator
) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    """Return {slice: {hH: {method: figures}}} with 95% intervals; users are resampled whole.

    `driftline_gain_*` is ours minus the method's on the same users: paired, so narrower.
    """
    report: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for part, horizon in dict.fromkeys((part, horizon) for part, horizon, _ in samples):
        cells = {m: s for (p, h, m), s in samples.items() if (p, h) == (part, horizon)}
        users_S = np.concatenate(cells[OURS].users)
        columns = _columns(cells)
        interval = bootstrap_means(np.stack(list(columns.values()), axis=1), users_S, rng)
        table: dict[str, dict[str, object]] = {}
        for (method, figure), mean, low, high in zip(columns, *interval, strict=True):
            row = table.setdefault(
                method,
                {
                    "users": len(np.unique(users_S)),
                    "samples": len(users_S),
                    "coverage_at_10": float(np.mean(cells[method].coverage)),
                },
            )
            row[figure] = float(mean)
            row[f"{figure}_ci"] = [float(low), float(high)]
        report.setdefault(part, {})[f"h{horizon}"] = table
    return report


def _columns(cells: dict[str, Samples]) -> dict[tuple[str, str], F64]:
    columns: dict[tuple[str, str], F64] = {}
    for method, cell in cells.items():
        for figure, parts, ours in (
            ("recall_at_10", cell.recall, cells[OURS].recall),
            ("ndcg_at_10", cell.ndcg, cells[OURS].ndcg),
        ):
            columns[method, figure] = np.concatenate(parts)
            if method != OURS:
                gain_S = np.concatenate(ours) - np.concatenate(parts)
                columns[method, f"driftline_gain_{figure}"] = gain_S
    return columns
