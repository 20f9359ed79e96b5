"""Page tokens: opaque to callers, checked when they come back."""

import base64
import binascii

from services.core.errors import InvalidArgument
from services.core.schema import Granularity

_FIELD = "page_token"
# Ordinals of days reach some 3 million in year 9999.
_MAX_ORDINAL = 10_000_000


def trajectory_token(granularity: Granularity, before: int) -> str:
    """Return the token of the page of periods below an ordinal."""
    return _opaque(f"{granularity}.{before}")


def before_from_token(token: str, granularity: Granularity) -> int | None:
    """Return the ordinal below which to go on; None where the token is empty.

    Raises:
        InvalidArgument: not a token of GetTrajectory with this granularity.
    """
    if not token:
        return None
    of, _, ordinal = _clear(token).partition(".")
    if of != granularity or not ordinal.lstrip("-").isdecimal() or not ordinal.isascii():
        raise _foreign()
    before = int(ordinal[:12])
    if abs(before) > _MAX_ORDINAL:
        raise _foreign()
    return before


def models_token(after: str) -> str:
    """Return the token of the page after a model."""
    return _opaque(after)


def model_from_token(token: str) -> str:
    """Return the model after which to go on; empty where the token is.

    Raises:
        InvalidArgument: not a token of ListModels.
    """
    return _clear(token) if token else ""


def _opaque(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _clear(token: str) -> str:
    try:
        padded = token + "=" * (-len(token) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _foreign() from None


def _foreign() -> InvalidArgument:
    return InvalidArgument(_FIELD, "is not from an earlier answer to this request")
