"""The InterestReader port over one primitive, fetching rows of a view; each store has its own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime

from services.core import schema as names
from services.core.activity import Activity
from services.core.burst_everyone import PopulationBursts, UserBursts
from services.core.errors import NotReady
from services.core.packed import PackedInterest, pack
from services.core.records import Forecast, InterestVector, Profile, RankState
from services.core.schema import Granularity
from services.store.rows import (
    Features,
    activity_of,
    bursts_of,
    forecast_of,
    history_of,
    interest_of,
    population_of,
    profile_of,
    rank_state_of,
)


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One user's row of a view."""

    features: Features
    # SQLite keeps it to the second only.
    computed_time: datetime


class InterestReads(ABC):
    """Every read of the port `InterestReader`. Subclasses say how rows are fetched."""

    @abstractmethod
    async def fetch(self, tenant: str, view: str, user_ids: list[str]) -> list[StoredRow | None]:
        """Return each user's row in the order asked, None where there is none.

        Raises:
            NotReady: the view was never applied. DependencyUnavailable: the store does not answer.
        """

    async def check(self, tenant: str) -> None:  # noqa: B027 - a file has no way to come back empty
        """Ask whether the store answers and has a tenant's rows.

        Raises:
            DependencyUnavailable: it does not, or has lost them.
        """

    async def interest(
        self, tenant: str, space_id: str, user_id: str, granularity: Granularity
    ) -> InterestVector | None:
        """Return the newest vector."""
        return (await self.interests(tenant, space_id, [user_id], granularity))[0]

    async def interests(
        self, tenant: str, space_id: str, user_ids: list[str], granularity: Granularity
    ) -> list[InterestVector | None]:
        """Return the newest vectors, in the order asked."""
        rows = await self.fetch(tenant, names.interest_view(granularity, space_id), user_ids)
        return [
            interest_of(row.features, granularity, row.computed_time, space_id=space_id)
            if row
            else None
            for row in rows
        ]

    async def history(
        self, tenant: str, space_id: str, user_id: str, granularity: Granularity
    ) -> list[InterestVector]:
        """Return the vectors that are kept online, oldest first."""
        row = await self._one(tenant, names.history_view(granularity, space_id), user_id)
        return history_of(row.features, granularity, row.computed_time, space_id) if row else []

    async def packed_interests(
        self, tenant: str, space_id: str, user_ids: list[str], granularity: Granularity
    ) -> list[PackedInterest | None]:
        """Return what `interests` does, packed."""
        found = await self.interests(tenant, space_id, user_ids, granularity)
        return [pack(vector) if vector else None for vector in found]

    async def packed_history(
        self, tenant: str, space_id: str, user_id: str, granularity: Granularity
    ) -> list[PackedInterest]:
        """Return what `history` does, packed."""
        return [pack(v) for v in await self.history(tenant, space_id, user_id, granularity)]

    async def forecast(
        self, tenant: str, space_id: str, user_id: str, granularity: Granularity
    ) -> Forecast | None:
        """Return the newest forecast."""
        row = await self._one(tenant, names.forecast_view(granularity, space_id), user_id)
        return forecast_of(row.features, granularity, row.computed_time, space_id) if row else None

    async def rank_state(self, tenant: str, space_id: str, user_id: str) -> RankState | None:
        """Return what ranking needs."""
        row = await self._one(tenant, names.rank_state_view(space_id), user_id)
        return rank_state_of(row.features, space_id) if row else None

    async def profile(self, tenant: str, space_id: str, user_id: str) -> Profile | None:
        """Return the portrait."""
        row = await self._one(tenant, names.profile_view(space_id), user_id)
        return profile_of(row.features) if row else None

    async def activity(self, tenant: str, space_id: str, user_id: str) -> Activity | None:
        """Return what the user did in the last year; None too where it was never published."""
        try:
            row = await self._one(tenant, names.activity_view(space_id), user_id)
        except NotReady:  # a store that an older version made, and no refresh since
            return None
        return activity_of(row.features) if row else None

    async def bursts(
        self, tenant: str, space_id: str, user_id: str, granularity: Granularity
    ) -> UserBursts | None:
        """Return the user's last bursts; None too where none were ever published."""
        try:
            row = await self._one(tenant, names.bursts_view(granularity, space_id), user_id)
        except NotReady:  # as in `activity`
            return None
        return bursts_of(row.features, granularity) if row else None

    async def population_bursts(
        self, tenant: str, space_id: str, granularity: Granularity
    ) -> PopulationBursts | None:
        """Return the topics that rose for everyone; None too where none were ever published."""
        view = names.population_bursts_view(granularity, space_id)
        try:
            row = await self._one(tenant, view, names.EVERYONE)
        except NotReady:  # as in `activity`
            return None
        return population_of(row.features, granularity) if row else None

    async def _one(self, tenant: str, view: str, user_id: str) -> StoredRow | None:
        return (await self.fetch(tenant, view, [user_id]))[0]
