"""What can be wrong with the files of a data folder: found, named with what to do, mended where that is safe.

Nothing is mended that could hold an acknowledged row: a damaged log entry or a truncated file is
named, and a backup is the remedy. What is mended is what a process left behind that was killed.
"""

import json
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from services.core.errors import CoreError
from services.store import delta
from services.store.event_frames import LOGS
from services.store.index import damaged_files
from services.store.layout import Layout
from services.store.model_folder import check_model_folder

# A file younger than this may belong to a write under way.
YOUNG_S = 3600.0
RESTORE = "run `driftline restore` from a backup"
# Drafts of files.replacing, layout.write_json and models._copy; Delta's own of a log entry.
_DRAFT = re.compile(r"(\..+)?\.[0-9a-f]{32}(\.draft)?|_commit_[0-9a-f-]{36}\.json\.tmp|.+#\d+")
_ENTRY = re.compile(r"\d{20}\.json")
# Positions that are made anew where they are gone; nothing is lost by that.
_REMADE = re.compile(r"(intake|items_.+|interests_.+|forecasts_.+)\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    what: str
    # Path below the data folder, or what else names it.
    where: str
    remedy: str
    # Puts it right; None where a person must decide.
    mend: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """Looks at one tenant's files."""

    layout: Layout
    tenant: str
    # Nothing else runs on the store: what is young is left over, too.
    is_idle: bool = False

    def findings(self) -> list[Finding]:
        """Return everything that was found, in the order of the paths."""
        root = self.layout.tenant_dir(self.tenant)
        if not root.is_dir():
            return []
        found = [*self._drafts(root), *self._states(), *self._models(), *self._databases()]
        for table in self._tables(root):
            found += self._table(table)
        for space in sorted((root / "index").glob("*/")):
            found += self._index(space)
        for part in sorted((root / "feast" / "offline").glob("*/part-*.parquet")):
            found += self._part(part)
        return sorted(found, key=lambda each: (each.where, each.what))

    def _tables(self, root: Path) -> list[Path]:
        tables = [root / name for name in ("events", "items", "rejects")]
        tables += sorted((root / "vectors").glob("*/"))
        tables += [
            self.layout.inbox_dir(self.tenant, writer) / log
            for writer in self.layout.inbox_writers(self.tenant)
            for log in LOGS
        ]
        return [path for path in tables if _is_table(path)]

    def _table(self, path: Path) -> Iterator[Finding]:
        for entry in sorted((path / "_delta_log").glob("*.json")):
            if _ENTRY.fullmatch(entry.name) and not _is_log_entry(entry):
                yield self._named(
                    "damaged log entry", entry, f"{RESTORE}; the table is not opened until then"
                )
        try:
            table = DeltaTable(str(path))
            live = delta.sizes(table)
            replaced = table.vacuum(
                retention_hours=0, dry_run=True, enforce_retention_duration=False
            )
        except (DeltaError, OSError) as error:
            yield self._named(
                "table that cannot be opened", path, f"{RESTORE} ({delta.first_line(error)})"
            )
            return
        for name, (size, rows) in live.items():
            problem = _damage(path / name, size, rows)
            if problem:
                yield self._named(problem, path / name, f"{RESTORE}; other files still are read")
        known = {*live, *replaced}
        for file in sorted(path.rglob("*.parquet")):
            name = str(file.relative_to(path))
            if "_delta_log" not in name and name not in known and self._is_left(file):
                yield self._named("file that no log entry names", file, "", file.unlink)

    def _drafts(self, root: Path) -> Iterator[Finding]:
        for path in sorted(root.rglob("*")):
            if _DRAFT.fullmatch(path.name) and self._is_left(path):
                mend = path.unlink if path.is_file() else _remover(path)
                yield self._named("half-written file", path, "", mend)

    def _states(self) -> Iterator[Finding]:
        for path in sorted(self.layout.state_dir(self.tenant).glob("*.json")):
            if not _is_json(path):
                is_remade = bool(_REMADE.fullmatch(path.name))
                remedy = "the next refresh makes it anew" if is_remade else RESTORE
                yield self._named("damaged state", path, remedy, path.unlink if is_remade else None)

    def _models(self) -> Iterator[Finding]:
        folder = self.layout.models_dir(self.tenant)
        stages = folder / "STAGES.json"
        if stages.exists() and not _is_json(stages):
            yield self._named("damaged list of stages", stages, RESTORE)
        for manifest in sorted(folder.glob("[!.]*/model.json")):
            try:
                check_model_folder(manifest.parent)
            except CoreError as error:
                yield self._named("damaged model", manifest.parent, f"{RESTORE} ({error.message})")

    def _index(self, space: Path) -> Iterator[Finding]:
        current = space / "CURRENT"
        name = current.read_text().strip() if current.exists() else ""
        remedy = "run `driftline refresh --full`"
        if name and not (space / name / "manifest.json").exists():
            yield self._named("index that is not there", space / name, remedy)
        for folder in sorted(space.glob("*/")):
            is_whole = (folder / "manifest.json").exists()
            if folder.name != name and not (is_whole and name) and self._is_left(folder):
                yield self._named("generation never published", folder, "", _remover(folder))
            elif is_whole and (damaged := damaged_files(folder)):
                yield self._named(f"damaged index ({', '.join(damaged)})", folder, remedy)

    def _databases(self) -> Iterator[Finding]:
        feast = self.layout.feast_dir(self.tenant)
        remedies = {
            feast / "online.db": "stop the gateway, remove it, run `driftline rebuild-online`",
            feast / "registry.db": "stop the services, remove it, run `driftline refresh`",
            self.layout.overlays_file(self.tenant): RESTORE,
            self.layout.receipts_file(self.tenant): RESTORE,
        }
        for path, remedy in remedies.items():
            if path.exists() and (problem := _database_problem(path)):
                yield self._named("damaged database", path, f"{remedy} ({problem})")

    def _part(self, path: Path) -> Iterator[Finding]:
        if _damage(path, None, None):
            yield self._named(
                "damaged offline part",
                path,
                f"{RESTORE}, or remove it and run `driftline refresh --full`: "
                "what was known then is lost with it",
            )

    def _is_left(self, path: Path) -> bool:
        try:
            return self.is_idle or time.time() - path.stat().st_mtime > YOUNG_S
        except FileNotFoundError:  # it was a write under way
            return False

    def _named(
        self, what: str, path: Path, remedy: str, mend: Callable[[], None] | None = None
    ) -> Finding:
        where = str(path.relative_to(self.layout.root))
        return Finding(what=what, where=where, remedy=remedy or "--mend removes it", mend=mend)


def _is_table(path: Path) -> bool:
    """Tell a table, be it damaged, from a folder that one was about to be made in."""
    log = path / "_delta_log"
    return log.is_dir() and (any(log.glob("*.json")) or any(path.rglob("*.parquet")))


def _is_log_entry(path: Path) -> bool:
    try:
        lines = path.read_text().splitlines()
        return bool(lines) and all(isinstance(json.loads(line), dict) for line in lines)
    except FileNotFoundError:  # cleaned up after a checkpoint
        return True
    except ValueError:
        return False


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text()), dict)
    except ValueError:
        return False


def _damage(path: Path, size: int | None, rows: int | None) -> str:
    """Say what is wrong with a Parquet file; empty where nothing is. Reads its footer alone."""
    try:
        held = path.stat().st_size
        if size is not None and held != size:
            return f"truncated file ({held} bytes of {size})"
        counted = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except FileNotFoundError:
        return "file that is gone"
    except (OSError, pl.exceptions.PolarsError):
        return "file that cannot be read"
    return "" if rows is None or counted == rows else f"file of {counted} rows instead of {rows}"


def _database_problem(path: Path) -> str:
    try:
        # Not "ro": what a killed writer left is rolled back, and no damage.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as opened:
            said = str(opened.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)
    return "" if said == "ok" else said


def _remover(folder: Path) -> Callable[[], None]:
    return lambda: shutil.rmtree(folder)
