"""The part of the port EventTables by which users are erased, and what erasure says everywhere."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # as in ports.py
    import polars as pl

# Users to erase -> up to when; None means all.
Until = Mapping[str, datetime | None]
# User -> rows that were removed.
Removed = dict[str, int]
# Place -> why bytes of erased users may still lie there, and when they are gone at the latest.
Left = dict[str, tuple[str, datetime | None]]


class ErasableTables(Protocol):
    """Tables that users can be erased from. Every method raises as EventTables says."""

    def tick(self) -> datetime:
        """Return now, later than any instant before, whatever the machine's clock does (clock.py)."""
        ...

    def user_events(self, tenant: str, user_ids: Sequence[str]) -> "pl.DataFrame":
        """Return the stored events of users (EVENT_COLUMNS), in order."""
        ...

    def erase(self, tenant: str, user_ids: list[str], before: datetime | None = None) -> None:
        """Remove users from every table and inbox, and their bytes from the disk.

        Args:
            tenant: whose data.
            user_ids: whom.
            before: only what happened or came in up to this instant; None means all.
        """
        ...

    def erase_events(self, tenant: str, bucket: int, until: Until) -> Removed:
        """Remove users' events from a bucket; the bytes stay until `scrub`."""
        ...

    def erase_rest(self, tenant: str, until: Until) -> dict[str, Removed]:
        """Remove users from rejects and inboxes, by place; the bytes stay until `scrub`."""
        ...

    def scrub(self, tenant: str, since: datetime) -> Left:
        """Drop the bytes of rows that were removed up to an instant; tell what stays for now."""
        ...

    def job_lock(
        self, tenant: str, name: str, cancelled: Callable[[], bool] = ...
    ) -> AbstractContextManager[object]:
        """Return a lock by name, waited for until `cancelled` says so. Raises Cancelled."""
        ...

    def publishing(
        self, tenant: str, cancelled: Callable[[], bool] = ...
    ) -> AbstractContextManager[object]:
        """Return the turn of who publishes users' features from what they read within it.

        Many hold it at once; nobody is erased meanwhile. Raises Cancelled.
        """
        ...

    def alone(self, tenant: str) -> AbstractContextManager[object]:
        """Return the turn of who erases: nobody publishes meanwhile what they read before."""
        ...
