"""Events, items and rejects on Delta Lake, and reading of the inboxes by version.

The rows of an inbox after a position are those of the files that are in the log now and were not
at the position's version. Consumed files are removed whole, so a position whose version has left
the log means: everything that is there. Rows may then come twice, which changes nothing, since
event ids and item versions are deduplicated; none is ever lost.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from deltalake.exceptions import DeltaError
from filelock import FileLock

from services.core.cleaning import SOURCE
from services.core.errors import DependencyUnavailable
from services.core.event_ids import DISPLACED
from services.core.schema import (
    BUCKET,
    EVENT_ID,
    EVENT_TIME,
    INGEST_TIME,
    ITEM_ID,
    UPDATED_TIME,
    USER_ID,
    bucket_of,
)
from services.store import delta
from services.store.clock import clock_of, wall_clock
from services.store.counts import TableCounts
from services.store.delta_log import Files
from services.store.erasing import Left, Removed, Until
from services.store.erasures import drop_erased, tombstones
from services.store.event_frames import EVENTS, ITEMS, LOGS, REJECTS, empty, shape
from services.store.event_ids import EventIds
from services.store.layout import Layout, read_json, write_json
from services.store.leases import leases
from services.store.ports import InboxBatch
from services.store.rejects import untold
from services.store.table_erasure import erase_rejects, erase_rows
from services.store.turns import alone, named_lock, never, publishing

# Rows taken at once, so that a year's import fits in memory on any machine.
BATCH_ROWS = 2_000_000
# Consumed files of a log that make trimming worth a commit.
TRIM_FILES = 32
# Files of a bucket that make merging worth it.
MERGE_FILES = 64
# An erasure or a merge may delete a file under a reader: it looks again.
_READ_TRIES = 5

Answer = TypeVar("Answer")


class DeltaTables:
    """ports.EventTables on a local folder. Safe to share between threads and processes."""

    def __init__(self, layout: Layout, *, batch_rows: int = BATCH_ROWS) -> None:
        self._layout = layout
        self._batch_rows = batch_rows
        self._made: set[tuple[str, str]] = set()
        # Item versions by tenant, as of a version of their table.
        self._items: dict[str, tuple[int, pl.DataFrame]] = {}
        # Returns now by the store's clock, which never goes back.
        self.tick = clock_of(layout.root).tick

    def intake_lock(self, tenant: str) -> AbstractContextManager[object]:
        """Return a lock that one job at a time holds to take the inbox in or to erase."""
        return self._lock(tenant, "intake")

    def read_state(self, tenant: str, name: str) -> dict[str, Any]:
        """Return a small JSON document of the pipeline; empty where there is none."""
        return read_json(self._layout.state_dir(tenant) / f"{name}.json")

    def write_state(self, tenant: str, name: str, state: dict[str, Any]) -> None:
        """Replace a document in one atomic step."""
        write_json(self._layout.state_dir(tenant) / f"{name}.json", state)

    def read_inbox(
        self, tenant: str, position: dict[str, int], until: dict[str, int] | None = None
    ) -> InboxBatch:
        """Return rows committed after `position`, of all writers' logs; `until` asks again.

        Erasures are read first: whatever was committed before one of them is in this batch or an
        earlier one.
        """
        after = dict(position)
        parts: dict[str, list[pl.DataFrame]] = {log: [] for log in LOGS}
        budget = self._batch_rows if until is None else None
        is_last = True
        for log in ("erasures", "items", "events"):
            for writer in self._layout.inbox_writers(tenant):
                name = f"{writer}/{log}"
                if until is not None and name not in until:
                    continue
                chosen, after[name], is_all = self._choose(
                    tenant,
                    name,
                    position.get(name, -1),
                    None if until is None else until[name],
                    budget,
                )
                is_last &= is_all
                if budget is not None:
                    budget = max(0, budget - _row_count(chosen))
                rows = self._log_rows(tenant, name, chosen)
                parts[log].append(rows.with_columns(pl.lit(name).alias(SOURCE)))
        read = {log: _stack(frames, LOGS[log]) for log, frames in parts.items()}
        return InboxBatch(
            events=read["events"],
            items=read["items"],
            erasures=read["erasures"].drop(SOURCE),
            position=after,
            is_last=is_last,
        )

    def trim_inbox(self, tenant: str, position: dict[str, int], *, is_forced: bool = False) -> None:
        """Delete rows up to `position`, which are consumed; those that come meanwhile stay."""
        for name, version in position.items():
            path = self._log_dir(tenant, name)
            live = delta.files(path)
            # Requests to erase go at once: they name a user.
            enough = 1 if is_forced or name.endswith("/erasures") else TRIM_FILES
            if len(live) < enough:
                continue
            consumed = {
                file: facts for file, facts in delta.files(path, version).items() if file in live
            }
            if len(consumed) >= enough:
                delta.forget(path, consumed)

    def append_events(
        self,
        tenant: str,
        rows: pl.DataFrame,
        batch_id: str,
        displaced: pl.DataFrame | None = None,
    ) -> int:
        """Append clean events in place of `displaced` ones, in one commit; returns the version."""
        with self._lock(tenant, "tables"):
            # Looked at under the lock of an erasure: what it covers never comes in behind it.
            kept = drop_erased(self, tenant, rows)
            return self._append_events(tenant, kept, batch_id, displaced)

    def _append_events(
        self, tenant: str, rows: pl.DataFrame, batch_id: str, displaced: pl.DataFrame | None
    ) -> int:
        users = rows.select(USER_ID).unique()
        buckets = [bucket_of(user, self._layout.bucket_count) for user in users[USER_ID]]
        users = users.with_columns(pl.Series(BUCKET, buckets, dtype=pl.Int32))
        shaped = shape(rows.join(users, on=USER_ID, how="left"), EVENTS | {BUCKET: pl.Int32()})
        path = self._table(tenant, "events")
        ordered = shaped.sort(BUCKET, USER_ID, EVENT_TIME)
        if displaced is None or displaced.is_empty():
            version = delta.append(path, ordered, batch_id)
        else:
            version = delta.append_instead(
                path,
                ordered,
                batch_id,
                self._files_with(path, displaced),
                lambda old: old.join(displaced, on=EVENT_ID, how="anti", maintain_order="left"),
            )
        self._merge_events(tenant)
        return version

    def append_items(self, tenant: str, rows: pl.DataFrame, batch_id: str) -> int:
        """Append item versions; a `batch_id` seen before appends nothing. Returns the version."""
        with self._lock(tenant, "tables"):
            path = self._table(tenant, "items")
            version = delta.append(path, shape(rows, ITEMS), batch_id)
            live = delta.files(path)
            if len(live) >= MERGE_FILES:
                delta.rewrite(path, live, lambda old: old, is_merge=True)
        return version

    def append_rejects(self, tenant: str, rows: pl.DataFrame, batch_id: str) -> None:
        """Append rejects; a `batch_id` seen before appends nothing."""
        with self._lock(tenant, "tables"):
            kept = tombstones(self, tenant).redacted(shape(rows, REJECTS))
            delta.append(self._table(tenant, "rejects"), kept, batch_id)

    def read_events(
        self, tenant: str, bucket: int | None = None, users: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Return the events of a bucket (None: all), ordered by user_id, event_time, event_id."""
        path = self._table(tenant, "events")
        theirs = None if users is None else pl.col(USER_ID).is_in(list(users))
        rows = _retried(
            lambda: delta.read(path, _of_bucket(delta.files(path), bucket), EVENTS, theirs)
        )
        return _in_order(rows)

    def known_events(self, tenant: str, event_ids: pl.Series) -> pl.DataFrame:
        """Return the stored events, of any bucket, that have one of these ids."""
        path = self._table(tenant, "events")
        wanted = event_ids.to_frame(EVENT_ID).unique()
        ids = self._event_ids(tenant)

        def search() -> pl.DataFrame:
            # File by file: the ids of one file at a time in memory, the rest for matches only.
            found = [empty(EVENTS)]
            for name in ids.files_with(wanted[EVENT_ID], delta.files(path)):
                lazy = pl.scan_parquet(path / name, hive_partitioning=False, glob=False)
                matched = lazy.select(*EVENTS).join(wanted.lazy(), on=EVENT_ID, how="semi")
                found.append(shape(matched.collect(), EVENTS))
            return pl.concat(found)

        return _retried(search)

    def changed_users(self, tenant: str, bucket: int, since_version: int) -> tuple[list[str], int]:
        """Return users of a bucket with events committed after a version, and the newest one."""
        path = self._table(tenant, "events")

        def look() -> tuple[list[str], int]:
            added, version = delta.new_files(path, since_version)
            replaced = _of_bucket(delta.gone_files(path, since_version), bucket)
            columns = EVENTS if replaced else {USER_ID: EVENTS[USER_ID]}
            rows = delta.read(path, _of_bucket(added, bucket), columns)
            if replaced and all((path / name).exists() for name in replaced):
                # A merge moved these rows; they are not new. What is in one of the two alone is.
                old = delta.read(path, replaced, columns)
                rows = pl.concat(
                    [
                        rows.join(old, on=[*EVENTS], how="anti"),
                        old.join(rows, on=[*EVENTS], how="anti"),
                    ]
                ).select(USER_ID)
            elif replaced:
                # Of whom an event gave way cannot be seen any more; the rejects name them.
                rows = pl.concat([rows.select(USER_ID), self._displaced_users(tenant, bucket)])
            return sorted(rows[USER_ID].unique().to_list()), version

        return _retried(look)

    def read_items(self, tenant: str) -> pl.DataFrame:
        """Return every item version, ordered by item_id, updated_time."""
        path = self._table(tenant, "items")

        def look() -> tuple[int, pl.DataFrame]:
            # Asked for at every refresh, and seldom another: kept by the table's version.
            version = delta.version(path)
            held = self._items.get(tenant)
            if held is not None and held[0] == version:
                return held
            rows = delta.read(path, delta.files(path), ITEMS)
            return version, rows.sort(ITEM_ID, UPDATED_TIME)

        self._items[tenant] = found = _retried(look)
        return found[1]

    def read_rejects(self, tenant: str) -> pl.DataFrame:
        """Return every reject, oldest first."""
        path = self._table(tenant, "rejects")
        rows = _retried(lambda: delta.read(path, delta.files(path), REJECTS))
        return rows.sort(INGEST_TIME, SOURCE, "line")

    def untold_rejects(self, tenant: str, rejects: pl.DataFrame) -> pl.DataFrame:
        """Return rejects less those without a line that are stored already."""
        path = self._table(tenant, "rejects")
        return _retried(lambda: untold(path, delta.files(path), shape(rejects, REJECTS)))

    def counts(self, tenant: str, position: dict[str, int]) -> TableCounts:
        """Count what is stored, and what waits after a position."""
        items = self.read_items(tenant)[ITEM_ID]
        reasons = self.read_rejects(tenant)["reason"].value_counts(sort=True)
        waiting = dict.fromkeys(LOGS, 0)
        for writer in self._layout.inbox_writers(tenant):
            for log in LOGS:
                name = f"{writer}/{log}"
                path = self._log_dir(tenant, name)
                waiting[log] += _row_count(delta.new_files(path, position.get(name, -1))[0])
        return TableCounts(
            events=_row_count(delta.files(self._table(tenant, "events"))),
            item_versions=len(items),
            items=items.n_unique(),
            rejects=dict(reasons.iter_rows()),
            waiting_events=waiting["events"],
            waiting_items=waiting["items"],
            waiting_erasures=waiting["erasures"],
        )

    def user_events(self, tenant: str, user_ids: Sequence[str]) -> pl.DataFrame:
        """Return the stored events of users (EVENT_COLUMNS), in order."""
        path = self._table(tenant, "events")
        buckets = {bucket_of(user, self._layout.bucket_count) for user in user_ids}
        wanted = pl.Series(list(user_ids), dtype=pl.String).implode()

        def search() -> pl.DataFrame:
            found = [empty(EVENTS)]
            for name, (_, bucket) in delta.files(path).items():
                if bucket in buckets:
                    lazy = pl.scan_parquet(path / name, hive_partitioning=False, glob=False)
                    theirs = lazy.select(*EVENTS).filter(pl.col(USER_ID).is_in(wanted))
                    found.append(shape(theirs.collect(), EVENTS))
            return _in_order(pl.concat(found))

        return _retried(search)

    def erase(self, tenant: str, user_ids: list[str], before: datetime | None = None) -> None:
        """Remove users from every table and inbox, and their bytes from the disk."""
        until = dict.fromkeys(user_ids, before)
        for bucket in sorted({bucket_of(user, self._layout.bucket_count) for user in user_ids}):
            self.erase_events(tenant, bucket, until)
        self.erase_rest(tenant, until)
        self.scrub(tenant, self.tick())

    def erase_events(self, tenant: str, bucket: int, until: Until) -> Removed:
        """Remove users' events from a bucket; the bytes stay until `scrub`."""
        path = self._table(tenant, "events")
        with self._lock(tenant, "tables"), _erasing():
            removed = erase_rows(path, _of_bucket(delta.files(path), bucket), until)
            self._event_ids(tenant).forget(delta.files(path))
            return removed

    def erase_rest(self, tenant: str, until: Until) -> dict[str, Removed]:
        """Remove users from rejects and inboxes, by place; the bytes stay until `scrub`."""
        inbox: Counter[str] = Counter()
        with self.intake_lock(tenant), _erasing():
            with self._lock(tenant, "tables"):
                rejects = erase_rejects(self._table(tenant, "rejects"), until)
            for writer in self._layout.inbox_writers(tenant):
                for log in ("events", "erasures"):
                    path = self._log_dir(tenant, f"{writer}/{log}")
                    inbox.update(erase_rows(path, delta.files(path), until))
        return {"rejects": rejects, "inbox": dict(inbox)}

    def scrub(self, tenant: str, since: datetime) -> Left:
        """Delete files that hold no row any more; tell what must stay for now, by place.

        Args:
            tenant: whose data.
            since: when rows were removed: files and leases that are younger do not matter.
        """
        held = [lease for lease in leases(self._layout, tenant, wall_clock())
                if lease.since <= since]  # fmt: skip
        left: Left = {}
        with _erasing(), self._lock(tenant, "tables"):
            for table in ("events", "rejects"):
                path = self._table(tenant, table)
                if not delta.strays(path, wall_clock()):
                    continue
                if held:
                    left[table] = (f"a {held[0].what} reads the files of before", held[0].until)
                else:
                    delta.sweep(path, is_owner=True)
        with _erasing(), self.intake_lock(tenant):
            for writer in self._layout.inbox_writers(tenant):
                for log in ("events", "erasures"):
                    path = self._log_dir(tenant, f"{writer}/{log}")
                    if not delta.strays(path, since):  # cheaper than a sweep that finds nothing
                        continue
                    delta.sweep(path, is_owner=False)
                    if delta.strays(path, since):
                        gone_by = since + timedelta(hours=delta.ORPHAN_HOURS)
                        left["inbox"] = ("files of commits that never came to be", gone_by)
        return left

    def job_lock(
        self, tenant: str, name: str, cancelled: Callable[[], bool] = never
    ) -> AbstractContextManager[None]:
        """Return a lock by name, waited for until `cancelled` says so."""
        return named_lock(self._layout.state_dir(tenant), name, cancelled)

    def publishing(
        self, tenant: str, cancelled: Callable[[], bool] = never
    ) -> AbstractContextManager[None]:
        """Return the turn of who publishes what they read from now on."""
        return publishing(self._layout.state_dir(tenant), cancelled)

    def alone(self, tenant: str) -> AbstractContextManager[None]:
        """Return the turn of who erases."""
        return alone(self._layout.state_dir(tenant))

    def _log_rows(self, tenant: str, name: str, chosen: Files) -> pl.DataFrame:
        log = name.partition("/")[2]
        return _retried(lambda: delta.read(self._log_dir(tenant, name), chosen, LOGS[log]))

    def _choose(
        self, tenant: str, name: str, since: int, until: int | None, budget: int | None
    ) -> tuple[Files, int, bool]:
        """Return files of a log after a version, the version after them, whether those are all."""
        path = self._log_dir(tenant, name)
        chosen, newest = delta.new_files(path, since, until)
        if budget is None or _row_count(chosen) <= budget:
            return chosen, newest, True
        low, high = since, newest
        while high - low > 1:  # the newest version that fits the budget
            middle = (low + high) // 2
            fits = _row_count(delta.new_files(path, since, middle)[0]) <= budget
            low, high = (middle, high) if fits else (low, middle)
        if low == since and budget == self._batch_rows:
            low = high  # one commit larger than a batch, whole
        if low == since:
            return {}, since, False
        chosen, version = delta.new_files(path, since, low)
        return chosen, version, version == newest

    def _files_with(self, path: Path, gone: pl.DataFrame) -> Files:
        """Return the files that hold any of these events."""
        buckets = {bucket_of(user, self._layout.bucket_count) for user in gone[USER_ID].unique()}
        ids = gone.lazy().select(EVENT_ID)
        found: Files = {}
        for name, facts in delta.files(path).items():
            if facts[1] in buckets:
                lazy = pl.scan_parquet(path / name, hive_partitioning=False, glob=False)
                matched = lazy.select(EVENT_ID).join(ids, on=EVENT_ID, how="semi")
                if matched.select(pl.len()).collect().item():
                    found[name] = facts
        return found

    def _displaced_users(self, tenant: str, bucket: int) -> pl.DataFrame:
        rejects = self.read_rejects(tenant)
        users = rejects.filter(pl.col(SOURCE) == DISPLACED).select(USER_ID).drop_nulls().unique()
        count = self._layout.bucket_count
        return users.filter(
            pl.Series(
                [bucket_of(user, count) == bucket for user in users[USER_ID]], dtype=pl.Boolean
            )
        )

    def _merge_events(self, tenant: str) -> None:
        path = self._table(tenant, "events")
        by_bucket: dict[int | None, Files] = {}
        for name, facts in delta.files(path).items():
            by_bucket.setdefault(facts[1], {})[name] = facts
        for live in by_bucket.values():
            if len(live) >= MERGE_FILES:
                delta.rewrite(path, live, _in_order, is_merge=True)
                self._event_ids(tenant).forget(delta.files(path))

    def _event_ids(self, tenant: str) -> EventIds:
        return EventIds(self._table(tenant, "events"), self._layout.state_dir(tenant) / "event_ids")

    def _table(self, tenant: str, table: str) -> Path:
        path = self._layout.tenant_dir(tenant) / table
        # Each by itself: one that is damaged does not shut the others.
        if (tenant, table) not in self._made:
            types = {"events": EVENTS | {BUCKET: pl.Int32()}, "items": ITEMS, "rejects": REJECTS}
            delta.create(path, types[table], BUCKET if table == "events" else None)
            self._made.add((tenant, table))
        return path

    def _log_dir(self, tenant: str, name: str) -> Path:
        writer, _, log = name.partition("/")
        return self._layout.inbox_dir(tenant, writer) / log

    def _lock(self, tenant: str, name: str) -> AbstractContextManager[object]:
        folder = self._layout.state_dir(tenant)
        folder.mkdir(parents=True, exist_ok=True)
        # One object a path, so that a thread that holds the lock may take it again.
        return FileLock(folder / f"{name}.lock", is_singleton=True)


@contextmanager
def _erasing() -> Iterator[None]:
    """Turn a store's own failures into DependencyUnavailable."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError, DeltaError) as error:
        raise DependencyUnavailable("event store", f"cannot be rewritten: {error}") from error


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort(USER_ID, EVENT_TIME, EVENT_ID)


def _of_bucket(files: Files, bucket: int | None) -> Files:
    return {name: facts for name, facts in files.items() if bucket is None or facts[1] == bucket}


def _row_count(files: Files) -> int:
    return sum(rows for rows, _ in files.values())


def _stack(frames: list[pl.DataFrame], types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return pl.concat([empty({**types, SOURCE: pl.String()}), *frames])


def _retried(look: Callable[[], Answer]) -> Answer:
    for attempt in range(_READ_TRIES):
        try:
            return look()
        except (OSError, pl.exceptions.ComputeError, DeltaError) as error:
            if attempt == _READ_TRIES - 1:
                problem = f"cannot be read: {delta.first_line(error)}"
                raise DependencyUnavailable("event store", problem) from error
    raise AssertionError
