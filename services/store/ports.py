"""The ports: what the services ask of storage, in core types. Adapters stand beside this file.

Every method takes the tenant, so that no key, path or query can forget it. A frame is a `polars.DataFrame`
whose columns are named in `core/schema.py`. Shape suffixes: N = items, D = width, W = popularity windows.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from services.core.activity import Activity
from services.core.burst_everyone import PopulationBursts, UserBursts
from services.core.corrections import Correction
from services.core.demand_release import Release
from services.core.ranking import ItemStats
from services.core.records import (
    F32,
    Forecast,
    InterestVector,
    ModelInfo,
    Profile,
    RankState,
)
from services.core.schema import Granularity
from services.core.topics import Topics
from services.core.tower import BackboneSpec
from services.store.counts import TableCounts
from services.store.erasing import ErasableTables, Left, Removed

if TYPE_CHECKING:  # polars costs 0.1 s and 60 MB; readers do without it
    import polars as pl


class InterestReader(Protocol):
    """Newest features of users, from the Feast online store. Hot: one look-up a call.

    Every method returns None (or an empty list) for an unknown user.
    Raises DependencyUnavailable where the store does not answer.
    """

    async def interest(
        self, tenant: str, space_id: str, user_id: str, granularity: Granularity
    ) -> InterestVector | None:
        """Return the newest vector."""
        ...

    async def interests(
        self, tenant: str, space_id: str, user_ids: list[str], granularity: Granularity
    ) -> list[InterestVector | None]:
        """Return the newest vectors, in the order asked."""
        ...

    async def history(
        self, tenant: str, space_id: str, user_id: str, granularity: Granularity
    ) -> list[InterestVector]:
        """Return the vectors that are kept online, oldest first."""
        ...

    async def forecast(
        self, tenant: str, space_id: str, user_id: str, granularity: Granularity
    ) -> Forecast | None:
        """Return the newest forecast."""
        ...

    async def rank_state(self, tenant: str, space_id: str, user_id: str) -> RankState | None:
        """Return what ranking needs."""
        ...

    async def profile(self, tenant: str, space_id: str, user_id: str) -> Profile | None:
        """Return the portrait."""
        ...

    async def activity(self, tenant: str, space_id: str, user_id: str) -> Activity | None:
        """Return what the user did in the last year; None too where it was never published."""
        ...

    async def bursts(
        self, tenant: str, space_id: str, user_id: str, granularity: Granularity
    ) -> UserBursts | None:
        """Return the user's last bursts; None too where none were ever published."""
        ...

    async def population_bursts(
        self, tenant: str, space_id: str, granularity: Granularity
    ) -> PopulationBursts | None:
        """Return the topics that rose for everyone; None too where none were ever published."""
        ...


class HistoryReader(Protocol):
    """Past states, from Feast's offline history. Slow: a scan of the user's bucket."""

    async def trajectory(
        self,
        tenant: str,
        space_id: str,
        user_id: str,
        granularity: Granularity,
        *,
        event_time: datetime,
        ingest_time: datetime,
        limit: int,
        before: int | None = None,
    ) -> list[InterestVector]:
        """Return at most `limit` vectors, oldest first.

        They are the newest periods that had begun before `event_time`, each as its newest row that
        was computed by `ingest_time`: what is written later changes no answer. Where the space was
        declared only later, each as its newest row with `known_time <= ingest_time`: what could
        have been known. Only ordinals below `before` where given.
        """
        ...

    async def forecast_at(
        self,
        tenant: str,
        space_id: str,
        user_id: str,
        granularity: Granularity,
        *,
        event_time: datetime,
        ingest_time: datetime,
    ) -> Forecast | None:
        """Return the newest forecast from periods that had closed by `event_time`; None for none.

        Of those that were computed, or could have been known, by `ingest_time`: see `trajectory`.
        """
        ...


class FeatureWriter(Protocol):
    """Publishes features. One writer a view: the encoder writes vectors, the forecaster forecasts.

    Raises DependencyUnavailable where a store does not answer; a call that raised may be repeated whole.
    """

    def apply(self, tenant: str, space_id: str) -> None:
        """Declare every view of a space in the registry; idempotent."""
        ...

    def point_services(self, tenant: str, space_id: str) -> None:
        """Make the stable feature services of other teams answer from an applied space.

        The first space that is applied is served at once; a later one when it is backfilled.
        """
        ...

    def mark_filled(self, tenant: str) -> None:
        """Say that the online store has every row of a tenant, after it had lost them."""
        ...

    def write_online(self, tenant: str, view: str, rows: "pl.DataFrame") -> None:
        """Write rows of `user_id`, the view's features and `computed_time`, in chunks."""
        ...

    def write_online_views(self, tenant: str, rows_of: Mapping[str, "pl.DataFrame"]) -> None:
        """Write rows of several views as `write_online` does; where the store can, in one commit."""
        ...

    def append_offline(
        self, tenant: str, view: str, bucket: int, part: str, rows: "pl.DataFrame"
    ) -> None:
        """Add one immutable Parquet part. The same `part` name again replaces it: a retry adds nothing twice."""
        ...

    def read_offline(
        self,
        tenant: str,
        view: str,
        bucket: int,
        users: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        parts: Sequence[str] | None = None,
    ) -> "pl.DataFrame":
        """Return the newest row of each user (and period, where the view has one) of a bucket.

        Args:
            tenant: whose data.
            view: name of the view.
            bucket: of the users.
            users: these alone; a refresh of few reads few.
            columns: these features alone, beside the join keys and the computed time.
            parts: of these parts alone, as `offline_parts` names them.
        """
        ...

    def offline_parts(self, tenant: str, view: str, bucket: int) -> list[str]:
        """Return the names of a bucket's parts, ascending. Rows that are new come in a new part."""
        ...

    def erase(self, tenant: str, space_id: str, user_ids: list[str]) -> None:
        """Remove users from every view of a space, online and offline."""
        ...

    def forget_online(self, tenant: str, view: str, ids: Sequence[str]) -> None:
        """Remove rows of one view from the online store alone; any row written after is newer."""
        ...

    def erase_everywhere(
        self, tenant: str, bucket: int, user_ids: Sequence[str]
    ) -> dict[str, Removed]:
        """Remove users of a bucket from every view of every space that was ever published.

        Returns rows removed by place, "online features" and "offline features"; bytes may stay
        until `scrub`.
        """
        ...

    def scrub(self, tenant: str, since: datetime) -> Left:
        """Drop the bytes of rows that were removed up to an instant; tell what stays for now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A committed append."""

    row_count: int
    ingest_time: datetime


class Inbox(Protocol):
    """One gateway process's append-only log. A call returns after the rows are durable.

    Raises Overloaded where too many rows wait, DependencyUnavailable where the store takes no writes.
    """

    async def append_events(self, tenant: str, rows: "pl.DataFrame") -> Commit:
        """Append rows with EVENT_COLUMNS less `ingest_time`."""
        ...

    async def append_items(self, tenant: str, rows: "pl.DataFrame") -> Commit:
        """Append rows of item_id, title, text, categories, updated_time (null: the commit's time)."""
        ...

    async def append_erasure(self, tenant: str, erasure_id: str, user_id: str) -> Commit:
        """Append a request to erase a user; readers refuse the user from then on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxBatch:
    """What came in since a position, and the position after it."""

    # EVENT_COLUMNS and `source`, the log's name.
    events: "pl.DataFrame"
    # ITEM_COLUMNS less content_hash, and `source`.
    items: "pl.DataFrame"
    # Columns erasure_id, user_id, ingest_time.
    erasures: "pl.DataFrame"
    # Log name -> version up to which this batch reads.
    position: dict[str, int]
    # False where more waits after this batch.
    is_last: bool


class EventTables(ErasableTables, Protocol):
    """Delta tables of events, items and rejects, and where the pipeline stands in the inboxes.

    Every method raises DependencyUnavailable where the store does not answer.
    """

    def intake_lock(self, tenant: str) -> "AbstractContextManager[object]":
        """Return a lock that one job at a time holds to take the inbox in or to erase."""
        ...

    def read_state(self, tenant: str, name: str) -> dict[str, Any]:
        """Return a small JSON document of the pipeline; empty where there is none."""
        ...

    def write_state(self, tenant: str, name: str, state: dict[str, Any]) -> None:
        """Replace a document in one atomic step."""
        ...

    def read_inbox(
        self, tenant: str, position: dict[str, int], until: dict[str, int] | None = None
    ) -> InboxBatch:
        """Return rows committed after `position`, of all writers' logs.

        `until`, the position of an earlier batch, asks for that batch again.
        """
        ...

    def trim_inbox(self, tenant: str, position: dict[str, int], *, is_forced: bool = False) -> None:
        """Delete rows up to `position`, which are consumed; those that come meanwhile stay.

        Does nothing where there is little to gain, unless forced.
        """
        ...

    def append_events(
        self,
        tenant: str,
        rows: "pl.DataFrame",
        batch_id: str,
        displaced: "pl.DataFrame | None" = None,
    ) -> int:
        """Append clean events and remove `displaced` ones, in one step; returns the table's version.

        A `batch_id` seen before changes nothing.
        """
        ...

    def append_items(self, tenant: str, rows: "pl.DataFrame", batch_id: str) -> int:
        """Append item versions; a `batch_id` seen before appends nothing. Returns the table's version."""
        ...

    def append_rejects(self, tenant: str, rows: "pl.DataFrame", batch_id: str) -> None:
        """Append rejects (core.cleaning.REJECT_SCHEMA), each `batch_id` once."""
        ...

    def read_events(
        self, tenant: str, bucket: int | None = None, users: Sequence[str] | None = None
    ) -> "pl.DataFrame":
        """Return the events of a bucket (None: all), ordered by user_id, event_time, event_id.

        `users`: these alone; a refresh of few reads few.
        """
        ...

    def known_events(self, tenant: str, event_ids: "pl.Series") -> "pl.DataFrame":
        """Return the stored events, of any bucket, that have one of these ids (EVENT_COLUMNS)."""
        ...

    def changed_users(self, tenant: str, bucket: int, since_version: int) -> tuple[list[str], int]:
        """Return users of a bucket with events new or gone since a version of the table, and its newest.

        May name more users than changed (after an erasure, or where the version is gone), never
        fewer.
        """
        ...

    def read_items(self, tenant: str) -> "pl.DataFrame":
        """Return every item version, ordered by item_id, updated_time."""
        ...

    def read_rejects(self, tenant: str) -> "pl.DataFrame":
        """Return every reject, oldest first."""
        ...

    def untold_rejects(self, tenant: str, rejects: "pl.DataFrame") -> "pl.DataFrame":
        """Return the rejects less those without a line that are stored already."""
        ...

    def counts(self, tenant: str, position: dict[str, int]) -> TableCounts:
        """Count what is stored, and what waits after a position."""
        ...


class TextEncoder(Protocol):
    """Turns texts into vectors; store.backbone.Backbone is one."""

    @property
    def spec(self) -> BackboneSpec:
        """Its identity."""
        ...

    def encode(
        self, texts: Sequence[str], on_progress: Callable[[int, int], None] | None = None
    ) -> F32:
        """Return one unit-norm row per text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """One published generation of items, in catalogue order (ascending item_id). Immutable."""

    space_id: str
    model_version: str
    generation: str
    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    # Unit norm; memory-mapped.
    items_ND: F32
    stats: ItemStats
    # What the items are about; None where too few items, or an older version, published it. A
    # segment brings none: its items belong to the generation's topics.
    topics: Topics | None = None


class CatalogueStore(Protocol):
    """Published item indexes: `index/{space}/{generation}/` and CURRENT."""

    def publish(self, tenant: str, catalogue: Catalogue) -> None:
        """Write a generation, then make it current in one atomic step."""
        ...

    def publish_segment(self, tenant: str, catalogue: Catalogue) -> None:
        """Add items to the current generation without rewriting it; readers poll for it."""
        ...

    def current(self, tenant: str, space_id: str) -> Catalogue:
        """Return the current generation with its segments merged.

        Raises:
            NotReady: nothing was published in this space.
        """
        ...

    def current_token(self, tenant: str, space_id: str) -> str:
        """Return a cheap token that changes whenever `current` would; empty where nothing was published."""
        ...


class Overlays(Protocol):
    """What users say of their portraits. Refreshes leave it alone.

    A correction that was put is in the next read of every process. Every method raises
    DependencyUnavailable where the store does not answer.
    """

    async def put(self, tenant: str, user_id: str, correction: Correction) -> None:
        """Keep a correction in place of the one before of its topic."""
        ...

    async def remove(self, tenant: str, user_id: str, topic_id: str) -> None:
        """Forget what was said of a topic; nothing said is no error."""
        ...

    async def read(self, tenant: str, user_id: str) -> tuple[Correction, ...]:
        """Return a user's corrections, by ascending topic_id."""
        ...

    def erase(self, tenant: str, user_ids: Sequence[str]) -> Removed:
        """Forget everything that users said; returns how many corrections that were."""
        ...

    def scrub(self, tenant: str, since: datetime) -> Left:
        """Drop the bytes of rows that were removed up to an instant; tell what stays for now."""
        ...


class DemandStore(Protocol):
    """Releases of demand, by tenant, space and the name of their terms.

    Every method raises DependencyUnavailable where the store does not answer.
    """

    def read(self, tenant: str, space_id: str, name: str) -> Release | None:
        """Return the release that stands; None where there is none. Never what `update` half wrote."""
        ...

    def update(
        self,
        tenant: str,
        space_id: str,
        name: str,
        make: Callable[[bytes, Release | None], Release | None],
    ) -> Release | None:
        """Replace a release by what `make` returns, one caller at a time; None leaves it.

        `make` is given the tenant's secret, drawn once and kept, and the release that stands.
        Returns the release that stands then.
        """
        ...


class ModelRegistry(Protocol):
    """Model folders and which of them is candidate, live, previous."""

    def add(self, tenant: str, folder: str, info: ModelInfo) -> None:
        """Copy a finished model folder in as candidate."""
        ...

    def promote(self, tenant: str, model_version: str) -> None:
        """Make a model live in one atomic step; the live one becomes previous."""
        ...

    def rollback(self, tenant: str) -> None:
        """Make the previous model live again. Raises NotReady where there is none."""
        ...

    def shadow(self, tenant: str) -> ModelInfo | None:
        """Return the model that is refreshed beside the live one; None outside a migration."""
        ...

    def set_shadow(self, tenant: str, model_version: str | None) -> None:
        """Begin to refresh a model beside the live one, or end it with None."""
        ...

    def switch(self, tenant: str, model_version: str) -> None:
        """Make the shadow live and the live model previous and shadow, in one atomic step."""
        ...

    def live(self, tenant: str) -> ModelInfo:
        """Return the live model. Raises NotReady where there is none."""
        ...

    def folder(self, tenant: str, model_version: str) -> str:
        """Return the local path of a model's folder, its files verified by hash."""
        ...

    def list(self, tenant: str) -> "list[ModelInfo]":
        """Return every model, newest first."""
        ...
