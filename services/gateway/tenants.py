"""The gateway's tenants: one set of stores and of state each, opened when it is first called for.

Which tenant a call is of, its credential says; handlers are made for one tenant and have no way to another.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.core.errors import Unauthenticated
from services.core.ranker import Ranker
from services.gateway.history import HistoryPlaces
from services.gateway.services import Ports, services_of
from services.gateway.state import GatewayState
from services.runtime.guard import INVALID
from services.runtime.interceptors import RegisterTenant
from services.runtime.server import Service
from services.runtime.settings import Settings
from services.store.demand_files import FolderDemand
from services.store.erasures import ErasedUsers
from services.store.history_reader import ParquetHistory
from services.store.inbox import DeltaInbox
from services.store.index import FolderCatalogues
from services.store.layout import Layout
from services.store.model_folder import load_ranker
from services.store.models import FolderRegistry
from services.store.online_reader import open_online_reader
from services.store.overlays import open_overlays
from services.store.privacy import StoredPrivacy
from services.store.receipts import Receipts
from services.store.rejects import DeltaRejects
from services.store.tables import DeltaTables
from services.store.user_records import UserRecords


class Tenants:
    """Opens tenants of one data folder. Belongs to one event loop; close it in the end."""

    def __init__(self, settings: Settings, layout: Layout) -> None:
        self._settings, self._layout = settings, layout
        # Adapters take the tenant with every call; only what is held in memory is a tenant's own.
        self._registry = FolderRegistry(layout)
        self._catalogues = FolderCatalogues(layout)
        self._erased = ErasedUsers(layout)
        self._inbox = DeltaInbox(layout, settings.writer)
        self._reader = open_online_reader(settings.feast_config(), layout, serves=True)
        self._history = ParquetHistory(layout)
        self._overlays = open_overlays(layout, settings.online_store, settings.redis_url)
        self._privacy = StoredPrivacy(
            erased=self._erased,
            receipts=Receipts(layout),
            user_records=UserRecords(
                layout=layout,
                tables=DeltaTables(layout),
                online=self._reader,
                overlays=self._overlays,
            ),
        )
        self._demand = FolderDemand(layout)
        self._rejects = DeltaRejects(layout)
        # One tenant's slow reads leave places for the others.
        self._places = HistoryPlaces(2 * settings.max_history_calls)
        self._polling: list[asyncio.Task[None]] = []

    async def open(self, tenant: str) -> list[Service]:
        """Open a tenant that exists, and keep looking for what is published for it.

        Raises:
            DependencyUnavailable: its stores do not answer.
        """
        state = GatewayState(
            tenant=tenant,
            registry=self._registry,
            catalogues=self._catalogues,
            erased=self._erased,
            load_ranker=read_ranker,
        )
        await state.start()
        self._polling.append(asyncio.create_task(state.keep_polling(self._settings.poll_s)))
        ports = Ports(
            reader=self._reader,
            history=self._history,
            inbox=self._inbox,
            rejects=self._rejects,
            registry=self._registry,
            overlays=self._overlays,
            privacy=self._privacy,
            demand=self._demand,
            check_online=self._reader.check,
        )
        return services_of(self._settings, state, ports, self._places)

    async def register(self, tenant: str) -> RegisterTenant:
        """Open a tenant for a call of its own; see interceptors.OpenTenant.

        Raises:
            Unauthenticated: there is no such tenant here; said as of any credential that is not valid.
        """
        if not self._layout.has_tenant(tenant):
            raise Unauthenticated(INVALID)
        services = await self.open(tenant)
        return lambda server: _register(services, server)

    async def close(self) -> None:
        """Stop looking, and wait until every row taken is committed."""
        for task in self._polling:
            task.cancel()
        await self._inbox.close()


def read_ranker(folder: str) -> Ranker:
    """Read the ranker of a model folder. Raises as load_ranker."""
    return load_ranker(Path(folder))


def _register(services: Sequence[Service], server: Any) -> None:
    for service in services:
        service.register(server)
