"""`driftline import`: files of events or items -> the inbox, chunk by chunk.

A row that cannot be used goes to the rejects with file, line and reason. A file that cannot be used
is named with what to do; the other files of the call are imported all the same.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from services.core.cleaning import (
    KIND_ALIASES,
    LINE,
    RAW,
    REASON,
    REJECT_SCHEMA,
    SOURCE,
    clean_events,
)
from services.core.errors import InvalidArgument
from services.core.instants import TIME, instants
from services.core.item_cleaning import clean_items
from services.core.progress import Progress
from services.core.schema import (
    CATEGORIES,
    DEFAULT_TENANT,
    EVENT_COLUMNS,
    EVENT_ID,
    EVENT_TIME,
    INGEST_TIME,
    ITEM_ID,
    KIND,
    TEXT,
    TITLE,
    UPDATED_TIME,
    USER_ID,
    VALUE,
    Kind,
)
from services.pipeline.columns import Columns, EventIds, categories_of, recognise
from services.pipeline.file_chunks import CHUNK_ROWS, Chunk, read_chunks
from services.runtime.settings import Settings
from services.store.erasures import Tombstones, erased_rejects, tombstones
from services.store.files import file_sha256
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from services.store.tables import DeltaTables

# The importer's own inbox.
WRITER = "import"
# Items that say no time have always been so.
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSummary:
    """What an import did. Duplicates are found by the next refresh, which counts them."""

    # Files read to their end.
    files: int = 0
    # Events and item versions put into the inbox.
    events: int = 0
    items: int = 0
    # Rows refused.
    rejected: int = 0
    # The same by reason.
    reasons: dict[str, int] = field(default_factory=dict)
    # File -> what is wrong with it and what to do; rows before the fault are imported.
    failed_files: dict[str, str] = field(default_factory=dict)


def import_files(
    paths: Sequence[Path],
    settings: Settings,
    *,
    kind: str | None = None,
    tenant: str = DEFAULT_TENANT,
    on_progress: Progress = lambda stage, done, total: None,
) -> ImportSummary:
    """Put the rows of files into the inbox. Importing a file again changes nothing.

    Args:
        paths: CSV, JSONL or Parquet files of events, or of items.
        settings: data folder, bucket count, clock.
        kind: of events that name none; one of the kinds or their aliases.
        tenant: whose data.
        on_progress: called with "import NAME", done, total.

    Raises:
        InvalidArgument: the kind is unknown, or the store was made with another bucket count.
        DependencyUnavailable: the store takes no rows; import again, nothing is stored twice.
    """
    default_kind = _kind(kind)
    layout = Layout(settings.data_dir, settings.bucket_count)
    inbox, tables = InboxWriter(layout, WRITER, tenant), DeltaTables(layout)
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    failed: dict[str, str] = {}
    for path in map(Path, paths):
        job = _FileImport(path, inbox, settings.clock(), default_kind)
        try:
            for chunk_number, chunk in enumerate(read_chunks(path, CHUNK_ROWS)):
                rejects = job.take(chunk, tombstones(tables, tenant))
                reasons.update(dict(rejects[REASON].value_counts().iter_rows()))
                tables.append_rejects(tenant, rejects, job.batch_id(chunk_number))
                on_progress(f"import {path.name}", chunk.done, chunk.total)
            counts["files"] += 1
        except InvalidArgument as error:
            failed[str(path)] = error.problem
        except OSError as error:
            failed[str(path)] = f"{path} cannot be read ({error.strerror}); check its permissions"
        finally:
            job.finish()
            counts.update(events=job.event_count, items=job.item_count)
    return ImportSummary(
        files=counts["files"],
        events=counts["events"],
        items=counts["items"],
        rejected=reasons.total(),
        reasons=dict(reasons.most_common()),
        failed_files=failed,
    )


def _kind(name: str | None) -> Kind | None:
    if name is None:
        return None
    found = KIND_ALIASES.get(name.strip().lower().replace("-", "_").replace(" ", "_"))
    if found is None:
        raise InvalidArgument("kind", f"{name!r} is unknown; say one of {', '.join(Kind)}")
    return Kind(found)


class _FileImport:
    """One file on its way in."""

    def __init__(self, path: Path, inbox: InboxWriter, now: datetime, kind: Kind | None) -> None:
        self._path, self._inbox, self._now, self._kind = path, inbox, now, kind
        self._ids = EventIds()
        # Distinct (item, title, text, categories) so far, with the time of first appearance.
        self._items: list[pl.DataFrame] = []
        self.event_count = self.item_count = 0
        self._digest = ""

    def batch_id(self, chunk_number: int) -> str:
        """Name a batch of rejects, the same whenever the same content is imported."""
        self._digest = self._digest or file_sha256(self._path)[:32]
        return f"file-{self._digest}-{self._kind}-{chunk_number}"

    def take(self, chunk: Chunk, erased: Tombstones) -> pl.DataFrame:
        """Put a chunk into the inbox; returns its rejects, those of erased users without content."""
        columns = self._recognise(chunk.rows)  # a later chunk of JSONL may have more
        rows = self._raw(chunk.rows, columns)
        rejects = self._take_items(rows) if columns.is_items else self._take_events(rows, erased)
        return erased.redacted(pl.concat([rejects, self._bad_lines(chunk)]))

    def finish(self) -> None:
        """Put the items that the events named into the inbox."""
        if self._items:
            items = _first_seen(self._items)
            self._items = []
            self.item_count += items.height
            self._inbox.append("items", items)

    def _recognise(self, rows: pl.DataFrame) -> Columns:
        try:
            return recognise([name for name in rows.columns if name != LINE], self._kind)
        except InvalidArgument as error:
            raise InvalidArgument("file", f"{self._path}: {error.problem}") from error

    def _raw(self, rows: pl.DataFrame, columns: Columns) -> pl.DataFrame:
        named = {
            ours: rows[theirs].alias(ours)
            for ours, theirs in columns.names.items()
            if theirs in rows.columns
        }
        blank = pl.Series([None] * rows.height, dtype=pl.Null)
        needed = (EVENT_ID, USER_ID, ITEM_ID, KIND, VALUE, EVENT_TIME)
        for name in () if columns.is_items else needed:
            named.setdefault(name, blank.alias(name))
        return pl.DataFrame([*named.values(), rows[LINE]]).with_columns(
            pl.lit(datetime.now(UTC), TIME).alias(INGEST_TIME),
            pl.lit(str(self._path)).alias(SOURCE),
        )

    def _take_events(self, raw: pl.DataFrame, erased: Tombstones) -> pl.DataFrame:
        cleaned = clean_events(raw, self._now, default_kind=self._kind, is_id_required=False)
        filled = self._ids.fill(cleaned.events)
        # Their time of ingestion is now: it is when they happened that an erasure covers.
        is_erased = erased.covers(filled)
        events = filled.filter(~is_erased)
        nothing = pl.lit(None, pl.String)
        gone = filled.filter(is_erased).with_columns(nothing.alias(REASON), nothing.alias(RAW))
        if not events.is_empty():
            self._inbox.append("events", events.select(*EVENT_COLUMNS))
            self.event_count += events.height
        if TEXT in raw.columns or TITLE in raw.columns:
            self._items.append(_first_seen([_items_of(raw, events)]))
            if len(self._items) > 8:
                self._items = [_first_seen(self._items)]
        return pl.concat([cleaned.rejects, erased_rejects(gone.select(*REJECT_SCHEMA))])

    def _take_items(self, raw: pl.DataFrame) -> pl.DataFrame:
        updated = instants(raw[UPDATED_TIME]) if UPDATED_TIME in raw.columns else None
        items = _item_columns(raw).with_columns(
            pl.lit(_ALWAYS, TIME).alias(UPDATED_TIME)
            if updated is None
            else updated.alias(UPDATED_TIME)
        )
        cleaned = clean_items(items, self._now)
        if not cleaned.items.is_empty():
            self._inbox.append("items", cleaned.items.drop(SOURCE))
            self.item_count += cleaned.items.height
        return cleaned.rejects

    def _bad_lines(self, chunk: Chunk) -> pl.DataFrame:
        rows = chunk.bad_lines.with_columns(
            pl.lit(str(self._path)).alias(SOURCE),
            pl.lit(None, pl.String).alias(EVENT_ID),
            pl.lit(None, pl.String).alias(USER_ID),
            pl.lit(datetime.now(UTC), TIME).alias(INGEST_TIME),
        )
        return rows.select(*REJECT_SCHEMA)


def _items_of(raw: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Return item rows of the good events; updated_time is the event's."""
    good = events.select(LINE, EVENT_TIME, pl.col(ITEM_ID).alias("_item"))
    items = _item_columns(raw).join(good, on=LINE, how="inner")
    return items.with_columns(
        pl.col("_item").alias(ITEM_ID), pl.col(EVENT_TIME).alias(UPDATED_TIME)
    )


def _item_columns(raw: pl.DataFrame) -> pl.DataFrame:
    nothing = pl.lit(None, pl.String)
    columns = [
        pl.col(name).cast(pl.String, strict=False)
        # Lists and structs are no text; a row without an id is rejected.
        if name in raw.columns and not raw.schema[name].is_nested()
        else nothing.alias(name)
        for name in (ITEM_ID, TITLE, TEXT)
    ]
    categories = (
        categories_of(raw[CATEGORIES]) if CATEGORIES in raw.columns
        else pl.Series([None] * raw.height, dtype=pl.List(pl.String))
    )  # fmt: skip
    return raw.select(*columns, LINE, SOURCE, INGEST_TIME).with_columns(
        categories.alias(CATEGORIES)
    )


def _first_seen(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the distinct items that have words, each with its earliest time."""
    words = (
        pl.col(TITLE).fill_null("").str.strip_chars() + pl.col(TEXT).fill_null("").str.strip_chars()
    )
    keys = [ITEM_ID, TITLE, TEXT, CATEGORIES]
    return (
        pl.concat([part.select(*keys, UPDATED_TIME) for part in parts])
        .filter(words != "")
        .group_by(keys)
        .agg(pl.col(UPDATED_TIME).min())
        .sort(ITEM_ID, UPDATED_TIME, TITLE, TEXT)
    )
