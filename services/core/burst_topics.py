"""What interest can burst for: categories of items, or clusters of them where there are none.

Shape suffixes: N = items, D = width, G = topics.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from services.core.pooling import F64, I64
from services.core.records import F32

# A category is a topic where it has so many items, and this share of all events; clusters, at most.
LEAST_ITEMS, CATEGORY_SHARE, CLUSTERS = 5, 3e-4, 200
# Items that clusters are learned from, at most, and rounds.
_SAMPLE, _ROUNDS = 10_000, 20


def category_groups(
    item_ids: Sequence[str], category_of: Mapping[str, str], popularity_N: F64
) -> tuple[I64, tuple[str, ...]]:
    """Return each item's category as a row of the names, -1 where it is rare or there is none.

    Args:
        item_ids: by row.
        category_of: an item's category; see core.dataset.first_categories.
        popularity_N: events of each item.
    """
    said = np.array([category_of.get(item, "") for item in item_ids])
    names, group_N = np.unique(said, return_inverse=True)
    is_large = np.bincount(group_N) >= LEAST_ITEMS
    is_common = np.bincount(group_N, weights=popularity_N) >= CATEGORY_SHARE * popularity_N.sum()
    kept = is_large & is_common & (names != "")
    row = np.where(kept, np.cumsum(kept) - 1, -1)
    return np.asarray(row[group_N], np.int64), tuple(names[kept].tolist())


def cluster_groups(items_ND: F32, seed: int) -> I64:
    """Return each item's cluster."""
    from scipy.cluster.vq import kmeans2, vq

    count = max(min(CLUSTERS, len(items_ND) // LEAST_ITEMS), 1)
    sample = np.arange(len(items_ND))
    if len(sample) > _SAMPLE:
        sample = np.random.default_rng(seed).choice(sample, _SAMPLE, replace=False)
    vectors_ND = items_ND.astype(np.float64)
    centre_GD, _ = kmeans2(vectors_ND[sample], count, minit="++", iter=_ROUNDS, seed=seed)
    cluster_N, _ = vq(vectors_ND, centre_GD)
    _, group_N = np.unique(cluster_N, return_inverse=True)
    return np.asarray(group_N, np.int64)


def topic_vectors(items_ND: F32, group_N: I64, popularity_N: F64) -> F32:
    """Return the unit mean of each group's items, weighted by the root of their events [G, D]."""
    kept = group_N >= 0
    sums = np.zeros((int(group_N.max()) + 1, items_ND.shape[1]))
    np.add.at(sums, group_N[kept], items_ND[kept] * np.sqrt(popularity_N[kept])[:, None])
    norm = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return np.asarray(sums / norm, np.float32)
