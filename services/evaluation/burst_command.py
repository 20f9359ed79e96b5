"""What `driftline evaluate bursts` reads: events, a space of vectors, topics.

Shape suffixes: N = items, G = categories or topics.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from services.core.burst_topics import category_groups, cluster_groups, topic_vectors
from services.core.dataset import dataset_from_frame, first_categories
from services.core.forecasters import forecaster_of
from services.core.pooling import F64, I64, PoolingConfig
from services.core.progress import Progress
from services.core.records import F32
from services.core.schema import Granularity
from services.evaluation.bursts import BurstFitter, Space, run_bursts
from services.evaluation.frames import read_events
from services.store.model_folder import load_model
from services.store.ports import TextEncoder


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
    rows = read_events(events)
    data = dataset_from_frame(rows, granularity, pooling)
    text_NV = backbone.encode(data.texts, lambda done, total: on_progress("encode", done, total))
    items_ND, name, forecaster = text_NV, f"frozen text space of {backbone.spec.name}", None
    if known is not None:
        items_ND = known.tower.item_vectors(text_NV, data.item_ids)
        name = f"item space {known.space_id} of model {known.model_version}"
        spec = known.forecasters.get(granularity)
        forecaster = forecaster_of(spec) if spec is not None else None
    popularity_N = np.bincount(data.item_ix_E, minlength=data.item_count).astype(np.float64)
    group_N, _ = category_groups(data.item_ids, first_categories(rows), popularity_N)
    cluster_N, topics_GD = _topics(items_ND, group_N, popularity_N, seed)
    space = Space(
        name=name, items_ND=items_ND, text_NV=text_NV, group_N=group_N, cluster_N=cluster_N,
        topics_GD=topics_GD, pooling=pooling, forecaster=forecaster,
    )  # fmt: skip
    return run_bursts(
        data, space, fitter, out=out, least_events=least_events, user_limit=user_limit, seed=seed,
        on_progress=on_progress,
    )  # fmt: skip


def _topics(items_ND: F32, group_N: I64, popularity_N: F64, seed: int) -> tuple[I64, F32]:
    """Return a group of each item and unit topics: of categories where there are any, else clusters."""
    cluster_N = group_N if (group_N >= 0).any() else cluster_groups(items_ND, seed)
    return cluster_N, topic_vectors(items_ND, cluster_N, popularity_N)
