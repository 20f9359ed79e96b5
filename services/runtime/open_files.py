"""Connections and files share one limit of a process: connections must leave room for the store's files."""

import resource

# Files that the store, Redis and the log want at their busiest, with room to spare.
RESERVED = 512
# Where the system names no limit at all.
_MOST = 65_536


def raise_limit() -> int:
    """Raise this process's limit of open files as far as it may; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """Return how many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft


def connections_within(files: int, wanted: int) -> int:
    """Return how many connections fit: `wanted`, or fewer where only so many files may be open.

    Args:
        files: that may be open.
        wanted: connections; 0 is as many as fit.
    """
    # Half of a very low limit: something must be able to connect.
    room = max(files - RESERVED, files // 2)
    return min(wanted, room) if wanted else room
