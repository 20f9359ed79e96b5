"""Which files of the event table may hold an event id: sorted hashes of each file's ids, kept beside.

Without them every intake would read all ids ever stored. A file's hashes are made where they are first
missed, so that a crash or a merge costs one more reading and nothing else; they go with the file.
"""

import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.core.schema import EVENT_ID

# A hash is only as stable as the library that makes it.
_SUFFIX = f".{pl.__version__}.npy"


class EventIds:
    """Hashes of the ids in the files of one table. Safe between threads and processes."""

    def __init__(self, table: Path, folder: Path) -> None:
        """Keep the hashes of a table's files in a folder of their own."""
        self._table, self._folder = table, folder

    def files_with(self, event_ids: pl.Series, names: Iterable[str]) -> list[str]:
        """Return which of the table's files may hold one of the ids; seldom one that does not."""
        wanted = np.unique(event_ids.hash(seed=0).to_numpy())
        return [name for name in names if _any_in(wanted, self._hashes(name))]

    def forget(self, live: Iterable[str]) -> None:
        """Delete the hashes of files that are not live."""
        kept = {self._path(name).name for name in live}
        for path in self._folder.glob("*"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _hashes(self, name: str) -> NDArray[np.uint64]:
        path = self._path(name)
        try:
            held: NDArray[np.uint64] = np.load(path, mmap_mode="r")
            return held
        except FileNotFoundError:
            ids = pl.read_parquet(
                self._table / name, columns=[EVENT_ID], hive_partitioning=False, glob=False
            )[EVENT_ID]
            hashes = np.sort(ids.hash(seed=0).to_numpy())
            self._folder.mkdir(parents=True, exist_ok=True)
            # Lost in a crash of the machine it is made anew: no sync.
            draft = self._folder / f".{uuid.uuid4().hex}.npy"
            np.save(draft, hashes)
            # Another process may sweep the folder meanwhile.
            with suppress(FileNotFoundError):
                draft.replace(path)
            return hashes

    def _path(self, name: str) -> Path:
        return self._folder / f"{name.replace('/', '+')}{_SUFFIX}"


def _any_in(wanted: NDArray[np.uint64], held: NDArray[np.uint64]) -> bool:
    if not len(held):
        return False
    place = np.searchsorted(held, wanted)
    return bool((held[np.minimum(place, len(held) - 1)] == wanted).any())
