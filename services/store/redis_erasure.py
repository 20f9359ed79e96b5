"""Erasure in Redis: keys at once, and the dump and the log of commands that still hold them.

What a server has written to its disk stays there until it writes anew: `scrub` asks for that, and
tells where the server does not let us.
"""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import redis
import redis.exceptions

from services.core.errors import DependencyUnavailable

_TIMEOUT_S = 60.0
# Longest wait for one rewrite; then the receipt says so, and the next look goes on.
_REWRITE_S = 20.0
_LOOK_S = 0.05
# Keys deleted in one packet.
_CHUNK = 1000


def delete_hashes(redis_url: str, keys: Sequence[bytes]) -> list[int]:
    """Delete hashes; returns how many fields each had. Raises what redis-py raises."""
    counts: list[int] = []
    with redis.Redis.from_url(redis_url, socket_timeout=_TIMEOUT_S) as client:
        for start in range(0, len(keys), _CHUNK):
            pipe = client.pipeline(transaction=False)
            chunk = keys[start : start + _CHUNK]
            for key in chunk:
                pipe.hlen(key)
            pipe.delete(*chunk)
            counts += [int(count) for count in pipe.execute()[: len(chunk)]]
    return counts


def scrub(redis_url: str, since: datetime) -> str:
    """Have the server write its files anew; returns why old bytes may still be there, or "".

    Args:
        redis_url: of the server.
        since: when keys were deleted.

    Raises:
        DependencyUnavailable: the server does not answer.
    """
    try:
        with redis.Redis.from_url(redis_url, socket_timeout=_TIMEOUT_S) as client:
            return _scrub(client, since)
    except redis.exceptions.ResponseError as error:
        return f"the server does not let us write its dump anew ({str(error)[:80]})"
    except (redis.exceptions.RedisError, OSError) as error:
        raise DependencyUnavailable("Redis", f"did not answer ({error})") from error


def _scrub(client: Any, since: datetime) -> str:
    info = client.info("persistence")
    if info.get("aof_enabled"):
        if not info["aof_rewrite_in_progress"]:
            client.bgrewriteaof()
        if not _waited(client, ("aof_rewrite_in_progress", "aof_rewrite_scheduled")):
            return "the server writes its log of commands anew"
        if client.info("persistence").get("aof_last_bgrewrite_status") != "ok":
            return "the server could not write its log of commands anew"
    if not _has_dump(client, info):
        return ""
    if info["rdb_last_save_time"] <= since.timestamp():
        if not info["rdb_bgsave_in_progress"]:
            client.bgsave()
        if not _waited(client, ("rdb_bgsave_in_progress",)):
            return "the server writes its dump anew"
    after = client.info("persistence")
    is_new = after["rdb_last_save_time"] >= int(since.timestamp())
    if is_new and after["rdb_last_bgsave_status"] == "ok":
        return ""
    return "the server could not write its dump anew"


def _has_dump(client: Any, info: dict[str, Any]) -> bool:
    """Tell whether the server keeps a dump, or has read or written one since it started; or may."""
    if info.get("rdb_saves") or info.get("rdb_last_load_keys_loaded"):
        return True
    try:
        return bool(client.config_get("save").get("save"))
    except redis.exceptions.ResponseError:  # a user who may not ask (k8s/base/redis-users)
        return True


def _waited(client: Any, names: tuple[str, ...]) -> bool:
    give_up = time.monotonic() + _REWRITE_S
    while time.monotonic() < give_up:
        info = client.info("persistence")
        if not any(info.get(name) for name in names):
            return True
        time.sleep(_LOOK_S)
    return False
