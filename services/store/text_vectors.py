"""Item vectors by content hash: a Delta table per space, to which rows are only ever added.

Each text is encoded once per space; a stored vector never moves. Two processes that encode one text
at once store it twice: the first row counts.
Shape suffixes: N = texts, D = width.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from services.core.instants import TIME
from services.core.records import F32
from services.core.schema import CONTENT_HASH, INGEST_TIME, VEC
from services.store import delta
from services.store.frames import vectors_column
from services.store.layout import Layout

_TYPES: dict[str, pl.DataType] = {
    CONTENT_HASH: pl.String(),
    VEC: pl.List(pl.Float32),
    INGEST_TIME: TIME,
}


class TextVectors:
    """Reads and adds the vectors of a space."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        # By table: what was read at a version of it.
        self._held: dict[Path, tuple[int, dict[str, F32]]] = {}

    def read(self, tenant: str, space_id: str) -> Mapping[str, F32]:
        """Return every stored vector by content hash; rows of one array. Kept until some are added."""
        path = self._layout.vectors_dir(tenant, space_id)
        version = delta.version(path)
        held = self._held.get(path)
        if held is None or held[0] != version:
            self._held[path] = held = version, self._read(path)
        return held[1]

    def _read(self, path: Path) -> dict[str, F32]:
        rows = delta.read(path, delta.files(path), _TYPES)
        rows = rows.sort(INGEST_TIME).unique(CONTENT_HASH, keep="first", maintain_order=True)
        if rows.is_empty():
            return {}
        vec_ND = rows[VEC].explode().to_numpy().reshape(len(rows), -1)
        return dict(zip(rows[CONTENT_HASH].to_list(), vec_ND, strict=True))

    def add(self, tenant: str, space_id: str, hashes: Sequence[str], vec_ND: F32) -> None:
        """Store vectors; they are durable when this returns.

        Raises:
            DependencyUnavailable: the store takes no rows.
        """
        path = self._layout.vectors_dir(tenant, space_id)
        delta.create(path, _TYPES)
        rows = pl.DataFrame(
            {
                CONTENT_HASH: pl.Series(list(hashes), dtype=pl.String),
                VEC: vectors_column(np.asarray(vec_ND, np.float32)),
                INGEST_TIME: pl.Series([datetime.now(UTC)] * len(hashes), dtype=TIME),
            }
        )
        delta.append(path, rows)
