"""The port of reads that only pass vectors on."""

from typing import Protocol

from services.core.packed import PackedInterest
from services.core.schema import Granularity
from services.store.ports import InterestReader


class PackedReader(InterestReader, Protocol):
    """An InterestReader that gives vectors as they are stored, too. What holds of it holds here."""

    async def packed_interests(
        self, tenant: str, space_id: str, user_ids: list[str], granularity: Granularity
    ) -> list[PackedInterest | None]:
        """Return what `interests` does, packed."""
        ...

    async def packed_history(
        self, tenant: str, space_id: str, user_id: str, granularity: Granularity
    ) -> list[PackedInterest]:
        """Return what `history` does, packed."""
        ...
