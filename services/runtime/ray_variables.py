"""Variables of a Ray cluster that is one process's own, on one machine. All of its processes inherit them."""

import secrets


def private_cluster() -> dict[str, str]:
    """Return Ray's own variables, and those by which its workers compute on one thread each, in UTC.

    Ray reads its token when it is imported: they must be set before.
    """
    return {
        # Decided, not left to the version: only who has this token may talk to the cluster.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "TZ": "UTC",
    }
