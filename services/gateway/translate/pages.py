"""Page tokens of GetTrajectory: opaque to callers, checked when they come back."""

import base64
import binascii
import re

from services.core.errors import InvalidArgument
from services.core.schema import Granularity

# Ordinals of days reach some 3 million in year 9999.
_ORDINAL = re.compile(r"-?\d{1,7}", re.ASCII)


def trajectory_token(granularity: Granularity, before: int) -> str:
    """Return the token of the page of periods below an ordinal."""
    text = f"{granularity}.{before}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def before_from_token(token: str, granularity: Granularity) -> int | None:
    """Return the ordinal below which to go on; None where the token is empty.

    Raises:
        InvalidArgument: not a token of GetTrajectory with this granularity.
    """
    if not token:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _foreign() from None
    of, _, ordinal = text.partition(".")
    if of != granularity or not _ORDINAL.fullmatch(ordinal):
        raise _foreign()
    return int(ordinal)


def _foreign() -> InvalidArgument:
    return InvalidArgument("page_token", "is not from an earlier answer to this request")
