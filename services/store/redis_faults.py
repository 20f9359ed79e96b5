"""What Redis says when it cannot do its work, and what to do about it."""

from services.core.errors import DependencyUnavailable

# What a refusal holds -> what to do. Without the word that redis-py cuts off.
_REMEDIES = {
    "maxmemory": "raise its `maxmemory` or give it a larger machine; what was refused is tried again",
    "loading the dataset": "it reads its files after a start; try again with backoff",
    "MISCONF": "free or mend its disk; try again with backoff",
    "configured to save": "free or mend its disk; try again with backoff",
    "read only replica": "name the primary in DRIFTLINE_REDIS_URL",
    "NOAUTH": "give its password in DRIFTLINE_REDIS_URL",
    "WRONGPASS": "give its password in DRIFTLINE_REDIS_URL",
    "uthentication": "give its password in DRIFTLINE_REDIS_URL",
    "NOPERM": "allow the commands to the user that DRIFTLINE_REDIS_URL names",
}


def unavailable(what: str, error: Exception) -> DependencyUnavailable:
    """Return what to raise where a store on Redis failed; the message says what to do."""
    text = str(error) or type(error).__name__
    for sign, remedy in _REMEDIES.items():
        if sign in text:
            return DependencyUnavailable(what, f"failed ({text})", remedy)
    return DependencyUnavailable(what, f"failed ({text})")
