"""The store's clock: the time of what is written down. It never goes back, whatever the machine's clock does.

ROOT/clock    empty; its modification time is the latest instant that a writer was given

Rows are told apart by when they came in or were made: what was known at an instant, whom an erasure covers,
which of two vectors is the newer. A machine's clock that is set back, or the clock of another machine that is
behind, would put a later row before an earlier one. So each instant is later than the one in the file, by a
microsecond where the machine's clock does not say more.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

CLOCK_FILE = "clock"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def wall_clock() -> datetime:
    """Return the machine's now."""
    return datetime.now(UTC)


class StoreClock:
    """Of one data folder, for any number of processes that share it."""

    def __init__(self, root: Path, wall: Callable[[], datetime] = wall_clock) -> None:
        """Touch nothing yet.

        Args:
            root: the data folder.
            wall: the machine's clock.
        """
        self._file, self._wall = root / CLOCK_FILE, wall
        self._latest, self._turn = _EPOCH, threading.Lock()

    def now(self) -> datetime:
        """Return an instant that is not before any that `tick` gave: for readers."""
        return max(self._wall(), self._last())

    def tick(self) -> datetime:
        """Return an instant later than any before: for writers."""
        with self._turn:
            given = self._latest = max(self._wall(), self._last() + _MICROSECOND)
            stamp = (given - _EPOCH) // _MICROSECOND * 1000
            # A disk that takes nothing: what the instant is for will fail too, and say why.
            with suppress(OSError):
                if not self._file.exists():
                    self._file.touch()
                os.utime(self._file, ns=(stamp, stamp))
            return given

    def ahead(self) -> timedelta:
        """Return by how much the store's time is ahead of the machine's; 0 where it is not."""
        return max(self._last() - self._wall(), timedelta(0))

    def _last(self) -> datetime:
        try:
            micros = self._file.stat().st_mtime_ns // 1000
        except OSError:
            return self._latest
        # What this process was given counts even where the file could not be stamped.
        return max(_EPOCH + micros * _MICROSECOND, self._latest)


@lru_cache(maxsize=256)
def clock_of(root: Path) -> StoreClock:
    """Return this process's view of a data folder's clock."""
    return StoreClock(root)
