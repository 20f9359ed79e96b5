"""What we ask of Delta Lake: logs that grow, files by version, rewriting without a trace.

What is asked often, the newest files and an append, goes by `delta_log.py`.
Statistics are kept of ingest_time only: Delta writes the smallest and largest value of a column
into its log, where an erased user's id would outlive the rows.
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from services.core.errors import DependencyUnavailable
from services.core.schema import BUCKET, INGEST_TIME
from services.store.delta_log import Files, files_of, log_of

# A log is read by version soon after; older ones may go. A position that points before them makes
# the reader take all rows again, which changes nothing (see tables.py).
_CONFIGURATION = {
    "delta.dataSkippingStatsColumns": INGEST_TIME,
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 0 seconds",
    "delta.checkpointInterval": "100",
}
# Versions after which a checkpoint spares who opens the table the log before.
CHECKPOINT_EVERY = 100
# Rows of a file that are read or skipped together: events lie by user, so few groups hold few users.
ROW_GROUP_ROWS = 16_384
# Other writers commit in between at most this often before a rewrite gives up.
_TRIES = 10
# A file younger than this may belong to a commit under way.
ORPHAN_HOURS = 1

_ASK_DOCTOR = "`driftline doctor` says what to do"

Actions = list[AddAction | RemoveAction]


def create(path: Path, types: Mapping[str, pl.DataType], partition_by: str | None = None) -> None:
    """Make an empty table where there is none; safe for many processes at once."""
    path.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(schema=dict(types))
    for attempt in range(_TRIES):
        try:
            if version(path) >= 0:
                _refuse_empty_entries(path)
                return
        except (DeltaError, OSError, ValueError) as error:
            problem = f"cannot open {path.name} ({first_line(error)}); {_ASK_DOCTOR}"
            raise DependencyUnavailable("event store", problem) from error
        try:
            write_deltalake(
                str(path),
                frame,
                mode="ignore",
                partition_by=partition_by,
                configuration=_CONFIGURATION,
            )
        except DeltaError as error:  # another process may have been first
            if attempt == _TRIES - 1:
                raise DependencyUnavailable(
                    "event store", f"cannot be made: {first_line(error)}"
                ) from error
            time.sleep(0.02 * (attempt + 1))


def _refuse_empty_entries(path: Path) -> None:
    # Delta reads an empty entry as a commit of nothing: its rows would silently be gone.
    for entry in (path / "_delta_log").glob("*.json"):
        with suppress(FileNotFoundError):  # cleaned up after a checkpoint
            if not entry.stat().st_size:
                raise DependencyUnavailable(
                    "event store", f"has an empty log entry {entry.name}; {_ASK_DOCTOR}"
                )


def append(path: Path, rows: pl.DataFrame, batch_id: str | None = None) -> int:
    """Commit rows; a batch_id that was committed before adds nothing. Returns the table's version.

    Raises:
        DependencyUnavailable: the rows were not committed.
    """
    version = append_fast(path, rows, batch_id)
    if is_checkpoint_due(version):
        checkpoint(path)
    return version


def append_fast(path: Path, rows: pl.DataFrame, batch_id: str | None = None) -> int:
    """Append without ever a checkpoint: where `is_checkpoint_due`, the caller makes it when it suits.

    Raises:
        DependencyUnavailable: the rows were not committed.
    """
    try:
        # A table that is gone must not be made again by its first part.
        log_of(path).newest()
        with _parts(path) as written:
            return log_of(path).append(_write_parts(path, rows, written), batch_id)
    except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
        raise DependencyUnavailable("event store", f"took no rows: {first_line(error)}") from error


def append_instead(
    path: Path,
    rows: pl.DataFrame,
    batch_id: str,
    changing: Files,
    change: Callable[[pl.DataFrame], pl.DataFrame],
) -> int:
    """Append, and in the same commit replace files by what `change` makes of their rows.

    A batch_id that was committed before changes nothing. Returns the table's version.

    Raises:
        DependencyUnavailable: nothing was committed.
    """
    actions: Actions = []

    def choose(table: DeltaTable) -> Actions:
        return [] if table.transaction_version(batch_id) is not None else actions

    try:
        log_of(path).newest()
        with _parts(path) as written:
            actions += _write_parts(path, rows, written)
            actions += _rewritten(path, changing, change, written, is_merge=False)[0]
            return _commit(path, choose, batch_id)
    except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
        raise DependencyUnavailable("event store", f"took no rows: {first_line(error)}") from error


def is_checkpoint_due(version: int) -> bool:
    """Tell whether the commit of a version is one that a checkpoint follows."""
    return version > 0 and version % CHECKPOINT_EVERY == 0


def checkpoint(path: Path) -> None:
    """Write a checkpoint and clean up commits older than the retention; others may commit meanwhile."""
    # What fails here costs readers time and nothing else: the next one makes up for it.
    with suppress(DeltaError, OSError):
        table = DeltaTable(str(path))
        table.create_checkpoint()
        table.cleanup_metadata()


def version(path: Path) -> int:
    """Return the newest version; -1 where there is no table."""
    return _newest(path)[0]


def files(path: Path, at: int | None = None) -> Files:
    """Return the live files at a version (None: the newest); none where the version is gone."""
    newest, live = _newest(path)
    if at is None or at == newest:
        return live
    table = _open_at(path, at)
    return {} if table is None else files_of(table)


def new_files(path: Path, since: int, until: int | None = None) -> tuple[Files, int]:
    """Return the files that came after version `since`, and the version they are told up to.

    Where `until` has left the log, a later state stands in: it has all rows that are not consumed.
    """
    now, live = _newest(path)
    if now in (-1, since):
        return {}, now
    if until is not None and until != now:
        table = _open_at(path, until)
        now, live = (now, live) if table is None else (until, files_of(table))
    elif 0 <= since < now:
        now, told = log_of(path).changes(since)
        if told is not None:
            return told.added, now
    # A log younger than the position was made anew: all of it is new.
    before = files(path, since) if since < now else {}
    return {name: facts for name, facts in live.items() if name not in before}, now


def gone_files(path: Path, since: int) -> Files:
    """Return the files that were live at a version and are no more."""
    newest, live = _newest(path)
    if 0 <= since < newest:
        _, told = log_of(path).changes(since)
        if told is not None:
            return told.gone
    return {name: facts for name, facts in files(path, since).items() if name not in live}


def read(
    path: Path, names: Files, types: Mapping[str, pl.DataType], where: pl.Expr | None = None
) -> pl.DataFrame:
    """Return columns of files, in the files' order of name; of rows that meet a condition, if any."""
    if not names:
        return pl.DataFrame(schema=dict(types))
    paths = [path / name for name in sorted(names)]
    try:
        if where is None:
            frame = pl.read_parquet(paths, columns=list(types), hive_partitioning=False, glob=False)
        else:
            rows = pl.scan_parquet(paths, hive_partitioning=False, glob=False)
            frame = rows.filter(where).select(*types).collect()
    except pl.exceptions.PolarsError as error:
        raise OSError(f"{_unreadable(path, names)} ({first_line(error)}); {_ASK_DOCTOR}") from error
    return frame.select(pl.col(name).cast(kind) for name, kind in types.items())


def _unreadable(path: Path, names: Files) -> str:
    """Name the first of the files that cannot be read."""
    for name in sorted(names):
        try:
            pl.scan_parquet(path / name, glob=False).select(pl.len()).collect()
        except (OSError, pl.exceptions.PolarsError):
            return f"{path.name}/{name} is damaged"
    return f"a file of {path.name} is damaged"


def forget(path: Path, consumed: Files) -> None:
    """Remove whole files from a log, and from the disk, while others append to it."""

    def remove(table: DeltaTable) -> Actions:
        live = files_of(table)
        return [_remove(name, facts[1]) for name, facts in consumed.items() if name in live]

    if consumed:
        _commit(path, remove)
        _sweep(path)


def rewrite(
    path: Path,
    names: Files,
    change: Callable[[pl.DataFrame], pl.DataFrame],
    *,
    is_merge: bool = False,
) -> int:
    """Replace files by what `change` makes of their rows, in one commit; returns rows removed.

    The log tells nothing of the rows that went. `is_merge` makes one file per bucket of many. The
    old files stay on the disk until `sweep`.
    """
    with _parts(path) as written:
        actions, removed = _rewritten(path, names, change, written, is_merge=is_merge)
        _commit(path, lambda _: actions)
    return removed


def _rewritten(
    path: Path,
    names: Files,
    change: Callable[[pl.DataFrame], pl.DataFrame],
    written: list[str],
    *,
    is_merge: bool,
) -> tuple[Actions, int]:
    """Write what becomes of files; returns the actions that put it in their place, and rows less."""
    groups: dict[object, list[str]] = {}
    for name, (_, bucket) in names.items():
        groups.setdefault(bucket if is_merge else name, []).append(name)
    removed = 0
    actions: Actions = []
    for group in groups.values():
        old = pl.read_parquet([path / name for name in group], hive_partitioning=False, glob=False)
        new = change(old)
        if not is_merge and new.height == old.height:
            continue
        removed += old.height - new.height
        bucket = names[group[0]][1]
        actions += [_remove(name, bucket) for name in group]
        if not new.is_empty():
            actions.append(_write(path, new, bucket, written))
    return actions, removed


def sweep(path: Path, *, is_owner: bool) -> None:
    """Delete from the disk what the table holds no more.

    Args:
        path: of the table.
        is_owner: nobody else writes now: files of commits that never came to be go too, whatever
            their age. Else only those that are older than an hour.
    """
    _sweep(path)
    with suppress(TableNotFoundError):
        DeltaTable(str(path)).vacuum(
            retention_hours=0 if is_owner else ORPHAN_HOURS,
            dry_run=False,
            enforce_retention_duration=False,
            full=True,
        )


def strays(path: Path, until: datetime) -> int:
    """Count the files of rows on the disk that are not live and were there at an instant.

    One that says it is of the future was: the clock that it was written by has been set back.
    """
    live = {path / name for name in files(path)}
    now = time.time()
    count = 0
    for file in path.rglob("*.parquet"):
        if "_delta_log" in file.parts or file in live:
            continue
        with suppress(FileNotFoundError):
            count += not until.timestamp() < file.stat().st_mtime <= now
    return count


def _sweep(path: Path) -> None:
    # Not full: deletes what was removed, never what a commit under way has just written.
    DeltaTable(str(path)).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)


def _newest(path: Path) -> tuple[int, Files]:
    """Return version and files; -1 where there is no table, or none yet: its first commit is under way."""
    try:
        return log_of(path).newest()
    except TableNotFoundError:
        return -1, {}


def _open_at(path: Path, version: int) -> DeltaTable | None:
    """Open a table as it was; None where the version was cleaned up or never was."""
    try:
        return DeltaTable(str(path), version=version) if version >= 0 else None
    except DeltaError:
        return None


def first_line(error: BaseException) -> str:
    """Return what an error says, without the trace of another language that may follow."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def sizes(table: DeltaTable) -> dict[str, tuple[int, int | None]]:
    """Return bytes and rows of each live file, as the log says."""
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    if actions.is_empty():
        return {}
    columns = (actions[name].to_list() for name in ("path", "size_bytes", "num_records"))
    return {unquote(path): (size, rows) for path, size, rows in zip(*columns, strict=True)}


@contextmanager
def _parts(path: Path) -> Iterator[list[str]]:
    """Give a list to name files in before they are written; after a failure those not committed are removed.

    Else each try on a full disk would leave another part behind.
    """
    written: list[str] = []
    try:
        yield written
    except BaseException:
        with suppress(DeltaError, OSError):
            # A commit may have been made although it raised: what follows it, a checkpoint, may fail.
            live = files(path)
            for name in written:
                if name not in live:
                    (path / name).unlink(missing_ok=True)
        raise


def _write(path: Path, rows: pl.DataFrame, bucket: int | None, written: list[str]) -> AddAction:
    folder = "" if bucket is None else f"{BUCKET}={bucket}/"
    name = f"{folder}part-{uuid.uuid4().hex}.parquet"
    target = path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    written.append(name)
    rows.write_parquet(target, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    _sync(target)
    return AddAction(
        path=name,
        size=target.stat().st_size,
        partition_values={} if bucket is None else {BUCKET: str(bucket)},
        modification_time=_now_ms(),
        data_change=True,
        stats=json.dumps({"numRecords": rows.height}),
    )


def _write_parts(path: Path, rows: pl.DataFrame, written: list[str]) -> list[AddAction]:
    if rows.is_empty():
        return []
    if BUCKET not in rows.columns:
        return [_write(path, rows, None, written)]
    return [
        _write(path, part.drop(BUCKET), int(part[BUCKET][0]), written)
        for part in rows.partition_by(BUCKET, maintain_order=True)
    ]


def _commit(
    path: Path, choose: Callable[[DeltaTable], Actions], batch_id: str | None = None
) -> int:
    """Commit what `choose` says of the newest state, again while others commit in between."""
    marks = [Transaction(batch_id, 1)] if batch_id else None
    properties = CommitProperties(app_transactions=marks, max_commit_retries=100)
    for attempt in range(_TRIES):
        table = DeltaTable(str(path))
        since = table.version()
        actions = choose(table)
        if not actions:
            return table.version()
        try:
            table.create_write_transaction(
                actions,
                mode="append",
                schema=table.schema(),
                partition_by=table.metadata().partition_columns or None,
                commit_properties=properties,
            )
        except CommitFailedError:  # certainly not committed
            if attempt == _TRIES - 1:
                raise
            time.sleep(0.01 * (attempt + 1))
        else:
            return _synced(path, table, since)
    raise AssertionError


def _remove(name: str, bucket: int | None) -> RemoveAction:
    values: dict[str, str | None] = {} if bucket is None else {BUCKET: str(bucket)}
    return RemoveAction(
        name, data_change=True, deletion_timestamp=_now_ms(), partition_values=values
    )


def _synced(path: Path, table: DeltaTable, since: int) -> int:
    """Make the log durable from a version on; returns its newest version."""
    # Opening it anew would read the whole log: a third of a commit's cost.
    table.update_incremental()
    newest = table.version()
    for version in range(since + 1, newest + 1):
        with suppress(FileNotFoundError):  # cleaned up after a checkpoint
            _sync(path / "_delta_log" / f"{version:020}.json")
    return newest


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _now_ms() -> int:
    return int(time.time() * 1000)
