"""Ranks all items for every user at every origin, by every method, and measures.

Shape suffixes: B = users of a chunk, N = items, K = positions, S = (user, origin) samples,
F = figures, W = head of the ranking, R = users of a chunk that a slice asks about.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.core.dataset import Dataset
from services.core.metrics import RANK_FIGURES, rank_figures, self_information
from services.core.pooling import F64, I64
from services.core.records import F32
from services.evaluation.protocol import (
    ACTIVITY,
    GAPS,
    SLICES,
    SPLIT_BY_USER,
    OriginView,
    Split,
    first_seen,
    view_at,
)
from services.evaluation.scorers import Method, Scorer
from services.evaluation.top import contains, top_among, top_rows, top_without

POSITIONS = (10, 50)
# Per-user figures, as columns.
FIGURES = tuple(f"{name}_at_{k}" for k in POSITIONS for name in (*RANK_FIGURES, "novelty"))
# Positions of the whole ranking that are searched for a slice's best, before it is ranked alone.
HEAD = 160
# Scores held at once, of all users of a chunk.
CHUNK_SCORES = 16_000_000
OURS = "driftline"

Progress = Callable[[str, int, int], None]
Part = tuple[str, int]


@dataclass(slots=True)
class Shown:
    """One method's figures on a (slice, horizon), gathered over origins in the samples' order."""

    figures: list[F32] = field(default_factory=list)
    # By depth and origin: which items were shown to anybody.
    items: dict[tuple[int, int], NDArray[np.bool_]] = field(default_factory=dict)

    def values(self) -> F32:
        """Return FIGURES of every sample."""
        return np.concatenate(self.figures)

    def coverage(self, depth: int) -> float:
        """Return distinct items shown at an origin as a share of the catalogue, mean of origins."""
        return float(np.mean([shown.mean() for (k, _), shown in self.items.items() if k == depth]))


@dataclass(slots=True)
class Samples:
    """Who was asked on a (slice, horizon), and what each method achieved."""

    users: list[I64] = field(default_factory=list)
    origins: list[I64] = field(default_factory=list)
    methods: dict[str, Shown] = field(default_factory=dict)

    @property
    def asked_users(self) -> I64:
        """Each sample's user row."""
        return np.concatenate(self.users)

    @property
    def asked_origins(self) -> I64:
        """Each sample's origin, its ordinal."""
        return np.concatenate(self.origins)


def rank_all(
    data: Dataset,
    split: Split,
    methods: Mapping[str, Method],
    horizons: tuple[int, ...],
    *,
    user_limit: int = 5000,
    seed: int = 0,
    slices: tuple[str, ...] = SLICES,
    by_user: bool = True,
    on_progress: Progress = lambda stage, done, total: None,
) -> dict[Part, Samples]:
    """Measure every method on every slice and horizon, from each origin of the split.

    Args:
        data: all events; what a method sees is cut at each origin.
        split: where the origins stand.
        methods: by name.
        horizons: periods ahead.
        user_limit: more users than this at an origin are sampled.
        seed: of the sample.
        slices: of SLICES.
        by_user: measure the user slices too.
        on_progress: called with stage, done, total.
    """
    samples: dict[Part, Samples] = {}
    seen_N = first_seen(data)
    done, total = 0, len(split.origins) * len(methods)
    for origin in split.origins:
        view = view_at(
            data, split, origin, horizons, first_seen_N=seen_N, user_limit=user_limit, seed=seed
        )
        asked = AskedOrigin(view, slices, by_user=by_user)
        for name, method in methods.items():
            asked.measure(method(view.past, view.now), name, samples)
            done += 1
            on_progress("rank", done, total)
    return samples


class AskedOrigin:
    """One origin's questions, kept while every method answers them."""

    def __init__(self, view: OriginView, slices: tuple[str, ...], *, by_user: bool) -> None:
        self._view, self._slices, self._by_user = view, slices, by_user
        past_count_N = np.bincount(view.past.item_ix_E, minlength=view.past.item_count)
        self._information_N = self_information(past_count_N)

    def measure(self, scorer: Scorer, name: str, samples: dict[Part, Samples]) -> None:
        """Rank for every user by one scorer; add its figures to the samples."""
        users = self._view.users
        chunk = max(64, CHUNK_SCORES // self._view.past.item_count)
        for start in range(0, len(users), chunk):
            rows = slice(start, start + chunk)
            self._chunk(scorer(users[rows]), rows, name, samples)

    def _chunk(self, score_BN: F32, rows: slice, name: str, samples: dict[Part, Samples]) -> None:
        users_B = self._view.users[rows]
        head_BW = top_rows(score_BN, min(HEAD, score_BN.shape[1]))
        for part in self._slices:
            truths = {
                horizon: self._view.truth_of(part, horizon, users_B)
                for horizon in self._view.truth_UN
            }
            asked = np.flatnonzero(sum(np.diff(truth.indptr) for truth in truths.values()))
            if not len(asked):
                continue
            top_RK = self._top(part, score_BN[asked], head_BW[asked], users_B[asked])
            for horizon, truth_BN in truths.items():
                truth_RN = truth_BN[asked]
                count_R = np.diff(truth_RN.indptr)
                figures_RF = self._figures(truth_RN, top_RK, count_R)
                for cell, is_in_R in self._cells(part, rows, asked):
                    kept = np.flatnonzero(is_in_R & (count_R > 0))
                    if len(kept):
                        found = samples.setdefault((cell, horizon), Samples())
                        self._add(found, name, users_B[asked[kept]], figures_RF[kept], top_RK[kept])

    def _top(self, part: str, score_RN: F32, head_RW: I64, users_R: I64) -> I64:
        deepest = max(POSITIONS)
        match part:
            case "new":
                return top_without(score_RN, self._view.had_UN[users_R], head_RW, deepest)
            case "warm":
                return top_among(score_RN, self._view.is_warm_N, head_RW, deepest)
            case "cold":
                return top_among(score_RN, self._view.is_cold_N, head_RW, deepest)
        return head_RW[:, :deepest]

    def _figures(self, truth_RN: sparse.csr_matrix, top_RK: I64, count_R: I64) -> F32:
        hit_RK = contains(truth_RN, top_RK)
        named: dict[str, F64] = rank_figures(hit_RK, np.maximum(count_R, 1), POSITIONS)
        for depth in POSITIONS:
            named[f"novelty_at_{depth}"] = self._information_N[top_RK[:, :depth]].mean(axis=1)
        return np.stack([named[name] for name in FIGURES], axis=1).astype(np.float32)

    def _cells(self, part: str, rows: slice, asked: I64) -> list[tuple[str, NDArray[np.bool_]]]:
        """Return the slice itself, and the user slices that are parts of it."""
        cells = [(part, np.ones(len(asked), bool))]
        if part == SPLIT_BY_USER and self._by_user:
            for names, label_A in ((ACTIVITY, self._view.activity_A), (GAPS, self._view.gap_A)):
                label_R = label_A[rows][asked]
                cells += [(name, label_R == number) for number, name in enumerate(names)]
        return cells

    def _add(self, found: Samples, name: str, users_S: I64, figures_SF: F32, top_SK: I64) -> None:
        shown = found.methods.setdefault(name, Shown())
        # Every method answers the same questions in the same order: the first one lists them.
        if next(iter(found.methods)) == name:
            found.users.append(users_S)
            found.origins.append(np.full(len(users_S), self._view.origin))
        shown.figures.append(figures_SF)
        for depth in POSITIONS:
            items_N = shown.items.setdefault(
                (depth, self._view.origin), np.zeros(self._view.past.item_count, bool)
            )
            items_N[top_SK[:, :depth]] = True


def mean_ndcg(samples: Mapping[Part, Samples], part: str, name: str) -> float:
    """Return a method's NDCG@10 on a slice, mean over horizons; 0 where nothing was asked."""
    column = FIGURES.index("ndcg_at_10")
    means = [
        float(found.methods[name].values()[:, column].mean())
        for (cell, _), found in samples.items()
        if cell == part
    ]
    return float(np.mean(means)) if means else 0.0
