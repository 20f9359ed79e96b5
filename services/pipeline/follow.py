"""`driftline refresh --follow`: keeps the served features fresh, in two loops.

Items must be findable within seconds, so they do not wait behind vectors: one loop takes the inbox in and refreshes
items, the other makes vectors and forecasts of what the first took in, and wakes at period closes besides.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import structlog

from services.core.errors import CoreError, NotReady
from services.core.schema import DEFAULT_TENANT
from services.pipeline.compute import ComputeClient
from services.pipeline.demand import refresh_demand
from services.pipeline.erasure import erase_requested
from services.pipeline.preprocess import preprocess
from services.pipeline.refresh import Stores
from services.runtime.settings import Settings
from services.store.erasures import pending_erasures

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Follower:
    """Two loops over one store. Run `start`, then `stop`; errors are logged and tried again."""

    stores: Stores
    compute: ComputeClient
    settings: Settings
    tenant: str = DEFAULT_TENANT
    _stopped: threading.Event = field(default_factory=threading.Event)
    _vectors_due: threading.Event = field(default_factory=threading.Event)
    _publishing: threading.Lock = field(default_factory=threading.Lock)
    # True at first: what was taken in before the start may not have reached the index.
    _items_due: bool = True
    _threads: list[threading.Thread] = field(default_factory=list)
    # The UTC day of the last full look at forecasts; a new day may have closed periods.
    _looked_on: date | None = None

    def start(self) -> None:
        """Start both loops."""
        self._vectors_due.set()
        for name, step in (("intake", self._intake), ("vectors", self._vectors)):
            thread = threading.Thread(target=self._loop, args=(name, step), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Ask both loops to stop and wait for the step under way."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _loop(self, name: str, step: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                step()
            except CoreError as error:
                log.warning("follow step failed; trying again", step=name, problem=error.message)
            except Exception:
                log.exception("follow step failed; trying again", step=name)
            self._stopped.wait(self.settings.poll_s)

    def _intake(self) -> None:
        taken = preprocess(self.stores.tables, self.settings, tenant=self.tenant)
        erased = self._erase()
        self._items_due |= bool(taken.items or taken.events)
        if self._items_due:
            self.compute.refresh_items()
            self._items_due = False
            self._vectors_due.set()
        if taken.items or taken.events or erased:
            log.info("took in", events=taken.events, items=taken.items, erased=erased)

    def _erase(self) -> int:
        """Carry out erasures while no bucket is under way: one that had read the user would bring them back."""
        if not pending_erasures(self.stores.tables, self.tenant):
            return 0
        with self._publishing:
            return erase_requested(
                self.stores.tables,
                self.stores.features,
                self.stores.models,
                self.stores.overlays,
                self.settings,
                self.tenant,
            )

    def _vectors(self) -> None:
        today = self.settings.clock().date()
        if not self._vectors_due.is_set() and today == self._looked_on:
            return
        self._vectors_due.clear()
        for bucket in range(self.settings.bucket_count):
            if self._stopped.is_set():
                return
            with self._publishing:
                interests = self.compute.refresh_interests([bucket])
                if interests.user_count or today != self._looked_on:
                    self.compute.refresh_forecasts([bucket])
        with self._publishing:
            self._demand()
        self._looked_on = today

    def _demand(self) -> None:
        try:
            live = self.stores.models.live(self.tenant)
        except NotReady:
            return
        refresh_demand(self.stores.of_demand(), self.settings, self.tenant, live.space_id)
