"""Which failures are the disk's: full, read-only, not ours to write, failing. Libraries say so in their own ways.

A Parquet writer, a Delta log, safetensors and SQLite give no errno, only the system's words; they are
known by those.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from services.core.errors import CoreError, DependencyUnavailable, DiskUnavailable

_FULL = "free space on it"
_CLOSED = "let this program's user write to it"
_BROKEN = "look at the system's log for what fails"
# errno -> what it means, what to do.
_MEANING = {
    errno.ENOSPC: ("is full", _FULL),
    errno.EDQUOT: ("is full: the quota is used up", _FULL),
    errno.EFBIG: ("takes no larger file", "raise the limit on file sizes (ulimit -f)"),
    errno.EROFS: ("is read-only", "mount it for writing"),
    errno.EACCES: ("is closed to this program", _CLOSED),
    errno.EPERM: ("is closed to this program", _CLOSED),
    errno.EIO: ("fails", _BROKEN),
}
# What SQLite says for itself, and numpy of a write that was cut short.
_WORDS = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "disk I/O error": errno.EIO,
    "requested and": errno.ENOSPC,
}
# Longest chain of causes that is looked through.
_CAUSES = 8


def told(error: BaseException) -> CoreError | None:
    """Return what to tell of an error: the disk's failure if that is its cause, else the error itself.

    None of an error that nobody foresaw.
    """
    disk = disk_failure(error)
    if disk is not None and not _says_more(error):
        return disk
    return error if isinstance(error, CoreError) else None


def disk_failure(error: BaseException) -> DiskUnavailable | None:
    """Return the disk's failure that lies behind an error; None where it is another."""
    for cause in _causes(error):
        if isinstance(cause, DiskUnavailable):
            return cause
        number = _number(cause)
        if number is not None:
            what, remedy = _MEANING[number]
            return DiskUnavailable(f"{what} ({os.strerror(number)})", remedy)
    return None


def disk_path(error: BaseException) -> Path | None:
    """Return the file or folder that could not be written, where the system named it."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and _number(cause) is not None and cause.filename:
            return Path(os.fsdecode(cause.filename))
    return None


def _says_more(error: BaseException) -> bool:
    # Only a store that did not answer says less than its cause does.
    return isinstance(error, CoreError) and not isinstance(error, DependencyUnavailable)


def _causes(error: BaseException) -> Iterator[BaseException]:
    at: BaseException | None = error
    for _ in range(_CAUSES):
        if at is None:
            return
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _MEANING else None
    if isinstance(error, CoreError):
        return None
    said = str(error)
    for number in _MEANING:
        # As Rust says it: with the number, so that no text of a user's passes for it.
        if f"{os.strerror(number)} (os error {number})" in said:
            return number
    is_known = type(error).__name__ == "OperationalError" or isinstance(error, OSError)
    return next((n for words, n in _WORDS.items() if is_known and words in said), None)
