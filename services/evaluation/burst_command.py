"""What `driftline evaluate bursts` reads: events, a space of vectors, topics.

Shape suffixes: N = items, G = categories or topics.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from services.core.dataset import Dataset, dataset_from_frame
from services.core.forecasters import forecaster_of
from services.core.pooling import F64, I64, PoolingConfig
from services.core.progress import Progress
from services.core.records import F32
from services.core.schema import CATEGORIES, ITEM_ID, Granularity
from services.evaluation.bursts import BurstFitter, Space, run_bursts
from services.evaluation.frames import read_events
from services.evaluation.planted_bursts import LEAST_ITEMS
from services.store.model_folder import load_model
from services.store.ports import TextEncoder

# Events that make a category a topic, a share of all; clusters where a file has no categories.
CATEGORY_SHARE, CLUSTERS = 3e-4, 200


def run_burst_benchmark(
    events: Path | pl.DataFrame, backbone: TextEncoder, fitter: BurstFitter, *,
    granularity: Granularity, model: Path | None, out: Path, least_events: int, user_limit: int,
    seed: int, on_progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Read events, place their items in a space, and evaluate (see bursts.run_bursts).

    Args:
        events: Parquet file or frame: user_id, item_id, event_time; text and categories.
        backbone: encodes texts.
        fitter: fits detection.
        granularity: length of a period.
        model: folder whose item space and forecaster are used; None: the frozen text space.
        out: folder of the report.
        least_events: see run_bursts.
        user_limit: see run_bursts.
        seed: see run_bursts.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: unreadable events, or too little of them.
        NotReady: there is no model in the folder.
    """
    known = load_model(model) if model is not None else None
    pooling = known.pooling if known is not None else PoolingConfig()
    raw = pl.read_parquet(events) if isinstance(events, Path) and events.is_file() else events
    data = dataset_from_frame(read_events(raw), granularity, pooling)
    text_NV = backbone.encode(data.texts, lambda done, total: on_progress("encode", done, total))
    items_ND, name, forecaster = text_NV, f"frozen text space of {backbone.spec.name}", None
    if known is not None:
        items_ND = known.tower.item_vectors(text_NV, data.item_ids)
        name = f"item space {known.space_id} of model {known.model_version}"
        spec = known.forecasters.get(granularity)
        forecaster = forecaster_of(spec) if spec is not None else None
    popularity_N = np.bincount(data.item_ix_E, minlength=data.item_count).astype(np.float64)
    group_N = categories(raw, data, popularity_N)
    cluster_N, topics_GD = _topics(items_ND, group_N, popularity_N, seed)
    space = Space(
        name=name, items_ND=items_ND, text_NV=text_NV, group_N=group_N, cluster_N=cluster_N,
        topics_GD=topics_GD, pooling=pooling, forecaster=forecaster,
    )  # fmt: skip
    return run_bursts(
        data, space, fitter, out=out, least_events=least_events, user_limit=user_limit, seed=seed,
        on_progress=on_progress,
    )  # fmt: skip


def categories(raw: pl.DataFrame | Path, data: Dataset, popularity_N: F64) -> I64:
    """Return each item's first category as 0..G-1; -1 where it is rare or there is none."""
    none_N = np.full(data.item_count, -1)
    if isinstance(raw, Path) or CATEGORIES not in raw.columns or ITEM_ID not in raw.columns:
        return none_N
    named = raw.select(
        pl.col(ITEM_ID).cast(pl.String), pl.col(CATEGORIES).list.first().alias("category")
    ).unique(ITEM_ID, keep="first", maintain_order=True)
    of = dict(named.drop_nulls().iter_rows())
    said = np.array([of.get(item, "") for item in data.item_ids])
    names, group_N = np.unique(said, return_inverse=True)
    is_large = np.bincount(group_N) >= LEAST_ITEMS
    is_common = np.bincount(group_N, weights=popularity_N) >= CATEGORY_SHARE * popularity_N.sum()
    kept = is_large & is_common & (names != "")
    row = np.where(kept, np.cumsum(kept) - 1, -1)
    return np.asarray(row[group_N], np.int64)


def _topics(items_ND: F32, group_N: I64, popularity_N: F64, seed: int) -> tuple[I64, F32]:
    """Return a group of each item and unit topics: of categories where there are any, else clusters."""
    if (group_N >= 0).any():
        cluster_N = group_N
    else:
        from scipy.cluster.vq import kmeans2

        count = max(min(CLUSTERS, len(items_ND) // LEAST_ITEMS), 1)
        _, cluster_N = kmeans2(items_ND.astype(np.float64), count, minit="++", iter=20, seed=seed)
        _, cluster_N = np.unique(cluster_N, return_inverse=True)
    kept = cluster_N >= 0
    sums = np.zeros((int(cluster_N.max()) + 1, items_ND.shape[1]))
    np.add.at(sums, cluster_N[kept], items_ND[kept] * np.sqrt(popularity_N[kept])[:, None])
    norm = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return np.asarray(cluster_N, np.int64), (sums / norm).astype(np.float32)
