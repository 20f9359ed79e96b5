"""Looks through what tests left behind: no log holds a credential, no file is a pickle."""

import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# An API key, a token, and what tests plant as passwords.
CREDENTIAL = re.compile(
    rb"dlk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}|planted-password"
)
# Tests that write a pickle to see it refused.
WRITERS = ("pickled",)
MOST_BYTES = 64 << 20


def logs_with_credentials(folder: Path) -> list[str]:
    """Return the logs below a folder that hold a credential."""
    return [
        str(path)
        for path in _files(folder)
        if path.suffix == ".log" or path.name in {"log", "stdout", "stderr"}
        if path.stat().st_size <= MOST_BYTES and CREDENTIAL.search(path.read_bytes())
    ]


def pickles(folder: Path) -> list[str]:
    """Return the files below a folder that would run code where they are loaded."""
    return [
        str(path)
        for path in _files(folder)
        if not any(writer in str(path) for writer in WRITERS) and is_pickle(path)
    ]


def is_pickle(path: Path) -> bool:
    """Tell whether a file is a pickle, an archive with one (torch.save), or an array of objects."""
    with path.open("rb") as file:
        head = file.read(128)
        if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 2:
            file.seek(-1, 2)
            return file.read(1) == b"."
    if head[:2] == b"PK":
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    return head[:6] == b"\x93NUMPY" and b"'|O'" in head


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                yield path
