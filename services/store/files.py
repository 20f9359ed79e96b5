"""Files that other processes read while we write: they see the old one or the new one, never half of one."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a draft path to write; on leaving, make it durable and put it in the file's place at once.

    The draft is hidden and has no known ending, so that no glob for parts finds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(path)
    try:
        yield draft
        sync(draft)
        draft.replace(path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Put content in a file's place in one atomic, durable step; its folder is made if absent.

    Args:
        path: the file.
        content: all of it.
        mode: who may read it, narrowed by the umask; nobody else ever could.
    """
    with _drafted(path, content, mode) as draft:
        draft.replace(path)
        sync(path.parent)


def make_file_once(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Make a file as replace_file does, but only where there is none: the first process's stays."""
    with _drafted(path, content, mode) as draft:
        with suppress(FileExistsError):
            os.link(draft, path)
        sync(path.parent)


@contextmanager
def _drafted(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """Write a durable draft beside a file; what is left of it on leaving is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(path)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _draft_of(path: Path) -> Path:
    """Return a name that no glob for parts finds, and that the doctor knows for a draft's."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.draft")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
