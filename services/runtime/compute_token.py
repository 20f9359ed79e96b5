"""The token by which encoder and forecaster know the pipeline: their replicas listen where others can connect.

Ray Serve's gRPC has neither TLS nor interceptors, and its replicas take no address to listen on.
"""

import hmac
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from services.core.errors import Unauthenticated
from services.runtime.settings import Settings
from services.store.files import replace_file

AUTHORIZATION_KEY = "authorization"
_FILE = ".compute.token"


def keep_token(data_dir: Path, token: str) -> None:
    """Leave the token of a cluster on this machine for commands that run beside it, for the owner's eyes only."""
    replace_file(data_dir / _FILE, token.encode(), mode=0o600)


def held_token(settings: Settings) -> str:
    """Return the token to show: what the settings say, else what a cluster on this machine left; else nothing."""
    if settings.compute_token:
        return settings.compute_token
    with suppress(OSError):
        return (settings.data_dir / _FILE).read_text().strip()
    return ""


def call_metadata(application: str, token: str) -> tuple[tuple[str, str], ...]:
    """Return what goes along with a call: which application is meant, and the token."""
    asked = (("application", application),)
    return (*asked, (AUTHORIZATION_KEY, f"Bearer {token}")) if token else asked


def check_token(wanted: str, metadata: Sequence[tuple[str, str]]) -> None:
    """Let a call pass that brings the token; any call where none is wanted.

    Raises:
        Unauthenticated: it brings none, or another.
    """
    if not wanted:
        return
    shown = [str(value) for key, value in metadata if key == AUTHORIZATION_KEY]
    expected = f"Bearer {wanted}".encode()
    if len(shown) != 1 or not hmac.compare_digest(shown[0].encode(), expected):
        raise Unauthenticated("not the token of this cluster (DRIFTLINE_COMPUTE_TOKEN)")
