"""Erasure: committed to the inbox, refused from the next read on; receipts; a copy of what is held."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Protocol

import polars as pl

from services.core.errors import ErasureNotFound, Overloaded
from services.gateway.answers import ErasureAnswer, ReceiptAnswer
from services.gateway.state import GatewayState
from services.store.erasures import Erasure, Tombstones
from services.store.ports import Inbox
from services.store.receipts import SignedReceipt
from services.store.user_records import UserRecord

# Copies under way at once: each reads a bucket's files.
MAX_EXPORTS = 4
# Records in one message.
PART = 200


class PrivacyStore(Protocol):
    """What the stores know of requests, receipts and people.

    Every method raises DependencyUnavailable where the store does not answer.
    """

    def open(self, tenant: str) -> dict[str, Erasure]:
        """Return the requests that are not carried out yet, by id."""
        ...

    def tombstones(self, tenant: str) -> Tombstones:
        """Return who was erased."""
        ...

    def receipt(self, tenant: str, erasure_id: str) -> SignedReceipt | None:
        """Return a request's receipt, once rows were removed."""
        ...

    def records(self, tenant: str, user_id: str) -> AsyncIterator[UserRecord]:
        """Yield all that is held about a user."""
        ...


class Eraser:
    """Takes requests to erase a user, and answers what became of them."""

    def __init__(self, state: GatewayState, inbox: Inbox, store: PrivacyStore) -> None:
        self._state, self._inbox, self._store = state, inbox, store
        self._exports = 0

    async def erase(self, user_id: str) -> ErasureAnswer:
        """Commit a request and hide the user; an unknown user is not an error."""
        erasure_id = uuid.uuid4().hex
        commit = await self._inbox.append_erasure(self._state.tenant, erasure_id, user_id)
        self._state.hide(user_id)
        return ErasureAnswer(erasure_id=erasure_id, requested_time=commit.ingest_time)

    async def receipt(self, erasure_id: str) -> ReceiptAnswer:
        """Return how far a request is.

        Raises:
            ErasureNotFound: there is none of this id.
        """
        tenant = self._state.tenant
        # The request first: once it is gone, its receipt is there.
        request = (await asyncio.to_thread(self._store.open, tenant)).get(erasure_id)
        signed = await asyncio.to_thread(self._store.receipt, tenant, erasure_id)
        if signed is None and request is None:
            raise ErasureNotFound(erasure_id)
        return ReceiptAnswer(
            erasure_id=erasure_id,
            requested_time=request.requested_time if request else None,
            signed=signed,
        )

    async def export(self, user_id: str) -> AsyncIterator[list[UserRecord]]:
        """Yield all that is held about a user, in parts; a user who asked to be erased is unknown.

        Raises:
            Overloaded: too many copies are made at once.
        """
        if self._state.is_erased(user_id):
            return
        if self._exports >= MAX_EXPORTS:
            raise Overloaded(f"{MAX_EXPORTS} exports of users at once")
        self._exports += 1
        try:
            part: list[UserRecord] = []
            async for record in self._store.records(self._state.tenant, user_id):
                part.append(record)
                if len(part) == PART:
                    yield part
                    part = []
            if part:
                yield part
        finally:
            self._exports -= 1

    async def refused(self, rows: pl.DataFrame) -> pl.Series:
        """Tell of each event (user_id, event_time) whether an erasure that was carried out covers it.

        Requests under way cover events too: the next refresh drops those.
        """
        known = await asyncio.to_thread(self._store.tombstones, self._state.tenant)
        now = pl.lit(None, rows.schema["event_time"]).alias("ingest_time")
        return known.covers(rows.with_columns(now))
