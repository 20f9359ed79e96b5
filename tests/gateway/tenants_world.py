"""Three tenants on one data folder and one Redis, behind one gateway: equal ids in all, and ids of each alone."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import polars as pl
import redis

from services.core.access import Scope
from services.core.activity import NO_ACTIVITY
from services.core.corrections import Correction, Wish
from services.core.demand import ACTIVITY_COHORTS, Cells, ReleaseTerms
from services.core.demand_release import Release, make_release
from services.core.periods import period_from_name
from services.core.schema import DEFAULT_TENANT, Granularity
from services.core.views import view_named
from services.gateway.tenants import Tenants
from services.runtime.metrics import Metrics
from services.runtime.server import serving
from services.runtime.settings import Settings
from services.store import offline_parts
from services.store.api_keys import KeyFile
from services.store.demand_files import FolderDemand
from services.store.frames import conform
from services.store.layout import Layout
from services.store.memory_features import MemoryFeatures
from services.store.overlays import RedisOverlays
from services.store.redis_writer import write_rows
from tests.gateway import world
from tests.gateway.process import publish

TENANTS = (DEFAULT_TENANT, "acme", "birch")
# As long as the ids of a tenant, so that answers are as long.
GHOST = "ghost"
BUCKETS = 2


def label(tenant: str) -> str:
    """Return five letters that stand for a tenant in its ids."""
    return f"{tenant}_____"[:5]


def mark(tenant: str) -> str:
    """Return what no answer to another tenant may hold."""
    return f"MARK-{label(tenant)}"


class StoredFeatures(MemoryFeatures):
    """Writes to Redis and Parquet what tests put, as the encoder does."""

    def __init__(self, layout: Layout, redis_url: str) -> None:
        super().__init__(layout.bucket_count)
        self._layout, self._url = layout, redis_url

    def write_online(self, tenant: str, view: str, rows: pl.DataFrame) -> None:
        super().write_online(tenant, view, rows)
        spec = view_named(view)
        write_rows(self._url, tenant, spec, conform(spec, rows))

    def append_offline(
        self, tenant: str, view: str, bucket: int, part: str, rows: pl.DataFrame
    ) -> None:
        super().append_offline(tenant, view, bucket, part, rows)
        offline_parts.declare(self._layout, tenant, view.rpartition("__")[2])
        offline_parts.append(self._layout, tenant, view_named(view), bucket, part, rows)


@dataclass(frozen=True)
class Stored:
    """The stores, and a key of each tenant with every scope."""

    folder: Path
    redis_url: str
    keys: dict[str, str]

    def settings(self, **changes: Any) -> Settings:
        given = {
            "data_dir": self.folder, "bucket_count": BUCKETS, "port": 0, "metrics_port": 0,
            "online_store": "redis", "redis_url": self.redis_url, "now": world.NOW,
            "auth": "required", "key_calls_per_s": 0.0,
        }  # fmt: skip
        return Settings(**(given | changes))

    def snapshot(self, tenant: str) -> dict[str, str]:
        """Return a hash of each file and of each Redis key of a tenant."""
        files = {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((self.folder / tenant).rglob("*"))
            if path.is_file() and path.suffix not in {".db-wal", ".db-shm", ".lock"}
        }
        with redis.Redis.from_url(self.redis_url) as client:
            for key in sorted(client.scan_iter()):
                if tenant.encode() in key:
                    files[repr(key)] = str(sorted(client.hgetall(key).items()))
        return files


async def fill(folder: Path, redis_url: str) -> Stored:
    """Put three tenants into a folder and a Redis."""
    layout, keys = Layout(folder, BUCKETS), {}
    features, overlays = StoredFeatures(layout, redis_url), RedisOverlays(redis_url)
    for number, tenant in enumerate(TENANTS):
        items = {
            f"item-{label(tenant)}": (mark(tenant), ("food", mark(tenant)), (1.0, 0.0)),
            "item-common": (mark(tenant), ("food",), (0.8, 0.6)),
        }
        made = world.catalogue(generation=f"g{number}", **items)
        space = publish(layout, made, world.ranker(), tenant, f"m{number}-{label(tenant)}")
        for user in (f"user-{label(tenant)}", "user-common"):
            vectors = [
                world.vector(
                    f"2026-W{week}", event_count=10 * number + week, model_version=mark(tenant)
                )
                for week in (45, 46, 47)
            ]
            features.put_interest(user, *vectors, space_id=space, tenant=tenant)
            features.put_forecast(user, world.forecast("2026-W47"), space_id=space, tenant=tenant)
            state = world.rank_state(f"item-{label(tenant)}")
            stamps = {"computed_time": world.NOW - timedelta(hours=number + 1)}
            features.put_rank_state(user, state, space_id=space, tenant=tenant, **stamps)
            profile = world.profile(labels=(mark(tenant), "home", "drinks"))
            features.put_profile(user, profile, space_id=space, tenant=tenant, **stamps)
            features.put_activity(user, NO_ACTIVITY, space_id=space, tenant=tenant, **stamps)
            wish = Correction(topic_id=mark(tenant), wish=Wish.MORE, made_time=world.NOW)
            await overlays.put(tenant, user, wish)
        _publish_demand(layout, tenant, space, number)
        made_key = KeyFile(folder / "keys.json").create(
            tenant=tenant, scopes=frozenset(Scope), name=tenant, now=world.NOW
        )
        keys[tenant] = made_key.secret
    await overlays.close()
    return Stored(folder, redis_url, keys)


def _publish_demand(layout: Layout, tenant: str, space: str, number: int) -> None:
    """Publish the demand for a topic that the tenant alone has."""
    many = np.full((len(ACTIVITY_COHORTS), 1, 12), 100 * (number + 1))
    cells = Cells(
        cohorts=ACTIVITY_COHORTS, topic_ids=(mark(tenant),), audience_CTP=many, volume_CTP=many,
        first=period_from_name(Granularity.WEEK, "2026-W36").ordinal, size_CP=many[:, 0],
    )  # fmt: skip

    def make(secret: bytes, former: Release | None) -> Release:
        return make_release(
            cells, former, ReleaseTerms(), secret=secret, space_id=space, now=world.NOW
        )

    FolderDemand(layout).update(tenant, space, ReleaseTerms().name, make)


@asynccontextmanager
async def served(stored: Stored, **settings: Any) -> AsyncIterator[grpc.aio.Channel]:
    """Run a gateway for all tenants; yields a channel without a credential."""
    chosen = stored.settings(**settings)
    tenants = Tenants(chosen, Layout(stored.folder, BUCKETS))
    try:
        services = await tenants.open(DEFAULT_TENANT)
        async with (
            serving(chosen, services, Metrics(), tenants.register) as where,
            grpc.aio.insecure_channel(f"127.0.0.1:{where.port}") as channel,
        ):
            yield channel
    finally:
        await tenants.close()
