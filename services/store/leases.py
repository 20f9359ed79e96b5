"""Leases: a long read holds one, and no erasure deletes files that it may still open by name.

ROOT/{tenant}/leases/{id}.json    what reads, since when, until when

A short read needs none: one that meets a deleted file looks again. A lease ends by itself, so that
a reader that died delays an erasure's bytes by its length at most.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.core.errors import DependencyUnavailable
from services.store.clock import clock_of
from services.store.layout import Layout, read_json, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Of one long read."""

    # Such as "backup".
    what: str
    since: datetime
    until: datetime


@contextmanager
def reading(layout: Layout, tenant: str, what: str, longest: timedelta) -> Iterator[None]:
    """Hold a lease; files that are live now stay on the disk until it ends.

    Args:
        layout: of the store.
        tenant: whose data.
        what: named on the receipt of an erasure that waits.
        longest: when it ends although the reader may not have.
    """
    now = clock_of(layout.root).tick()
    path = layout.leases_dir(tenant) / f"{uuid.uuid4().hex}.json"
    until = now + longest
    write_json(path, {"what": what, "since": now.isoformat(), "until": until.isoformat()})
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def leases(layout: Layout, tenant: str, now: datetime) -> list[Lease]:
    """Return the leases that hold, the last to end first; those that ended are removed."""
    held = []
    for path in layout.leases_dir(tenant).glob("*.json"):
        try:
            said = read_json(path)
            lease = Lease(
                what=str(said["what"]),
                since=datetime.fromisoformat(said["since"]),
                until=datetime.fromisoformat(said["until"]),
            )
        except (KeyError, ValueError, DependencyUnavailable):  # gone meanwhile, or no lease
            continue
        if lease.until > now:
            held.append(lease)
        else:
            with suppress(OSError):
                path.unlink()
    return sorted(held, key=lambda lease: lease.until, reverse=True)
