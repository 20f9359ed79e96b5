"""Whether Redis still has the rows that it was given.

A server that comes back empty looks like one that never saw a user. A key beside the rows is set when
a tenant is first published, and again once everything was rebuilt; the data folder keeps that it was
set. Where the folder says so and the key is gone, rows are missing: nobody is then told that a user
has no history.
"""

from datetime import UTC, datetime

import redis

from services.core.errors import DependencyUnavailable
from services.store.layout import Layout, read_json, write_json
from services.store.redis_client import open_client
from services.store.redis_faults import unavailable

# Its field, for a hash is what every role may read and the publisher write.
SINCE = "since"
ONLINE = "the Redis online store"


def filled_key(tenant: str) -> str:
    """Return the key that a full store has."""
    return f"driftline:{tenant}:filled"


def was_filled(layout: Layout, tenant: str) -> bool:
    """Tell whether the store was ever given the tenant's rows. Raises DependencyUnavailable: a damaged file."""
    return bool(read_json(layout.filled_file(tenant)))


def lost_rows() -> DependencyUnavailable:
    """Return what to raise where the key is gone."""
    return DependencyUnavailable(
        ONLINE, "has lost its rows (it came back empty)", "run `driftline rebuild-online`"
    )


def mark_filled(redis_url: str, layout: Layout, tenant: str) -> None:
    """Say that the store has every row of a tenant. Raises DependencyUnavailable."""
    now = datetime.now(UTC).isoformat()
    with open_client(redis_url) as client:
        try:
            client.hset(filled_key(tenant), SINCE, now)
        except (redis.RedisError, OSError) as error:
            raise unavailable(ONLINE, error) from error
    # Last: cut before it, the next publisher begins anew.
    if not was_filled(layout, tenant):
        write_json(layout.filled_file(tenant), {"first_filled_time": now})


def expect_rebuild(redis_url: str, layout: Layout, tenant: str) -> None:
    """Say that rows are missing until everything was rebuilt. Raises DependencyUnavailable."""
    if not was_filled(layout, tenant):
        now = datetime.now(UTC).isoformat()
        write_json(layout.filled_file(tenant), {"first_filled_time": now})
    with open_client(redis_url) as client:
        try:
            client.delete(filled_key(tenant))
        except (redis.RedisError, OSError) as error:
            raise unavailable(ONLINE, error) from error
