"""Reads Feast's Redis online store without Feast: one pipelined round trip a call."""

from functools import lru_cache
from typing import Any

import redis.asyncio as aioredis
import redis.exceptions

from services.core.errors import DependencyUnavailable
from services.core.views import view_named
from services.store.interest_reads import InterestReads, StoredRow
from services.store.wire import (
    decode_timestamp,
    decode_value,
    entity_key,
    redis_field,
    redis_key,
    redis_time_field,
)


class RedisInterestReader(InterestReads):
    """Keeps a pool of connections; belongs to one event loop.

    Redis has no tables: a view that was never applied looks like one without the user.
    """

    def __init__(self, redis_url: str, *, timeout_s: float = 2.0) -> None:
        self._client: Any = aioredis.Redis.from_url(
            redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )

    async def fetch(self, tenant: str, view: str, user_ids: list[str]) -> list[StoredRow | None]:
        """Return each user's row in the order asked."""
        spec = view_named(view)
        fields = _fields(view)
        keys = [redis_key(tenant, entity_key(spec.join_keys[0], id_)) for id_ in user_ids]
        try:
            if len(keys) == 1:
                found = [await self._client.hmget(keys[0], fields)]
            else:
                async with self._client.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.hmget(key, fields)
                    found = await pipe.execute()
        except (redis.exceptions.RedisError, OSError) as error:
            raise DependencyUnavailable("the Redis online store", f"failed ({error})") from error
        return [_row(tuple(spec.features), values) for values in found]

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()


@lru_cache(maxsize=256)
def _fields(view: str) -> list[bytes]:
    return [
        *(redis_field(view, name) for name in view_named(view).features),
        redis_time_field(view),
    ]


def _row(feature_names: tuple[str, ...], values: list[bytes | None]) -> StoredRow | None:
    *stored, time = values
    if time is None:
        return None
    features = {
        name: None if value is None else decode_value(value)
        for name, value in zip(feature_names, stored, strict=True)
    }
    return StoredRow(features, decode_timestamp(time))
