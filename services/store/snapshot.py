"""One instant of a data folder, kept by hard links while it is copied away.

Events are taken in meanwhile: an inbox is pinned at a version of its log. Whoever publishes, erases, takes
the inbox in or changes the registry waits for the instant, which takes as long as links to all
files and copies of the SQLite files do; not for the copying after it.

ROOT/{tenant}/.backup.{hex}/    the links; `driftline doctor` removes what a killed backup left
"""

import json
import os
import re
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from filelock import FileLock

from services.core.errors import DependencyUnavailable
from services.store import backup_registry, delta
from services.store.backup_registry import Backup
from services.store.clock import clock_of
from services.store.delta_log import files_of
from services.store.layout import Layout
from services.store.leases import reading
from services.store.overlays import Save
from services.store.turns import PUBLISH_LOCK, REGISTRY_LOCK, alone, named_lock

# After this a reader that still copies no longer holds back erasures.
LONGEST = timedelta(hours=24)
_BUSY_S = 60.0
_TRIES = 5
_LOG_FILE = re.compile(r"(\d{20})\.(json|checkpoint\..*parquet)")
_ENTRY = re.compile(r"\d{20}\.json")
# Below a tenant: of processes that run now, or made anew where they are absent.
_LEFT_OUT = {"leases", "training"}
_REMADE = {"event_ids"}
_LOG = "_delta_log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What was there at the instant."""

    backup: Backup
    # Path below the data folder -> where it lies until the snapshot ends.
    files: dict[str, Path]
    # Path of a Delta table below the data folder -> its version.
    tables: dict[str, int]


@contextmanager
def snapshot(
    layout: Layout, keep: timedelta, save_corrections: Save | None = None
) -> Iterator[Snapshot]:
    """Hold an instant of every tenant, and list it as a backup; an error takes it off the list.

    Args:
        layout: of the store.
        keep: after which the backup is to be gone; receipts of erasures say so.
        save_corrections: writes those of a tenant to a file, where they lie in no file.

    Raises:
        DependencyUnavailable: a file is damaged, or the disk takes no more.
    """
    layout.backups_dir().mkdir(parents=True, exist_ok=True)
    staged: dict[Path, Path] = {}
    backup = None
    with ExitStack() as stack:
        # One at a time: what another one left is nobody's.
        stack.enter_context(FileLock(layout.backups_dir() / "making.lock"))
        tenants = [name for name in layout.tenants() if layout.tenant_dir(name).is_dir()]
        for tenant in tenants:
            stack.enter_context(reading(layout, tenant, "backup", LONGEST))
        roots = [layout.root, *(layout.tenant_dir(name) for name in tenants)]
        for root in roots:
            for left in root.glob(".backup.*"):
                shutil.rmtree(left, ignore_errors=True)
            staged[root] = root / f".backup.{uuid.uuid4().hex}"
            stack.callback(shutil.rmtree, staged[root], ignore_errors=True)
        try:
            with _still(layout, tenants):
                backup = _listed(layout, keep)
                tables = _stage(layout, tenants, staged)
                for tenant in tenants if save_corrections else ():
                    assert save_corrections is not None
                    name = layout.overlays_file(tenant).name
                    save_corrections(tenant, staged[layout.tenant_dir(tenant)] / name)
            yield Snapshot(backup=backup, files=_files(layout, staged), tables=tables)
        except BaseException as error:
            if backup is not None:
                (layout.backups_dir() / f"{backup.name}.json").unlink(missing_ok=True)
            if isinstance(error, OSError | sqlite3.Error):
                raise DependencyUnavailable("the backup", f"failed ({error})") from error
            raise


@contextmanager
def _still(layout: Layout, tenants: list[str]) -> Iterator[None]:
    """Hold every lock under which files change together; events are recorded all the same."""
    with ExitStack() as stack:
        for tenant in tenants:
            state = layout.state_dir(tenant)
            stack.enter_context(alone(state))
            for name in ("intake", "tables"):
                stack.enter_context(named_lock(state, name))
            spaces = sorted((layout.tenant_dir(tenant) / "index").glob("*/"))
            for folder in (layout.feast_dir(tenant), *spaces):
                if folder.is_dir():
                    stack.enter_context(FileLock(folder / PUBLISH_LOCK))
            if layout.models_dir(tenant).is_dir():
                stack.enter_context(FileLock(layout.models_dir(tenant) / REGISTRY_LOCK))
        yield


def _listed(layout: Layout, keep: timedelta) -> Backup:
    now = clock_of(layout.root).tick()
    name = f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    backup = Backup(name=name, created_time=now, expires_time=now + keep)
    backup_registry.record(layout, backup)
    return backup


def _stage(layout: Layout, tenants: list[str], staged: dict[Path, Path]) -> dict[str, int]:
    tables: dict[str, int] = {}
    root = layout.root
    folders = {*tenants, "logs"}
    _stage_tree(root, staged[root], left_out=folders)
    for tenant in tenants:
        source = layout.tenant_dir(tenant)
        # Positions before what they point at: work that is done again changes nothing.
        state = layout.state_dir(tenant)
        _stage_tree(state, staged[source] / state.name, left_out=_REMADE)
        told = _stage_tree(source, staged[source], left_out=_LEFT_OUT | {state.name})
        tables.update({f"{tenant}/{name}": version for name, version in told.items()})
    return tables


def _stage_tree(source: Path, target: Path, left_out: set[str]) -> dict[str, int]:
    """Keep a folder's files, a folder's own before those below; returns versions of Delta tables."""
    tables: dict[str, int] = {}
    for folder, names, files in os.walk(source):
        here = Path(folder)
        below = target / here.relative_to(source)
        names[:] = sorted(n for n in names if n[0] != "." and (here != source or n not in left_out))
        if _LOG in names:
            tables[str(here.relative_to(source))] = _stage_table(here, below)
            names.clear()
            continue
        below.mkdir(parents=True, exist_ok=True)
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith((".lock", "-wal", "-shm")):
                with suppress(FileNotFoundError):
                    _stage_file(here / name, below / name)
    return tables


def _stage_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file:
        is_sqlite = file.read(16) == b"SQLite format 3\0"
    if is_sqlite:
        _copy_sqlite(source, target)
        return
    try:
        # Files are replaced, never written into: a link keeps what is there now.
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def _copy_sqlite(source: Path, target: Path) -> None:
    # Not "ro": what a killed writer left must be rolled back first.
    uri = f"{source.absolute().as_uri()}?mode=rw"
    with (
        closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S)) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)
    shutil.copystat(source, target)


def _stage_table(source: Path, target: Path) -> int:
    for _ in range(_TRIES):
        try:
            return _pin(source, target)
        except FileNotFoundError:  # cleaned up between the look and the link
            shutil.rmtree(target, ignore_errors=True)
        except DeltaError as error:
            problem = f"cannot open {source.name} ({delta.first_line(error)})"
            raise DependencyUnavailable(
                "event store", f"{problem}; run `driftline doctor`"
            ) from error
    raise DependencyUnavailable(
        "event store", f"lacks a file of {source.name}; run `driftline doctor`"
    )


def _pin(source: Path, target: Path) -> int:
    """Keep a table at its newest version while others append to it; returns the version."""
    log, kept = source / _LOG, target / _LOG
    kept.mkdir(parents=True)
    last = log / "_last_checkpoint"
    newest = -1
    if last.exists():  # before the listing, so that what it names is listed
        _stage_file(last, kept / last.name)
        newest = int(json.loads((kept / last.name).read_text())["version"])
    names = sorted(path.name for path in log.iterdir())
    for version in sorted(int(name[:20]) for name in names if _ENTRY.fullmatch(name)):
        # A listing may have a commit and lack the one before, where both came meanwhile.
        newest += version == newest + 1
    for name in names:
        found = _LOG_FILE.fullmatch(name)
        if found and int(found[1]) <= newest:
            _stage_file(log / name, kept / name)
    for name in files_of(DeltaTable(str(target))):
        _stage_file(source / name, target / name)
    return newest


def _files(layout: Layout, staged: dict[Path, Path]) -> dict[str, Path]:
    found = {}
    for root, kept in staged.items():
        for path in sorted(kept.rglob("*")):
            if path.is_file():
                found[str((root / path.relative_to(kept)).relative_to(layout.root))] = path
    return dict(sorted(found.items()))
