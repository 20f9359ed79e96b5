"""Pages of the rejects, for operators: oldest first, each row in exactly one page."""

import re
from pathlib import Path

import polars as pl
from deltalake.exceptions import DeltaError

from services.core.cleaning import LINE, RAW, REASON, SOURCE
from services.core.errors import DependencyUnavailable, InvalidArgument
from services.core.event_ids import SAME_REJECT
from services.core.instants import TIME
from services.core.records import Reject
from services.core.schema import EVENT_ID, INGEST_TIME, USER_ID
from services.store import delta
from services.store.delta_log import Files
from services.store.event_frames import REJECTS
from services.store.layout import Layout
from services.store.reject_port import RejectPage

# Instant of the last row shown, microseconds, and a digest that orders rows of one instant.
_TOKEN = re.compile(r"(\d{1,16})-([0-9a-f]{16})", re.ASCII)
_DIGEST = "_digest"


class DeltaRejects:
    """ports.RejectReader on the Delta table of rejects."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def rejects(self, tenant: str, *, limit: int, after: str = "") -> RejectPage:
        """Return a page; see the port."""
        path = self._layout.rejects_dir(tenant)
        try:
            paths = [path / name for name in sorted(delta.files(path))]
            rows = (
                pl.scan_parquet(paths, hive_partitioning=False, glob=False)
                if paths
                else pl.LazyFrame(schema=REJECTS)
            )
            return page_of(rows, limit=limit, after=after)
        except (OSError, DeltaError, pl.exceptions.PolarsError) as error:
            problem = f"cannot be read: {delta.first_line(error)}"
            raise DependencyUnavailable("event store", problem) from error


def untold(path: Path, files: Files, rejects: pl.DataFrame) -> pl.DataFrame:
    """Return rejects less those without a line that files of the table hold."""
    fresh = rejects
    for name in files:
        if fresh.is_empty():
            break
        lazy = pl.scan_parquet(path / name, hive_partitioning=False, glob=False)
        told = lazy.filter(pl.col(LINE).is_null()).select(*SAME_REJECT, LINE)
        keys = [*SAME_REJECT, LINE]
        fresh = fresh.lazy().join(told, on=keys, how="anti", nulls_equal=True).collect()
    return fresh


def page_of(rows: pl.LazyFrame, *, limit: int, after: str) -> RejectPage:
    """Return the rows (REJECT_SCHEMA) that follow a page.

    Raises:
        InvalidArgument: `after` is from no page.
    """
    known = pl.col(INGEST_TIME).cast(TIME).dt.timestamp("us")
    ordered = rows.select(*REJECTS).with_columns(
        # The seed is said, so that every process gives the same order.
        pl.struct(*REJECTS).hash(seed=0).alias(_DIGEST)
    )
    if after:
        said = _TOKEN.fullmatch(after)
        if said is None:
            raise InvalidArgument("page_token", "is not from an earlier answer to this request")
        micros, digest = int(said[1]), int(said[2], 16)
        ordered = ordered.filter(
            (known > micros) | ((known == micros) & (pl.col(_DIGEST) > pl.lit(digest, pl.UInt64)))
        )
    found = ordered.sort(INGEST_TIME, _DIGEST).head(limit + 1).collect()
    shown = found.head(limit)
    return RejectPage(
        rejects=tuple(_reject(row) for row in shown.iter_rows(named=True)),
        next=_token(shown.row(-1, named=True)) if found.height > limit else "",
    )


def _token(row: dict[str, object]) -> str:
    micros = pl.Series([row[INGEST_TIME]], dtype=TIME).dt.timestamp("us")[0]
    return f"{micros}-{row[_DIGEST]:016x}"


def _reject(row: dict[str, object]) -> Reject:
    return Reject(
        source=str(row[SOURCE]),
        line=row[LINE],  # type: ignore[arg-type]
        reason=str(row[REASON]),
        event_id=row[EVENT_ID],  # type: ignore[arg-type]
        user_id=row[USER_ID],  # type: ignore[arg-type]
        excerpt=str(row[RAW] or ""),
        ingest_time=row[INGEST_TIME],  # type: ignore[arg-type]
    )
