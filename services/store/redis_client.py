"""redis-py's own client, as those who write use it: one try, in a time after which a server is dead.

Whoever called tries again (the pipeline's calls, the follower), and is told meanwhile what is wrong.
"""

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# Longest wait for a connection and for one answer, to as much as a chunk of rows.
TIMEOUT_S = 20.0


def open_client(redis_url: str, **more: Any) -> redis.Redis:
    """Return a client; it connects at its first command."""
    return redis.Redis.from_url(
        redis_url, socket_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0), **more
    )
