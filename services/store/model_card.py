"""What stands in a model folder beside the model: its card and learning curves.

card.json     core.card.ModelCard
README.md     the card, to read
curves.json   learning curves

Listed in model.json under their sha256 as the other files are, but no part of the model's version:
attach_metrics replaces them under readers, who then look again.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from services.core.card import ModelCard, card_from_json, card_to_json, evaluated, render_card
from services.core.errors import InvalidArgument, NotReady
from services.core.model import Model
from services.store.files import replacing
from services.store.model_files import MANIFEST, read_blob, read_manifest

CARD_FILE, README_FILE, CURVES_FILE = "card.json", "README.md", "curves.json"
# How often to look again at files that are being replaced, and how long to wait before it.
LOOKS, WAIT_S = 5, 0.05

T = TypeVar("T")


def card_files(model: Model) -> dict[str, bytes]:
    """Return the content of a model's card files; those that it has nothing for are left out."""
    files: dict[str, bytes] = {}
    if model.card is not None:
        files |= _of_card(model.card, model.model_version, model.space_id)
    if model.curves:
        files[CURVES_FILE] = _json(model.curves)
    return files


def load_card(folder: Path) -> ModelCard | None:
    """Read a model's card; None where the folder has none.

    Raises:
        NotReady: there is no model folder there.
        InvalidArgument: the card was altered.
    """
    content = settled(lambda: _read(folder, CARD_FILE))
    return None if content is None else card_from_json(json.loads(content))


def load_curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Read a model's learning curves; empty where the folder has none. Raises as load_card."""
    content = settled(lambda: _read(folder, CURVES_FILE))
    curves: dict[str, list[list[float]]] = {} if content is None else json.loads(content)
    return {name: [(x, y) for x, y in points] for name, points in curves.items()}


def attach_metrics(folder: Path, report: dict[str, Any]) -> ModelCard:
    """Write an evaluation's figures into a model's card; the version stays what it is.

    Args:
        folder: a model folder, in a registry or out of it. One call at a time.
        report: report.json of `driftline evaluate` about this model.

    Raises:
        NotReady: there is no model folder there, or it has no card.
        InvalidArgument: the report is about another model, or the card was altered.
    """
    version = read_manifest(folder)["model_version"]
    named = report.get("model", {}).get("model_version", version)
    if named != version:
        raise InvalidArgument("report", f"is about model {named}, the folder holds {version}")
    card = load_card(folder)
    if card is None:
        raise NotReady("model card", "train again: this model was made before there were cards")
    changed = replace(card, evaluation=evaluated(report))
    replace_card(folder, changed)
    return changed


def attach_comparison(folder: Path, comparison: dict[str, Any]) -> None:
    """Write a comparison with the live model into a model's card.

    Raises:
        NotReady: there is no model folder there, or it has no card.
    """
    card = load_card(folder)
    if card is None:
        raise NotReady("model card", "train again: this model was made before there were cards")
    replace_card(folder, replace(card, comparison=comparison))


def note_predated(folder: Path, *erasure_ids: str) -> None:
    """Say in a model's card that it had learned from users before their erasure was asked for.

    A model without a card, or whose card left the users out or says so already, stays as it is.
    """
    card = load_card(folder)
    if card is None:
        return
    said = {*card.erasures.left_out, *card.erasures.predated}
    new = tuple(name for name in dict.fromkeys(erasure_ids) if name not in said)
    if new:
        noted = replace(
            card.erasures,
            predated=(*card.erasures.predated, *new),
            noted_time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        replace_card(folder, replace(card, erasures=noted))


def replace_card(folder: Path, card: ModelCard) -> None:
    """Put another card in the place of a model's own. Raises NotReady as load_card."""
    manifest = read_manifest(folder)
    files = _of_card(card, manifest["model_version"], manifest["space_id"])
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    for name, content in files.items():
        _put(folder / name, content)
    # Last: until then a reader sees a hash that differs, and looks again.
    manifest["files"] |= hashes
    _put(folder / MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())


def settled(read: Callable[[], T]) -> T:
    """Read files that attach_metrics may be replacing: a hash that differs is looked at again."""
    for _ in range(LOOKS - 1):
        try:
            return read()
        except InvalidArgument:
            time.sleep(WAIT_S)
    return read()


def _of_card(card: ModelCard, version: str, space_id: str) -> dict[str, bytes]:
    text = render_card(card, model_version=version, space_id=space_id)
    return {CARD_FILE: _json(card_to_json(card)), README_FILE: text.encode()}


def _read(folder: Path, name: str) -> bytes | None:
    manifest = read_manifest(folder)
    return read_blob(folder, manifest, name) if name in manifest["files"] else None


def _put(path: Path, content: bytes) -> None:
    with replacing(path) as draft:
        draft.write_bytes(content)


def _json(values: object) -> bytes:
    return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()
