"""Past states from the offline history: what was, or could have been, known at an instant."""

import asyncio
from datetime import datetime

import numpy as np
import polars as pl

from services.core import schema as names
from services.core.records import InterestVector
from services.core.schema import Granularity, bucket_of
from services.core.views import view_named
from services.store import offline_parts
from services.store.layout import Layout
from services.store.rows import interest_of


def trajectory_of(
    rows: pl.DataFrame,
    granularity: Granularity,
    *,
    event_time: datetime,
    ingest_time: datetime,
    limit: int,
    before: int | None = None,
) -> list[InterestVector]:
    """Return one user's trajectory from that user's rows of interest_{g}_by_period.

    Of a period's rows with `known_time <= ingest_time`, the newest computed by then counts;
    where none was (the period was backfilled later), the newest of all.
    """
    newest = (
        rows.filter(
            (pl.col(names.KNOWN_TIME) <= ingest_time) & (pl.col(names.PERIOD_START) < event_time)
        )
        .sort(pl.col(names.COMPUTED_TIME) <= ingest_time, names.COMPUTED_TIME)
        .unique(names.PERIOD_START, keep="last", maintain_order=True)
        .sort(names.PERIOD_START)
    )
    vectors = [_vector(row, granularity) for row in newest.iter_rows(named=True)]
    if before is not None:
        vectors = [vector for vector in vectors if vector.period.ordinal < before]
    return vectors[max(len(vectors) - limit, 0) :]


def _vector(row: dict[str, object], granularity: Granularity) -> InterestVector:
    features = {**row, names.VEC: np.asarray(row[names.VEC], np.float32)}
    return interest_of(features, granularity, row[names.COMPUTED_TIME], row[names.KNOWN_TIME])  # type: ignore[arg-type]


class ParquetHistory:
    """HistoryReader over the offline parts. Reads in a thread; the caller sets deadline and limit."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def trajectory(
        self,
        tenant: str,
        space_id: str,
        user_id: str,
        granularity: Granularity,
        *,
        event_time: datetime,
        ingest_time: datetime,
        limit: int,
        before: int | None = None,
    ) -> list[InterestVector]:
        """Return what was, or could have been, known at an instant; see the port.

        Raises:
            NotReady: nothing was published in this space. DependencyUnavailable: a part is unreadable.
        """
        view = view_named(names.by_period_view(granularity, space_id))
        bucket = bucket_of(user_id, self._layout.bucket_count)
        rows = await asyncio.to_thread(
            offline_parts.read, self._layout, tenant, view, bucket, [user_id]
        )
        return trajectory_of(
            rows,
            granularity,
            event_time=event_time,
            ingest_time=ingest_time,
            limit=limit,
            before=before,
        )
