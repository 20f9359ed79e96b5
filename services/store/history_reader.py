"""Past states from the offline history: what was, or could have been, known at an instant."""

import asyncio
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from services.core import schema as names
from services.core.records import Forecast, InterestVector
from services.core.schema import Granularity, bucket_of
from services.core.views import view_named
from services.store import offline_parts
from services.store.layout import Layout
from services.store.rows import forecast_of, interest_of


def trajectory_of(
    rows: pl.DataFrame,
    granularity: Granularity,
    *,
    space_id: str,
    event_time: datetime,
    ingest_time: datetime,
    limit: int,
    declared: datetime | None,
    before: int | None = None,
) -> list[InterestVector]:
    """Return one user's trajectory from that user's rows of interest_{g}_by_period.

    Of a period's rows the newest that was computed by `ingest_time` counts, so that what comes in
    or is made later changes no answer. Before the space was declared nothing was computed: what
    could have been known stands in, each period by its newest row with `known_time <= ingest_time`.
    """
    newest = (
        _by(rows, ingest_time, declared)
        .filter(pl.col(names.PERIOD_START) < event_time)
        .sort(pl.col(names.COMPUTED_TIME) <= ingest_time, names.COMPUTED_TIME)
        .unique(names.PERIOD_START, keep="last", maintain_order=True)
        .sort(names.PERIOD_START)
    )
    vectors = [_vector(row, granularity, space_id) for row in newest.iter_rows(named=True)]
    if before is not None:
        vectors = [vector for vector in vectors if vector.period.ordinal < before]
    return vectors[max(len(vectors) - limit, 0) :]


def newest_forecast(
    rows: pl.DataFrame,
    granularity: Granularity,
    *,
    space_id: str,
    event_time: datetime,
    ingest_time: datetime,
    declared: datetime | None,
) -> Forecast | None:
    """Return the newest of one user's forecasts; see the port HistoryReader.

    Args:
        rows: the user's, of forecast_{g}.
        granularity: of the forecasts.
        space_id: of the view.
        event_time: only periods that had closed by then were used.
        ingest_time: only what was computed, or could have been known, by then.
        declared: when the space was; None where nobody wrote it down.
    """
    found = [
        forecast_of(_arrays(row), granularity, row[names.COMPUTED_TIME], space_id)
        for row in _by(rows, ingest_time, declared).iter_rows(named=True)
    ]
    made = [forecast for forecast in found if forecast.made_at.end <= event_time]
    return max(
        made, key=lambda one: (one.made_at, one.computed_time <= ingest_time, one.computed_time),
        default=None,
    )  # fmt: skip


def _by(rows: pl.DataFrame, ingest_time: datetime, declared: datetime | None) -> pl.DataFrame:
    """Return what was computed by an instant; what could have been known, before a space began."""
    if declared is not None and ingest_time >= declared:
        rows = rows.filter(pl.col(names.COMPUTED_TIME) <= ingest_time)
    return rows.filter(pl.col(names.KNOWN_TIME) <= ingest_time)


def _arrays(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of forecast_{g} as its features."""
    flat = {name: np.asarray(row[name], np.float32) for name in (names.MEANS, names.SCALES)}
    return {**row, **flat}


def _vector(row: dict[str, Any], granularity: Granularity, space_id: str) -> InterestVector:
    features = {**row, names.VEC: np.asarray(row[names.VEC], np.float32)}
    times = row[names.COMPUTED_TIME], row[names.KNOWN_TIME]
    return interest_of(features, granularity, *times, space_id)


class ParquetHistory:
    """HistoryReader over the offline parts. Reads in a thread; the caller sets deadline and limit."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        # By tenant and space; written once, before the first row.
        self._declared: dict[tuple[str, str], datetime | None] = {}

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
        view = names.by_period_view(granularity, space_id)
        rows = await self._rows(tenant, view, user_id)
        return trajectory_of(
            rows,
            granularity,
            space_id=space_id,
            event_time=event_time,
            ingest_time=ingest_time,
            limit=limit,
            declared=self._declared_time(tenant, space_id),
            before=before,
        )

    async def forecast_at(
        self,
        tenant: str,
        space_id: str,
        user_id: str,
        granularity: Granularity,
        *,
        event_time: datetime,
        ingest_time: datetime,
    ) -> Forecast | None:
        """Return the newest forecast that had been made by an instant; see the port.

        Raises as trajectory.
        """
        rows = await self._rows(tenant, names.forecast_view(granularity, space_id), user_id)
        return newest_forecast(
            rows,
            granularity,
            space_id=space_id,
            event_time=event_time,
            ingest_time=ingest_time,
            declared=self._declared_time(tenant, space_id),
        )

    async def _rows(self, tenant: str, view: str, user_id: str) -> pl.DataFrame:
        """Return every row of a user, in a thread."""
        bucket = bucket_of(user_id, self._layout.bucket_count)
        return await asyncio.to_thread(
            offline_parts.read, self._layout, tenant, view_named(view), bucket, [user_id]
        )

    def _declared_time(self, tenant: str, space_id: str) -> datetime | None:
        declared = self._declared.get((tenant, space_id))
        if declared is None:
            declared = offline_parts.declared_time(self._layout, tenant, space_id)
            self._declared[tenant, space_id] = declared
        return declared
