"""Heads beside a tuned backbone: FOLDER/heads/NAME.safetensors, each with its JSON. No pickle.

In a folder of their own: a backbone is known by the hash of the safetensors of its own folder, and
a head moves no vector.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from services.core.errors import InvalidArgument
from services.core.heads import LabelHead, Projection, ValueHead

HEADS_DIR = "heads"
CLASSIFICATION = "classification"
REGRESSION = "regression"
CONTRASTIVE = "contrastive"

Head = LabelHead | ValueHead | Projection


def save_head(folder: Path, head: Head) -> None:
    """Write a head into a backbone's folder; an older one of its kind there is replaced."""
    match head:
        case LabelHead():
            _write(
                folder, CLASSIFICATION, {"labels": list(head.labels)},
                {"weight_BC": head.weight_BC, "bias_C": head.bias_C},
            )  # fmt: skip
        case ValueHead():
            said = {"bias": head.bias, "centre": head.centre, "scale": head.scale}
            _write(folder, REGRESSION, said, {"weight_B": head.weight_B})
        case Projection():
            arrays = {"mean_B": head.mean_B, "projection_BD": head.projection_BD}
            _write(folder, CONTRASTIVE, {}, arrays)


def load_label_head(folder: Path) -> LabelHead | None:
    """Read the classification head of a backbone's folder; None where it has none.

    Raises:
        InvalidArgument: the files are not whole.
    """
    found = _read(folder, CLASSIFICATION)
    if found is None:
        return None
    said, arrays = found
    try:
        return LabelHead(labels=tuple(map(str, said["labels"])), **arrays)
    except (TypeError, KeyError) as error:
        raise _broken(folder, CLASSIFICATION) from error


def load_value_head(folder: Path) -> ValueHead | None:
    """Read the regression head of a backbone's folder. Returns and raises as load_label_head."""
    found = _read(folder, REGRESSION)
    if found is None:
        return None
    said, arrays = found
    try:
        return ValueHead(
            weight_B=arrays["weight_B"],
            bias=float(said["bias"]),
            centre=float(said["centre"]),
            scale=float(said["scale"]),
        )
    except (TypeError, KeyError, ValueError) as error:
        raise _broken(folder, REGRESSION) from error


def load_projection(folder: Path) -> Projection | None:
    """Read the contrastive head of a backbone's folder. Returns and raises as load_label_head."""
    found = _read(folder, CONTRASTIVE)
    if found is None:
        return None
    arrays = found[1]
    try:
        return Projection(mean_B=arrays["mean_B"], projection_BD=arrays["projection_BD"])
    except KeyError as error:
        raise _broken(folder, CONTRASTIVE) from error


def _write(folder: Path, name: str, said: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    inside = folder / HEADS_DIR
    inside.mkdir(parents=True, exist_ok=True)
    packed = {key: np.ascontiguousarray(arrays[key], np.float32) for key in sorted(arrays)}
    (inside / f"{name}.safetensors").write_bytes(save(packed))
    (inside / f"{name}.json").write_text(json.dumps(said, indent=1) + "\n")


def _read(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    weights = folder / HEADS_DIR / f"{name}.safetensors"
    if not weights.is_file():
        return None
    try:
        said = json.loads(weights.with_suffix(".json").read_text())
        arrays = dict(load(weights.read_bytes()))
    except Exception as error:  # safetensors raises its own kind
        raise _broken(folder, name) from error
    return said, arrays


def _broken(folder: Path, name: str) -> InvalidArgument:
    return InvalidArgument("backbone", f"the {name} head of {folder} is not whole; tune again")
