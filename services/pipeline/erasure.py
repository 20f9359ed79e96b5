"""Erasure: a request is recorded at once, the next refresh carries it out everywhere.

First rows are removed, bucket by bucket, while nobody publishes; then the bytes are looked after, and
tombstones take the requests' place. A receipt says how far that is.
"""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from services.core.errors import InvalidArgument
from services.core.receipts import ErasedPlace, Receipt, added, settled
from services.core.schema import DEFAULT_TENANT, EVENT_TIME, INGEST_TIME, USER_ID, bucket_of
from services.runtime.settings import Settings
from services.store import backup_registry, training_states
from services.store.clock import wall_clock
from services.store.erasing import Left, Removed
from services.store.erasures import (
    Erasure,
    Tombstones,
    covered,
    finish_erasures,
    pending_erasures,
    with_salt,
)
from services.store.event_frames import ERASURE_ID
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from services.store.model_card import note_predated
from services.store.ports import (
    EventTables,
    FeatureWriter,
    ModelRegistry,
    Overlays,
)
from services.store.receipts import Receipts

# Held by the one job that erases, so that two refreshes do not count one user twice.
_LOCK = "erasing"
_NOT_YET = "not looked at yet"
TRAINING, BACKUPS = "training states", "backups"
# What a receipt names, in the data's order.
PLACES = (
    "inbox", "events", "rejects", "offline features", "online features", "corrections", TRAINING,
    BACKUPS,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stores:
    """What erasure reads and writes."""

    tables: EventTables
    features: FeatureWriter
    models: ModelRegistry
    overlays: Overlays
    layout: Layout
    tenant: str


def request_erasures(settings: Settings, tenant: str, user_ids: Sequence[str]) -> dict[str, str]:
    """Record requests durably, in one commit; returns each user's request.

    Raises:
        InvalidArgument: nobody is named, or a name is empty.
        DependencyUnavailable: the store took no rows.
    """
    users = list(dict.fromkeys(user_ids))
    if not users or not all(users):
        raise InvalidArgument("user_id", "name at least one user, none of them empty")
    layout = Layout(settings.data_dir, settings.bucket_count)
    requests = {user: uuid.uuid4().hex for user in users}
    rows = pl.DataFrame({ERASURE_ID: list(requests.values()), USER_ID: users})
    InboxWriter(layout, "operator", tenant).append("erasures", rows)
    return requests


def erase_requested(
    tables: EventTables,
    features: FeatureWriter,
    models: ModelRegistry,
    overlays: Overlays,
    settings: Settings,
    tenant: str = DEFAULT_TENANT,
) -> int:
    """Carry out every request that preprocess took in; return how many users were erased.

    A model that learned from the user cannot unlearn: its card names the request as predated.
    Safe to repeat and to run twice at once: a request is forgotten only after every table and view
    is rid of the user. Receipts that are pending are looked at again.

    Raises:
        DependencyUnavailable: a store does not answer; the requests stay pending.
    """
    layout = Layout(settings.data_dir, settings.bucket_count)
    stores = _Stores(
        tables=tables, features=features, models=models, overlays=overlays, layout=layout,
        tenant=tenant,
    )  # fmt: skip
    with tables.job_lock(tenant, _LOCK):
        pending = pending_erasures(tables, tenant)
        made = _carry_out(stores, pending) if pending else []
        _settle(stores, made)
        if pending:  # only now: a pass that was cut is made again, and its counts are added up
            finish_erasures(tables, tenant, [erasure.erasure_id for erasure in pending])
    return len({erasure.user_id for erasure in pending})


def _carry_out(stores: _Stores, pending: list[Erasure]) -> list[Receipt]:
    """Remove rows everywhere; returns receipts on which every place is pending."""
    tables, tenant = stores.tables, stores.tenant
    known = with_salt(tables, tenant)
    until = {erasure.user_id: erasure.requested_time for erasure in pending}  # oldest first
    models = _note_in_cards(stores, pending, until)
    removed: dict[str, Counter[str]] = {place: Counter() for place in PLACES}
    by_bucket: dict[int, list[str]] = {}
    for user in sorted(until):
        by_bucket.setdefault(bucket_of(user, stores.layout.bucket_count), []).append(user)
    # Who publishes has read users before: they take turns.
    with tables.alone(tenant):
        for bucket, users in sorted(by_bucket.items()):
            theirs = {user: until[user] for user in users}
            removed["events"].update(tables.erase_events(tenant, bucket, theirs))
            _count(removed, stores.features.erase_everywhere(tenant, bucket, users))
    _count(removed, tables.erase_rest(tenant, until))
    removed["corrections"].update(stores.overlays.erase(tenant, list(until)))
    return _receipts(stores, pending, known, removed, models)


def _count(removed: dict[str, Counter[str]], places: dict[str, Removed]) -> None:
    for place, users in places.items():
        removed[place].update(users)


def _receipts(
    stores: _Stores,
    pending: list[Erasure],
    known: Tombstones,
    removed: dict[str, Counter[str]],
    models: dict[str, list[str]],
) -> list[Receipt]:
    """Return a receipt of each request; every place is pending until it is looked at."""
    now = stores.tables.tick()
    before = Receipts(stores.layout).get(stores.tenant, [e.erasure_id for e in pending])
    receipts = []
    for erasure in pending:
        receipt = Receipt(
            erasure_id=erasure.erasure_id,
            subject=known.digest(erasure.user_id),
            requested_time=erasure.requested_time,
            removed_time=now,
            places=tuple(
                ErasedPlace(name=place, removed=removed[place][erasure.user_id], pending=_NOT_YET)
                for place in PLACES
            ),
            predated_models=tuple(models.get(erasure.erasure_id, ())),
        )
        held = before.get(erasure.erasure_id)
        receipts.append(added(held.receipt, receipt) if held else receipt)
    return receipts


def _settle(stores: _Stores, made: list[Receipt]) -> None:
    """Look after the bytes of what was removed, and write receipts: new ones, and those that wait."""
    receipts = Receipts(stores.layout)
    new_ids = {receipt.erasure_id for receipt in made}
    waiting = [
        signed.receipt
        for signed in receipts.list(stores.tenant, is_pending=True)
        if signed.receipt.erasure_id not in new_ids
    ] + made
    if not waiting:
        return
    since = max(receipt.removed_time for receipt in waiting)
    tenant = stores.tenant
    left: Left = {
        **stores.tables.scrub(tenant, since),
        **stores.features.scrub(tenant, since),
        **stores.overlays.scrub(tenant, since),
        **_training(stores, waiting),
    }
    backups = backup_registry.live(stores.layout, wall_clock())
    after = []
    for receipt in waiting:
        holding = [one for one in backups if one.created_time <= receipt.removed_time]
        theirs: Left = dict(left)
        if holding:
            last = max(one.expires_time for one in holding)
            theirs[BACKUPS] = (f"{len(holding)} made before the rows were removed", last)
        after.append(settled(receipt, theirs, stores.tables.tick()))
    changed = [
        new
        for new, old in zip(after, waiting, strict=True)
        if new != old or new.erasure_id in new_ids
    ]
    receipts.put(tenant, changed)


def _training(stores: _Stores, waiting: list[Receipt]) -> Left:
    """Remove what a killed training left, where someone it may have learned from was erased."""
    since = max(receipt.removed_time for receipt in waiting)
    learned = any(
        place.name == "events" and place.removed for receipt in waiting for place in receipt.places
    )
    why = training_states.forget(stores.layout, stores.tenant, since) if learned else ""
    return {TRAINING: (why, None)} if why else {}


def _note_in_cards(
    stores: _Stores, pending: list[Erasure], until: dict[str, datetime]
) -> dict[str, list[str]]:
    """Name requests in the card of every model that saw an event of their user; returns which."""
    events = stores.tables.user_events(stores.tenant, list(until))
    events = events.filter(covered(events, until))
    models: dict[str, list[str]] = {}
    for model in stores.models.list(stores.tenant):
        seen = events.filter(
            (pl.col(EVENT_TIME) < model.trained_until) & (pl.col(INGEST_TIME) <= model.trained_time)
        )
        users = set(seen[USER_ID].unique())
        theirs = [erasure for erasure in pending if erasure.user_id in users]
        if theirs:
            folder = Path(stores.models.folder(stores.tenant, model.model_version))
            note_predated(folder, *(erasure.erasure_id for erasure in theirs))
        for erasure in theirs:
            models.setdefault(erasure.erasure_id, []).append(model.model_version)
    return models
