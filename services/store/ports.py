"""The ports: what the services ask of storage, in core types. Adapters stand beside this file.

Every method takes the tenant, so that no key, path or query can forget it. A frame is a `polars.DataFrame`
whose columns are named in `core/schema.py`. Shape suffixes: N = items, D = width, W = popularity windows.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from services.core.ranking import ItemStats
from services.core.records import F32, Forecast, InterestVector, ModelInfo, Profile, RankState
from services.core.schema import Granularity

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
        """Return at most `limit` vectors, oldest first: the newest periods that had begun before `event_time`,
        each as its newest row with `known_time <= ingest_time`; only ordinals below `before` where given.
        """
        ...


class FeatureWriter(Protocol):
    """Publishes features. One writer a view: the encoder writes vectors, the forecaster forecasts.

    Raises DependencyUnavailable where a store does not answer; a call that raised may be repeated whole.
    """

    def apply(self, tenant: str, space_id: str) -> None:
        """Declare every view of a space in the registry; idempotent."""
        ...

    def write_online(self, tenant: str, view: str, rows: "pl.DataFrame") -> None:
        """Write rows of `user_id`, the view's features and `computed_time`, in chunks."""
        ...

    def append_offline(self, tenant: str, view: str, bucket: int, part: str, rows: "pl.DataFrame") -> None:
        """Add one immutable Parquet part. The same `part` name again replaces it: a retry adds nothing twice."""
        ...

    def read_offline(self, tenant: str, view: str, bucket: int) -> "pl.DataFrame":
        """Return the newest row of each user (and period, where the view has one) of a bucket."""
        ...

    def erase(self, tenant: str, space_id: str, user_ids: list[str]) -> None:
        """Remove users from every view of a space, online and offline."""
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

    events: "pl.DataFrame"
    items: "pl.DataFrame"
    # Columns erasure_id, user_id, ingest_time.
    erasures: "pl.DataFrame"
    # Log name -> version up to which this batch reads.
    position: dict[str, int]


class EventTables(Protocol):
    """Delta tables of events, items and rejects, and where the pipeline stands in the inboxes."""

    def read_inbox(self, tenant: str, position: dict[str, int]) -> InboxBatch:
        """Return every row committed after `position`, of all writers' logs."""
        ...

    def append_events(self, tenant: str, rows: "pl.DataFrame", batch_id: str) -> int:
        """Append clean events; a `batch_id` seen before appends nothing. Returns the table's version."""
        ...

    def append_items(self, tenant: str, rows: "pl.DataFrame", batch_id: str) -> int:
        """Append item versions; a `batch_id` seen before appends nothing. Returns the table's version."""
        ...

    def append_rejects(self, tenant: str, rows: "pl.DataFrame", batch_id: str) -> None:
        """Append rejects: source, line, reason, event_id, raw, ingest_time."""
        ...

    def read_events(self, tenant: str, bucket: int | None = None) -> "pl.DataFrame":
        """Return the events of a bucket (None: all), ordered by user_id, event_time, event_id."""
        ...

    def known_event_ids(self, tenant: str, bucket: int) -> "pl.DataFrame":
        """Return event_id and content hash of a bucket's events, to find duplicates."""
        ...

    def changed_users(self, tenant: str, bucket: int, since_version: int) -> tuple[list[str], int]:
        """Return users of a bucket with events committed after a version of the table, and its newest version."""
        ...

    def read_items(self, tenant: str) -> "pl.DataFrame":
        """Return every item version, ordered by item_id, updated_time."""
        ...

    def erase(self, tenant: str, user_ids: list[str]) -> None:
        """Remove users from every table and inbox."""
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


class ModelRegistry(Protocol):
    """Model folders and which of them is candidate, live, previous."""

    def add(self, tenant: str, folder: str, info: ModelInfo) -> None:
        """Copy a finished model folder in as candidate."""
        ...

    def promote(self, tenant: str, model_version: str) -> None:
        """Make a model live in one atomic step; the live one becomes previous."""
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
