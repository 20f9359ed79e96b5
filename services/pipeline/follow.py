"""`driftline refresh --follow`: keeps the served features fresh, in two loops, and looks hourly at how well they are.

Items must be findable within seconds, so they do not wait behind vectors: one loop takes the inbox in and refreshes
items, the other makes vectors and forecasts of what the first took in, and wakes at period closes besides.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import structlog

from services.core.schema import DEFAULT_TENANT
from services.pipeline.compute import Compute
from services.pipeline.demand import refresh_demand
from services.pipeline.erasure import erase_requested
from services.pipeline.health import StoreCheck, is_due, keep_health
from services.pipeline.preprocess import preprocess
from services.pipeline.refresh import Stores
from services.runtime.settings import Settings
from services.store.disk import told
from services.store.erasures import pending_erasures
from services.store.health import REFRESHED, refreshed_to_state

log = structlog.get_logger()

# Between two looks at receipts that are pending.
SETTLE_S = 60.0
# How often it is written down that all is served.
NOTE_EVERY = timedelta(minutes=1)


@dataclass(slots=True, kw_only=True)
class Follower:
    """Its loops over one store. Run `start`, then `stop`; errors are logged and tried again."""

    stores: Stores
    compute: Compute
    settings: Settings
    tenant: str = DEFAULT_TENANT
    # Opens what a look at the store's health needs; None: nobody looks.
    open_check: Callable[[], StoreCheck] | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _vectors_due: threading.Event = field(default_factory=threading.Event)
    # True at first: what was taken in before the start may not have reached the index.
    _items_due: bool = True
    _threads: list[threading.Thread] = field(default_factory=list)
    # Buckets, by model, whose vectors may be newer than their forecasts.
    _owed: set[tuple[int, str]] = field(default_factory=set)
    # When the last intake that succeeded began; everything older is taken in.
    _taken: datetime | None = None
    # What was last written down as served, at most once a minute.
    _noted: datetime | None = None
    # The UTC day of the last full look at forecasts; a new day may have closed periods.
    _looked_on: date | None = None
    # When pending receipts are looked at again, of the monotonic clock.
    _settle_at: float = 0.0

    def start(self) -> None:
        """Start the loops."""
        self._vectors_due.set()
        steps = {"intake": self._intake, "vectors": self._vectors, "health": self._health}
        for name, step in steps.items():
            thread = threading.Thread(target=self._loop, args=(name, step), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Ask the loops to stop and wait for the step under way."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _loop(self, name: str, step: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                step()
            except Exception as error:
                if (known := told(error)) is None:
                    log.exception("follow step failed; trying again", step=name)
                else:
                    log.warning(
                        "follow step failed; trying again", step=name, problem=known.message
                    )
            self._stopped.wait(self.settings.poll_s)

    def _intake(self) -> None:
        began = datetime.now(UTC)
        taken = preprocess(self.stores.tables, self.settings, tenant=self.tenant)
        erased = self._erase()
        self._items_due |= bool(taken.items or taken.events)
        if self._items_due:
            for model_version in self._models():
                self.compute.refresh_items(model_version=model_version)
            self._items_due = False
            self._vectors_due.set()
        if taken.items or taken.events or erased:
            log.info("took in", events=taken.events, items=taken.items, erased=erased)
        self._taken = began

    def _bucket(self, bucket: int, model_version: str, *, is_new_day: bool) -> None:
        is_owed = (bucket, model_version) in self._owed
        # An answer that is lost on its way tells nothing of what was published.
        self._owed.add((bucket, model_version))
        interests = self.compute.refresh_interests([bucket], model_version=model_version)
        if interests.user_count or is_new_day or is_owed:
            self.compute.refresh_forecasts([bucket], model_version=model_version)
        self._owed.discard((bucket, model_version))

    def _models(self) -> tuple[str, ...]:
        """Return whose spaces are kept fresh: the live model's (an empty name), and the shadow's."""
        shadow = self.stores.models.shadow(self.tenant)
        return ("",) if shadow is None else ("", shadow.model_version)

    def _erase(self) -> int:
        """Carry out erasures; receipts that wait for bytes to go are looked at now and then."""
        is_asked = bool(pending_erasures(self.stores.tables, self.tenant))
        if not is_asked and time.monotonic() < self._settle_at:
            return 0
        self._settle_at = time.monotonic() + SETTLE_S
        return erase_requested(
            self.stores.tables,
            self.stores.features,
            self.stores.models,
            self.stores.overlays,
            self.settings,
            self.tenant,
        )

    def _vectors(self) -> None:
        today, taken = self.settings.clock().date(), self._taken
        if not self._vectors_due.is_set() and today == self._looked_on:
            self._note(taken)
            return
        self._vectors_due.clear()
        try:
            if not self._publish(is_new_day=today != self._looked_on):
                return
        except Exception:
            # What is not published yet is still due, whoever failed.
            self._vectors_due.set()
            raise
        self._looked_on = today
        self._note(taken)

    def _publish(self, *, is_new_day: bool) -> bool:
        """Make vectors and forecasts of every bucket; returns whether it was not told to stop."""
        for bucket in range(self.settings.bucket_count):
            if self._stopped.is_set():
                return False
            for model_version in self._models():
                self._bucket(bucket, model_version, is_new_day=is_new_day)
        if is_new_day:
            # The sums that it is made from move when periods close.
            for model_version in self._models():
                self.compute.refresh_population(model_version=model_version)
        self._demand()
        return True

    def _demand(self) -> None:
        """Publish the demand of periods that closed, in the space that is served."""
        live = self.stores.models.live(self.tenant)
        refresh_demand(self.stores.of_demand(), self.settings, self.tenant, live.space_id)

    def _note(self, taken: datetime | None) -> None:
        """Write down that what was taken in by then is served."""
        if taken is None or (self._noted and taken - self._noted < NOTE_EVERY):
            return
        self.stores.tables.write_state(self.tenant, REFRESHED, refreshed_to_state(taken))
        self._noted = taken

    def _health(self) -> None:
        if self.open_check and self._looked_on and is_due(self.stores, self.tenant):
            keep_health(self.stores, self.open_check(), self.tenant)
