"""Reads a model folder's files, each checked against the hash that its manifest names."""

import hashlib
import json
from pathlib import Path
from typing import Any

from services.core.errors import InvalidArgument, NotReady

# Counts up where the content of a folder changes: 2 has known items and the nets of the ranker.
FORMAT = 4
MANIFEST = "model.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what model.json says.

    Raises:
        NotReady: there is no model folder there.
        InvalidArgument: it is of another format.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        raise NotReady("model", f"{folder} holds no {MANIFEST}; run `driftline train`") from None
    except ValueError:
        raise InvalidArgument(
            "model", f"{folder / MANIFEST} is not JSON; copy the folder again"
        ) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InvalidArgument("model", f"{folder} is of another format than {FORMAT}; train again")
    return manifest


def read_blob(folder: Path, manifest: dict[str, Any], name: str) -> bytes:
    """Return a file's content. Raises InvalidArgument where it is missing or was altered."""
    try:
        blob = (folder / name).read_bytes()
    except FileNotFoundError:
        raise InvalidArgument(
            "model", f"{folder / name} is missing; copy the folder again"
        ) from None
    if hashlib.sha256(blob).hexdigest() != manifest["files"].get(name):
        raise InvalidArgument(
            "model", f"{folder / name} is not the file that was saved; copy the folder again"
        )
    return blob
