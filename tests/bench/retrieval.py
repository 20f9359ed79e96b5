"""`python -m tests.bench.retrieval`: is an approximate index worth it for a million items?

Items are sampled around real item vectors of Complete Journey: x_i + t_i u for random directions u,
t_i such that the nearest of the samples around x_i are as far apart as the real item is from its
nearest neighbour; the figures say how far apart they are. Queries are real users' query vectors. What is searched is
discovery = [q, 1, z B] . [x, p, f]: an inner product of vectors made longer, so that popularity is
inside. The peer is exact scoring of the same product by one BLAS call. Both on one thread, in turns.

`make bench-retrieval` installs faiss-cpu; nothing serves by it. nprobe is the least that reaches .965 on
one half of the queries; recall and time are of the other half. Writes build/bench/retrieval.json.
"""

import argparse
import importlib.metadata
import json
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.core.dataset import Dataset, dataset_from_frame, instant, rank_states
from services.core.model import Model
from services.core.pooling import PoolingConfig
from services.core.ranking import (
    item_features,
    popularity_shares,
    query_vectors,
    score_items,
    top_items,
)
from services.core.records import F32
from services.core.schema import Granularity
from services.evaluation.frames import read_events
from services.evaluation.scorers import take_users
from services.pipeline.complete_journey import complete_journey_events
from services.store.backbone import load_backbone
from services.store.model_folder import load_model
from services.training.evaluated import EvaluatedTrainer

K, RECALL, SPEED_UP = 100, 0.95, 3.0
# What nprobe must reach on the queries that choose it: room for others to fall short of them.
CHOSEN_RECALL = 0.965
PROBES = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True, kw_only=True)
class Real:
    """What is known of Complete Journey: vectors to sample around, and who asks."""

    items_ND: F32
    # Popularity of each item, as one user sees it, and what each user adds to it per feature.
    features_NF: F32
    alike_N: F32
    queries_UD: F32
    user_UF: F32


def real_world(model_folder: Path | None, users: int, seed: int) -> Real:
    """Return vectors and queries by a model of ours; trains one where none is named."""
    frame = read_events(complete_journey_events())
    data = dataset_from_frame(frame, Granularity.WEEK, PoolingConfig())
    backbone = load_backbone()
    model = load_model(model_folder) if model_folder else trained(frame, backbone, data)
    items_ND = model.tower.item_vectors(backbone.encode(data.texts), data.item_ids)
    now = float(data.time_E[-1]) + 1.0
    ranker = model.ranker
    stats = popularity_shares(
        data.item_ix_E, data.time_E, now, data.item_count, ranker.popularity_half_lives_days
    )
    picked = np.sort(
        np.random.default_rng(seed).choice(data.user_count, min(users, data.user_count), False)
    )
    states = take_users(rank_states(data, items_ND, model.pooling), picked)
    features_NF = item_features(stats, ranker.popularity_floor, now)
    # popularity = alike_j + (z B) . f_j: the user's part by least squares, which is exact.
    popularity_UN = score_items(states, stats, items_ND, ranker, now).popularity_UN
    basis_NF = np.concatenate([features_NF, np.ones((len(features_NF), 1))], axis=1)
    first_N = popularity_UN[0]
    user_UF = np.linalg.lstsq(basis_NF, (popularity_UN - first_N).T, rcond=None)[0].T
    has_vector_N = np.any(items_ND, axis=1)
    return Real(
        items_ND=items_ND[has_vector_N],
        features_NF=features_NF[has_vector_N],
        alike_N=first_N[has_vector_N],
        queries_UD=query_vectors(states, ranker, now),
        user_UF=user_UF[:, :-1].astype(np.float32),
    )


def trained(frame: Any, backbone: Any, data: Dataset) -> Model:
    """Train the ranker on all events."""
    return EvaluatedTrainer(has_forecasters=False)(
        frame, backbone, granularity=Granularity.WEEK, until=instant(float(data.time_E[-1]) + 1),
        on_progress=lambda *of: None,
    )  # fmt: skip


def sampled(real: Real, count: int, rng: np.random.Generator) -> F32:
    """Return augmented vectors [count, D + 1 + F] around real items."""
    width = real.items_ND.shape[1]
    # Of n random directions the nearest two have about this cosine.
    nearest_cosine = np.sqrt(2.0 * np.log(max(count / len(real.items_ND), 2.0)) / width)
    most = 2.0 * (1.0 - nearest_cosine)
    squared_N = np.minimum(nearest_distances(real.items_ND, real.items_ND) ** 2, 0.9 * most)
    moved_N = np.sqrt(squared_N / (most - squared_N)).astype(np.float32)
    anchor = rng.integers(len(real.items_ND), size=count)
    made = np.empty((count, real.items_ND.shape[1]), np.float32)
    for start in range(0, count, 50_000):
        part = anchor[start : start + 50_000]
        direction = rng.normal(size=(len(part), made.shape[1])).astype(np.float32)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        moved = real.items_ND[part] + direction * moved_N[part, None]
        made[start : start + 50_000] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    # Popularity is another random real item's: near items are not equally popular.
    other = rng.integers(len(real.items_ND), size=count)
    return np.concatenate([made, real.alike_N[other, None], real.features_NF[other]], axis=1)


def nearest_distances(asked_AD: F32, items_ND: F32) -> F32:
    """Return the Euclidean distance to the nearest other item, up to rounding."""
    cosine_AN = asked_AD @ items_ND.T
    cosine_AN[cosine_AN > 1.0 - 1e-6] = -1.0  # itself, and items of the same text
    return np.sqrt(np.maximum(2.0 - 2.0 * cosine_AN.max(axis=1), 0.0)).astype(np.float32)


def build(vectors_NA: F32, lists: int, seed: int) -> Any:
    """Return an inverted-file index by inner product."""
    import faiss

    faiss.omp_set_num_threads(1)
    width = vectors_NA.shape[1]
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.seed, index.cp.max_points_per_centroid = 10, seed, 64
    index.train(vectors_NA)
    index.add(vectors_NA)
    return index


def measure(index: Any, vectors_NA: F32, queries_QA: F32) -> dict[str, Any]:
    """Choose nprobe on the even queries, measure recall and time on the odd ones, in turns."""
    exact: list[Any] = []
    exact_s: list[float] = []
    for query_A in queries_QA:
        started = time.perf_counter()
        exact.append(top_items(vectors_NA @ query_A, K))
        exact_s.append(time.perf_counter() - started)

    def recall(nprobe: int, which: range) -> tuple[float, list[float]]:
        index.nprobe = nprobe
        found, seconds = [], []
        for q in which:
            started = time.perf_counter()
            _, rows = index.search(queries_QA[q : q + 1], K)
            seconds.append(time.perf_counter() - started)
            found.append(len(set(rows[0].tolist()) & set(exact[q].tolist())) / K)
        return statistics.fmean(found), seconds

    chosen = next(
        (n for n in PROBES if recall(n, range(0, len(queries_QA), 2))[0] >= CHOSEN_RECALL),
        PROBES[-1],
    )
    reached, index_s = recall(chosen, range(1, len(queries_QA), 2))
    ours, peer = statistics.median(index_s), statistics.median(exact_s[1::2])
    return {
        "nprobe": chosen,
        "recall_at_100": reached,
        "ours": {"p50_ms": 1e3 * ours},
        "peer": {"p50_ms": 1e3 * peer},
        "ratio": peer / ours,
        "is_worth_it": bool(reached >= RECALL and peer / ours >= SPEED_UP),
    }


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--lists", type=int, default=2048)
    parser.add_argument("--model", type=Path, help="a model folder; trains one where not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/bench/retrieval.json"))
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    real = real_world(args.model, args.queries, args.seed)
    vectors_NA = sampled(real, args.items, rng)
    ones = np.ones((len(real.queries_UD), 1), np.float32)
    queries_QA = np.concatenate([real.queries_UD, ones, real.user_UF], axis=1)
    started = time.perf_counter()
    index = build(vectors_NA, args.lists, args.seed)
    build_s = time.perf_counter() - started
    width = real.items_ND.shape[1]
    asked = np.ascontiguousarray(vectors_NA[:200, :width])
    distances = {
        "real": nearest_distances(real.items_ND, real.items_ND),
        "sampled": nearest_distances(asked, np.ascontiguousarray(vectors_NA[:, :width])),
    }
    random_NA = rng.normal(size=(min(args.items, 200_000), width)).astype(np.float32)
    random_NA /= np.linalg.norm(random_NA, axis=1, keepdims=True)
    found = {
        "name": "retrieval",
        "what": f"{args.items} items of {vectors_NA.shape[1]} floats, best {K}, IVF{args.lists}",
        "peer_name": "exact: one matrix-vector product and a partition",
        "goal": {"recall_at_100": RECALL, "ratio": SPEED_UP},
        **measure(index, vectors_NA, queries_QA),
        "pairs": len(queries_QA) // 2,
        "build_s": build_s,
        "nearest_distance_quartiles": {
            name: np.quantile(values, [0.25, 0.5, 0.75]).round(4).tolist()
            for name, values in distances.items()
        },
        # Random vectors are reported only: nothing real looks like them.
        "random": measure(
            build(random_NA, max(args.lists // 4, 1), args.seed), random_NA, real.queries_UD
        ),
        "machine": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "faiss-cpu")},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
