"""What a gateway asks of the stores on a person's behalf: requests, receipts, and all that is held."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.store.erasures import ErasedUsers, Erasure, Tombstones
from services.store.receipts import Receipts, SignedReceipt
from services.store.user_records import UserRecord, UserRecords


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPrivacy:
    """See gateway/erasure.PrivacyStore."""

    erased: ErasedUsers
    receipts: Receipts
    user_records: UserRecords

    def open(self, tenant: str) -> dict[str, Erasure]:
        """Return the requests that are not carried out yet, by id."""
        return self.erased.open(tenant)

    def tombstones(self, tenant: str) -> Tombstones:
        """Return who was erased."""
        return self.erased.tombstones(tenant)

    def receipt(self, tenant: str, erasure_id: str) -> SignedReceipt | None:
        """Return a request's receipt, once rows were removed."""
        return self.receipts.get(tenant, [erasure_id]).get(erasure_id)

    def records(self, tenant: str, user_id: str) -> AsyncIterator[UserRecord]:
        """Yield all that is held about a user."""
        return self.user_records.of(tenant, user_id)
