"""Locks between jobs: by name, and the turns of those who publish with the one who erases.

Publishers do not wait for each other, only for an erasure; an erasure waits for the publishers under way
and lets no new one begin. On files, by the operating system: a process that dies lets go.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock
from filelock import Timeout as LockTimeout

from services.core.errors import Cancelled

# Locks beside what they guard; a backup holds them all.
PUBLISH_LOCK, REGISTRY_LOCK = "publish.lock", "registry.lock"
# How often someone who waits looks whether to go on.
_LOOK_S = 0.5
_TURN_LOOK_S = 0.02


def never() -> bool:
    """Say that nothing was cancelled."""
    return False


@contextmanager
def named_lock(folder: Path, name: str, cancelled: Callable[[], bool] = never) -> Iterator[None]:
    """Hold a lock by name, waited for until `cancelled` says so. Raises Cancelled."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock", is_singleton=True)
    while True:
        try:
            lock.acquire(timeout=_LOOK_S)
            break
        except LockTimeout:
            if cancelled():
                raise Cancelled(f"waiting for {name}") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def publishing(folder: Path, cancelled: Callable[[], bool] = never) -> Iterator[None]:
    """Publish what is read from now on; no erasure is carried out meanwhile. Raises Cancelled."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "turns.lock").open("w") as file:
        # Through the turnstile: an erasure that waits comes before publishers that come after it.
        with named_lock(folder, "turnstile", cancelled):
            _take(file, fcntl.LOCK_SH, cancelled)
        yield  # closing the file lets go


@contextmanager
def alone(folder: Path, cancelled: Callable[[], bool] = never) -> Iterator[None]:
    """Erase: nobody publishes meanwhile what they read before. Raises Cancelled."""
    with (
        named_lock(folder, "turnstile", cancelled),
        (folder / "turns.lock").open("w") as file,
    ):
        _take(file, fcntl.LOCK_EX, cancelled)
        yield


def _take(file: IO[str], kind: int, cancelled: Callable[[], bool]) -> None:
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if cancelled():
                raise Cancelled("waiting for those who publish") from None
            time.sleep(_TURN_LOOK_S)
