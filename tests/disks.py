"""Disks that take no more, on purpose: real limits of the system, not patches of our code.

`small_files` bounds the size of any file that a process writes, this one or another; it needs no rights and runs
everywhere (the system says EFBIG). `mounted` is a file system of a few MB of its own (ENOSPC) that `filled` fills
up, and `read_only` one that takes nothing (EROFS); both need the right to mount, else the test is skipped.
"""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_FREE = resource.RLIM_INFINITY


@contextmanager
def small_files(most_bytes: int, pid: int = 0) -> Iterator[None]:
    """Let a process (0: this one) make no file larger than this; what is longer already takes nothing more."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def mounted(folder: Path, mb: int) -> Iterator[Path]:
    """Mount a file system of its own on a new folder."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={mb}m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def filled(disk: Path, left_kb: int = 0) -> Iterator[None]:
    """Fill a mounted disk up but for a few KB; removed again at the end."""
    ballast = disk / "ballast"
    # 0 would be a file; what is freed must be whole pages.
    room = shutil.disk_usage(disk).free - left_kb * 1024
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for _ in range(max(room, 0) // 4096):
            file.write(b"\0" * 4096)
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write below a folder: by a mount for root, whom modes do not stop, else by modes."""
    if os.geteuid():
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        modes = {path: path.stat().st_mode for path in folders}
        for path in folders:
            path.chmod(0o555)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,bind,ro", str(folder))
        yield
    finally:
        _unmount(folder)


def _mount(*words: str) -> None:
    try:
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"may not mount here: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    # Lazily: a file that a thread still holds open must not keep the test's folder for ever.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
