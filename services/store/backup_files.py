"""A backup as a folder: what was in the data folder, and a list of it with hashes.

DIR/manifest.json    Manifest; written last: without it a backup is not done
DIR/data/...         the files, as they lay below the data folder; modes and times kept
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from services.core.errors import DependencyUnavailable, InvalidArgument
from services.core.progress import Progress
from services.store.files import file_sha256, sync
from services.store.layout import write_json

FORMAT = 1
DATA = "data"
_MANIFEST = "manifest.json"
_CHUNK = 1 << 20
# What an empty data folder may hold: of a new file system, and of a restore that was killed.
_LOST = "lost+found"
_DRAFT = ".restore."


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file."""

    size: int
    sha256: str
    # Permission bits.
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup holds."""

    name: str
    # The instant that it shows.
    created_time: datetime
    # After which it must be gone.
    expires_time: datetime
    # Of the program that made it.
    version: str
    bucket_count: int
    # "sqlite" is within; "redis" is not, but for what users said of their portraits.
    online_store: str
    # Version of each Delta table, by path.
    tables: dict[str, int]
    # Spaces of each tenant.
    spaces: dict[str, list[str]]
    # By path below the data folder.
    files: dict[str, FileEntry]

    @property
    def byte_count(self) -> int:
        """Return the size of all files."""
        return sum(entry.size for entry in self.files.values())


def check_target(folder: Path, root: Path) -> None:
    """Refuse a folder that a backup cannot be written to; what one that was cut left is fine.

    Raises:
        InvalidArgument: it holds a backup or something else, or lies within the data folder.
    """
    if folder.resolve().is_relative_to(root.resolve()):
        raise InvalidArgument("folder", f"{folder} lies in the data folder; name one outside")
    if folder.exists() and not folder.is_dir():
        raise InvalidArgument("folder", f"{folder} is a file; name a new folder")
    held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if _MANIFEST in held:
        raise InvalidArgument("folder", f"{folder} holds a backup already; name a new folder")
    if held - {DATA}:
        raise InvalidArgument("folder", f"{folder} is not empty; name a new folder")


def copy_files(files: dict[str, Path], folder: Path, on_progress: Progress) -> dict[str, FileEntry]:
    """Copy files into a backup that has no manifest yet; those that are there already stay."""
    # Private keys lie in it.
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = folder / DATA
    entries = {}
    for done, (name, source) in enumerate(files.items()):
        target = data / name
        sha256 = "" if not _is_as_long(target, source) else file_sha256(target)
        if not sha256 or sha256 != file_sha256(source):
            sha256 = _copied(source, target)
        stat = source.stat()
        entries[name] = FileEntry(size=stat.st_size, sha256=sha256, mode=stat.st_mode & 0o777)
        on_progress("files", done + 1, len(files))
    for path in sorted(data.rglob("*")):
        if path.is_file() and str(path.relative_to(data)) not in entries:
            path.unlink()
    return entries


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Finish a backup."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "name": manifest.name,
        "created_time": manifest.created_time.isoformat(),
        "expires_time": manifest.expires_time.isoformat(),
        "version": manifest.version,
        "bucket_count": manifest.bucket_count,
        "online_store": manifest.online_store,
        "tables": manifest.tables,
        "spaces": manifest.spaces,
        "files": {
            name: {"size": entry.size, "sha256": entry.sha256, "mode": f"{entry.mode:o}"}
            for name, entry in manifest.files.items()
        },
    }
    write_json(folder / _MANIFEST, content)


def read_manifest(folder: Path) -> Manifest:
    """Return what a backup says that it holds.

    Raises:
        InvalidArgument: there is none, it was not finished, or its list is damaged.
    """
    path = folder / _MANIFEST
    try:
        said = json.loads(path.read_text())
        if said["format"] != FORMAT:
            raise InvalidArgument(
                "backup", f"{path} has format {said['format']}; this program reads {FORMAT}"
            )
        manifest = Manifest(
            name=str(said["name"]),
            created_time=datetime.fromisoformat(said["created_time"]).astimezone(UTC),
            expires_time=datetime.fromisoformat(said["expires_time"]).astimezone(UTC),
            version=str(said["version"]),
            bucket_count=int(said["bucket_count"]),
            online_store=str(said["online_store"]),
            tables=dict(said["tables"]),
            spaces=dict(said["spaces"]),
            files={
                name: FileEntry(
                    size=int(entry["size"]),
                    sha256=str(entry["sha256"]),
                    mode=int(entry["mode"], 8),
                )
                for name, entry in said["files"].items()
            },
        )
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidArgument(
            "backup", f"{folder} holds no finished backup ({_MANIFEST} is absent)"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgument("backup", f"{path} is damaged ({error}); use another one") from None
    for name in manifest.files:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise InvalidArgument("backup", f"{path} names a file outside of it ({name!r})")
    return manifest


def verify(folder: Path, manifest: Manifest, on_progress: Progress) -> None:
    """Compare every file with its hash.

    Raises:
        InvalidArgument: files are absent or differ; the first of them are named.
    """
    wrong = []
    for done, (name, entry) in enumerate(manifest.files.items()):
        problem = _problem(folder / DATA / name, entry)
        if problem:
            wrong.append(f"{name} {problem}")
        on_progress("verified", done + 1, len(manifest.files))
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise InvalidArgument(
            "backup",
            f"{folder} is damaged: {', '.join(wrong[:3])}{more}; nothing was restored, use another one",
        )


def check_empty(root: Path) -> None:
    """Refuse to restore over anything.

    Raises:
        InvalidArgument: the data folder is a file or holds something.
    """
    if root.exists() and not root.is_dir():
        raise InvalidArgument("data_dir", f"{root} is a file; name a new folder")
    held = sorted(path.name for path in root.iterdir()) if root.exists() else []
    held = [name for name in held if name != _LOST and not name.startswith(_DRAFT)]
    if held:
        raise InvalidArgument(
            "data_dir",
            f"{root} is not empty ({held[0]}); move it aside and name it by --erasures, "
            "so that who was erased since the backup stays erased",
        )


def put_back(
    folder: Path,
    manifest: Manifest,
    root: Path,
    change: Callable[[Path], None],
    on_progress: Progress,
) -> None:
    """Copy a verified backup into an empty data folder; nobody sees it before it is whole.

    Args:
        folder: of the backup.
        manifest: of the backup.
        root: the data folder.
        change: called with the draft of the data folder before it takes its place.
        on_progress: called with a stage's name, files done, files in all.

    Raises:
        DependencyUnavailable: the disk takes no more, or a file differs by now; nothing is left.
    """
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f"{_DRAFT}*"):
        shutil.rmtree(left)
    draft = root / f"{_DRAFT}{uuid.uuid4().hex}"
    try:
        for done, (name, entry) in enumerate(manifest.files.items()):
            if _copied(folder / DATA / name, draft / name) != entry.sha256:
                raise DependencyUnavailable("the backup", f"changed while it was read ({name})")
            (draft / name).chmod(entry.mode)
            on_progress("files", done + 1, len(manifest.files))
        change(draft)
        # Last: without it the folder is no store.
        for path in sorted(draft.iterdir(), key=lambda path: (path.name == "store.json", path)):
            path.rename(root / path.name)
        sync(root)
    except OSError as error:
        raise DependencyUnavailable("the data folder", f"cannot be written ({error})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _problem(path: Path, entry: FileEntry) -> str:
    try:
        size = path.stat().st_size
        if size != entry.size:
            return f"has {size} bytes of {entry.size}"
        return "" if file_sha256(path) == entry.sha256 else "was changed"
    except FileNotFoundError:
        return "is absent"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _is_as_long(target: Path, source: Path) -> bool:
    return target.is_file() and target.stat().st_size == source.stat().st_size


def _copied(source: Path, target: Path) -> str:
    """Copy a file durably, its mode and times too; returns its hash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    digest = hashlib.sha256()
    # Nobody else reads it before its mode is known.
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with source.open("rb") as read, os.fdopen(descriptor, "wb") as written:
        while chunk := read.read(_CHUNK):
            digest.update(chunk)
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    shutil.copystat(source, target)
    return digest.hexdigest()
