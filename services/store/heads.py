"""Heads beside a tuned backbone: FOLDER/heads/NAME.safetensors, each with its JSON. No pickle.

In a folder of their own: a backbone is known by the hash of the safetensors of its own folder, and
a head moves no vector.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import load, save

from services.core.errors import InvalidArgument
from services.core.heads import LabelHead, Projection, ValueHead

HEADS_DIR = "heads"

Head = LabelHead | ValueHead | Projection
_H = TypeVar("_H", LabelHead, ValueHead, Projection)
NAMES: dict[type[Head], str] = {
    LabelHead: "classification",
    ValueHead: "regression",
    Projection: "contrastive",
}


def save_head(folder: Path, head: Head) -> None:
    """Write a head into a backbone's folder; an older one of its kind there is replaced."""
    weights = _weights(folder, type(head))
    weights.parent.mkdir(parents=True, exist_ok=True)
    values = {field.name: getattr(head, field.name) for field in fields(head)}
    arrays = {
        name: np.ascontiguousarray(value, np.float32)
        for name, value in sorted(values.items())
        if isinstance(value, np.ndarray)
    }
    constants = {name: value for name, value in values.items() if name not in arrays}
    weights.write_bytes(save(arrays))
    weights.with_suffix(".json").write_text(json.dumps(constants, indent=1) + "\n")


def load_head(folder: Path, kind: type[_H]) -> _H | None:
    """Read a head of a kind from a backbone's folder; None where it has none.

    Raises:
        InvalidArgument: the files are not whole.
    """
    weights = _weights(folder, kind)
    if not weights.is_file():
        return None
    try:
        constants = json.loads(weights.with_suffix(".json").read_text())
        # JSON has no tuples.
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in constants.items()
        }
        return kind(**values, **load(weights.read_bytes()))
    except Exception as error:  # safetensors raises its own kind
        raise InvalidArgument(
            "backbone", f"the {NAMES[kind]} head of {folder} is not whole; tune again"
        ) from error


def _weights(folder: Path, kind: type[Head]) -> Path:
    return folder / HEADS_DIR / f"{NAMES[kind]}.safetensors"
