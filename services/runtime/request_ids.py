"""Ids of requests that came without one."""

import secrets
from collections.abc import Iterator

_HEX_DIGITS = 32
# Ids that the system is asked for at a time: to ask for each costs a read some 3%.
_DRAWN = 256


def request_ids() -> Iterator[str]:
    """Yield random ids for ever. Not safe between threads."""
    while True:
        drawn = secrets.token_hex(_DRAWN * _HEX_DIGITS // 2)
        for start in range(0, len(drawn), _HEX_DIGITS):
            yield drawn[start : start + _HEX_DIGITS]
