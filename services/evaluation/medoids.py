"""Whether several interests of a period find more than one vector of it does.

At each origin, every user's last active period before it is pooled into one vector (as it is
served), and parted (core/medoids.py). Each query names K items that the user never had, by cosine:

    one_vector   the nearest to the pooled vector
    medoids      where there are several medoids the nearest to these by turns, each as often as its
                 share of the period says; else as one_vector
    parts        the same with each part pooled, instead of its medoid

Truth are the new items of the period from the origin.

Shape suffixes: N = items, M = items of a period, K = places, R = medoids, S = (user, origin) samples.
"""

from dataclasses import dataclass, field

import numpy as np

from services.core.dataset import Dataset
from services.core.medoids import medoids
from services.core.metrics import bootstrap_mean
from services.core.pooling import F64, I64, PoolingConfig
from services.core.ranking import NEVER, top_items
from services.core.records import F32
from services.evaluation.protocol import Split, first_seen, view_at

K = 50
QUERIES = ("one_vector", "medoids", "parts")
# Users asked at an origin, at most.
USER_LIMIT = 300


@dataclass(slots=True)
class _Samples:
    user: list[int] = field(default_factory=list)
    medoid_count: list[int] = field(default_factory=list)
    recall: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in QUERIES})
    # By origin: rows that were shown to anybody.
    shown: dict[str, list[set[int]]] = field(default_factory=lambda: {name: [] for name in QUERIES})


def medoids_report(
    data: Dataset, split: Split, items_ND: F32, pooling: PoolingConfig, *,
    seed: int = 0,
) -> dict[str, object]:  # fmt: skip
    """Return Recall@50 and coverage of both, of all users and of those with several medoids.

    Args:
        data: all events.
        split: where the origins stand.
        items_ND: unit-norm item vectors in the dataset's order.
        pooling: constants of the vector.
        seed: of the sample of USER_LIMIT users at an origin, and of intervals.
    """
    found, seen_N = _Samples(), first_seen(data)
    for origin in split.origins_of(1):
        view = view_at(
            data, split, origin, (1,), first_seen_N=seen_N, user_limit=USER_LIMIT, seed=seed
        )
        truth_AN = view.truth_of("new", 1, view.users)
        had_AN = view.had_UN[view.users]
        order = np.argsort(view.past.user_ix_E, kind="stable")
        starts = np.searchsorted(view.past.user_ix_E[order], np.arange(data.user_count + 1))
        for name in QUERIES:
            found.shown[name].append(set())
        for place, user in enumerate(view.users.tolist()):
            truth, had = truth_AN[place].indices, had_AN[place].indices
            events_E = order[starts[user] : starts[user + 1]]
            if len(truth) and len(events_E):
                rows_M, weight_M = _last_period(view.past, events_E, pooling)
                if np.any(items_ND[rows_M], axis=1).all():
                    _ask(user, rows_M, weight_M, had, set(truth.tolist()), items_ND, found)
    return _figures(found, data.item_count, np.random.default_rng(seed))


def _last_period(past: Dataset, events_E: I64, pooling: PoolingConfig) -> tuple[I64, F64]:
    """Return the items of a user's last active period and their weights in its vector."""
    period_E = past.period_E[events_E]
    last_E = events_E[period_E == period_E.max()]
    rows_M, place_E = np.unique(past.item_ix_E[last_E], return_inverse=True)
    sums_M = np.bincount(place_E, weights=past.weight_E[last_E])
    weight_M = (sums_M**pooling.repetition_power).astype(np.float64)
    return rows_M.astype(np.int64), weight_M


def _ask(
    user: int, rows_M: I64, weight_M: F64, had: I64, truth: set[int], items_ND: F32,
    found: _Samples,
) -> None:  # fmt: skip
    vectors_MD = items_ND[rows_M]
    made = medoids(vectors_MD, weight_M)
    one_K = _nearest((weight_M @ vectors_MD).astype(np.float32), had, items_ND)
    shown = {"one_vector": one_K, "medoids": one_K, "parts": one_K}
    if len(made.row_K) > 1:
        medoid_lists = [_nearest(vectors_MD[row], had, items_ND) for row in made.row_K]
        shown["medoids"] = by_turns(medoid_lists, made.share_K)
        pooled = [
            ((weight_M * (made.part_M == part)) @ vectors_MD).astype(np.float32)
            for part in range(len(made.row_K))
        ]
        part_lists = [_nearest(part_D, had, items_ND) for part_D in pooled]
        shown["parts"] = by_turns(part_lists, made.share_K)
    found.user.append(user)
    found.medoid_count.append(len(made.row_K))
    for name, top_K in shown.items():
        found.recall[name].append(len(truth & set(top_K.tolist())) / min(len(truth), K))
        found.shown[name][-1].update(top_K.tolist())


def _nearest(query_D: F32, had: I64, items_ND: F32) -> I64:
    score_N = items_ND @ query_D
    score_N[had] = NEVER
    return top_items(score_N, K)


def by_turns(lists: list[I64], share_R: F64) -> I64:
    """Return K rows: each list's next one when its turn comes, as often as its share says."""
    turn = np.concatenate(
        [(np.arange(len(rows)) + 0.5) / share for rows, share in zip(lists, share_R, strict=True)]
    )
    rows = np.concatenate(lists)[np.argsort(turn, kind="stable")]
    first = np.sort(np.unique(rows, return_index=True)[1])
    return rows[first][:K]


def _figures(found: _Samples, item_count: int, rng: np.random.Generator) -> dict[str, object]:
    user_S, several_S = np.asarray(found.user), np.asarray(found.medoid_count) > 1
    figures: dict[str, object] = {
        "k": K,
        "medoids_mean": float(np.mean(found.medoid_count)) if found.user else 0.0,
        "coverage_at_50": {
            name: float(np.mean([len(shown) / item_count for shown in found.shown[name]]))
            for name in QUERIES
        },
    }
    for part, mask_S in (("all", np.ones(len(user_S), bool)), ("several", several_S)):
        if not mask_S.any():
            continue
        recall_SC = np.stack([np.asarray(found.recall[name])[mask_S] for name in QUERIES], axis=1)
        figures[part] = {"samples": int(mask_S.sum())} | {
            name: _compared(recall_SC[:, c], recall_SC[:, 0], user_S[mask_S], rng)
            for c, name in enumerate(QUERIES)
        }
    return figures


def _compared(
    recall_S: F64, one_S: F64, user_S: I64, rng: np.random.Generator
) -> dict[str, object]:
    gain = bootstrap_mean(recall_S - one_S, user_S, rng)
    return {
        "recall_at_50": float(recall_S.mean()),
        "gain": gain.mean,
        "gain_ci": [gain.low, gain.high],
    }
