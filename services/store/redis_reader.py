"""Reads Feast's Redis online store without Feast: one round trip a call, on one shared connection."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from services.core.packed import PackedInterest
from services.core.schema import Granularity, history_view, interest_view
from services.core.views import view_named
from services.store import filled, packed_rows
from services.store.interest_reads import InterestReads, StoredRow
from services.store.layout import Layout
from services.store.redis_faults import unavailable
from services.store.redis_link import RedisLink, RedisLinkError, packed, part
from services.store.wire import (
    decode_timestamp,
    decode_value,
    entity_key,
    redis_field,
    redis_key,
    redis_time_field,
)


class RedisInterestReader(InterestReads):
    """Keeps one connection; belongs to one event loop.

    Redis has no tables: a view that was never applied looks like one without the user.
    """

    def __init__(
        self, redis_url: str, *, timeout_s: float = 2.0, published: Layout | None = None
    ) -> None:
        """Open nothing yet.

        Args:
            redis_url: of the server.
            timeout_s: the longest a read may take.
            published: where it is kept that the store was filled: a row that is not there is then
                an error where the store has lost its rows. None: it is None, for those who mend.
        """
        self._link = RedisLink(redis_url, timeout_s=timeout_s)
        self._published = published

    async def fetch(self, tenant: str, view: str, user_ids: list[str]) -> list[StoredRow | None]:
        """Return each user's row in the order asked."""
        plan = _plan(view, tuple(view_named(view).features))
        return [_row(plan.features, row) for row in await self._values(tenant, plan, user_ids)]

    async def packed_interests(
        self, tenant: str, space_id: str, user_ids: list[str], granularity: Granularity
    ) -> list[PackedInterest | None]:
        """Return the newest vectors, in the order asked."""
        plan = _plan(interest_view(granularity, space_id), packed_rows.INTEREST)
        found = await self._values(tenant, plan, user_ids)
        return [packed_rows.interest_packed(row, granularity, space_id) for row in found]

    async def packed_history(
        self, tenant: str, space_id: str, user_id: str, granularity: Granularity
    ) -> list[PackedInterest]:
        """Return the vectors that are kept online, oldest first."""
        plan = _plan(history_view(granularity, space_id), packed_rows.HISTORY)
        (row,) = await self._values(tenant, plan, [user_id])
        return packed_rows.history_packed(row, granularity, space_id)

    async def check(self, tenant: str) -> None:
        """Ask whether the store answers and has a tenant's rows."""
        (sign,) = await self._call([_sign_asked(tenant)])
        self._refuse_lost(tenant, sign)

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()

    async def _values(
        self, tenant: str, plan: "_Plan", user_ids: list[str]
    ) -> list[list[bytes | None]]:
        """Return what is stored of each user: the plan's features and the row's time."""
        commands = [
            plan.head + part(redis_key(tenant, entity_key(plan.join_key, id_))) + plan.fields
            for id_ in user_ids
        ]
        if self._published is None:
            return await self._call(commands)
        # First: whoever rebuilds sets the sign when the last row is there.
        sign, *found = await self._call([_sign_asked(tenant), *commands])
        if any(values[-1] is None for values in found):
            self._refuse_lost(tenant, sign)
        return found

    def _refuse_lost(self, tenant: str, sign: list[bytes | None]) -> None:
        if sign[0] is None and self._published and filled.was_filled(self._published, tenant):
            raise filled.lost_rows()

    async def _call(self, commands: list[bytes]) -> list[Any]:
        try:
            return await self._link.call(b"".join(commands), len(commands))
        except RedisLinkError as error:
            raise unavailable(filled.ONLINE, error) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What the HMGET of some features of a view is made of, but for the key."""

    join_key: str
    features: tuple[str, ...]
    head: bytes
    fields: bytes


@lru_cache(maxsize=4096)
def _sign_asked(tenant: str) -> bytes:
    return packed("HMGET", filled.filled_key(tenant), filled.SINCE)


@lru_cache(maxsize=256)
def _plan(view: str, features: tuple[str, ...]) -> _Plan:
    names = [*(redis_field(view, name) for name in features), redis_time_field(view)]
    return _Plan(
        join_key=view_named(view).join_keys[0],
        features=features,
        head=b"*%d\r\n%b" % (2 + len(names), part(b"HMGET")),
        fields=b"".join(part(name) for name in names),
    )


def _row(feature_names: tuple[str, ...], values: list[bytes | None]) -> StoredRow | None:
    time = values[-1]
    if time is None:
        return None
    features = {
        name: None if value is None else decode_value(value)
        for name, value in zip(feature_names, values, strict=False)
    }
    return StoredRow(features, decode_timestamp(time))
