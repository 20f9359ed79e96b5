"""A temporary folder for Ray, which puts its sockets there."""

import tempfile
from pathlib import Path

# A socket's path has at most 107 bytes, and Ray adds most of them.
MAX_TEMP_PATH = 30


def short_temp_dir() -> Path:
    """Make a folder of a short path and a random name; the caller removes it."""
    folder = tempfile.gettempdir()
    root = folder if len(folder) < MAX_TEMP_PATH else "/tmp"  # nosec B108  # noqa: S108 - the name is random
    return Path(tempfile.mkdtemp(prefix="dl-", dir=root))
